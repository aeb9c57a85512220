"""A rank of a job whose rank 0 opens several runs; led as `rank.py` is, by further files.

Files: `next` ends the first run, so that the second opens; `nested` opens a run within that one.
"""

from __future__ import annotations

import mlflow
from rank import own_rank, work


def main() -> None:
    """Train."""
    rank = own_rank()
    if rank == 0:
        with mlflow.start_run(run_name="first"):
            work(rank, until="next")
        with mlflow.start_run(run_name="second"):
            work(rank, until="nested")
            with mlflow.start_run(run_name="nested", nested=True):
                work(rank)
    else:
        work(rank)


if __name__ == "__main__":
    main()
