"""A training by Ray Train on two workers, of which the first opens the run; led as `rank.py` is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

_HANDED_DOWN = ("MLFLOW_", "TOLD", "PYTHONPATH")


def train() -> None:
    """What a worker does."""
    import mlflow  # noqa: PLC0415 - in the worker, as users do it
    from rank import own_rank, work  # noqa: PLC0415 - as above

    if own_rank() == 0:
        with mlflow.start_run():
            work(0)
    else:
        work(own_rank())


def main() -> None:
    """Start Ray, train, end Ray."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(_HANDED_DOWN)}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": variables},
    )
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            train,
            scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(storage_path=str(Path(folder))),
        ).fit()
    ray.shutdown()


if __name__ == "__main__":
    main()
