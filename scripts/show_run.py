"""Print a run's tags and a table of its metrics, from the store that MLflow is set to.

python scripts/show_run.py [RUN_ID]
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import mlflow
from mlflow import MlflowClient

from mlflow_sysmetrics.catalog import PREFIX, metric_of
from mlflow_sysmetrics.cli.tables import text_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow.entities import Run

_LONGEST = 80
_HEADER = ("metric", "unit", "last", "mean", "peak", "points")


def latest_run() -> Run | None:
    """The run of the store that was started last; None where there is none."""
    runs = mlflow.search_runs(
        search_all_experiments=True,
        order_by=["attributes.start_time DESC"],
        max_results=1,
        output_format="list",
    )
    return runs[0] if runs else None


def show(run: Run) -> None:
    """Print a run's tags and metrics, those that MLflow keeps for itself left out."""
    print(f"Run {run.info.run_name}, {run.info.run_id}, in {mlflow.get_tracking_uri()}\n")
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    print(tags_table(tags) or "no tags")
    print()
    print(metrics_table(run) if run.data.metrics else "no metrics")


def tags_table(tags: Mapping[str, str]) -> str:
    """One line a tag, in alphabetical order; what is longer than a line is cut."""
    width = max(map(len, tags), default=0)
    return "\n".join(f"{key:{width}}  {_cut(tags[key])}" for key in sorted(tags))


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"


def metrics_table(run: Run) -> str:
    """One line a metric: its last value, mean, peak, and number of points."""
    client = MlflowClient()
    rows = []
    for key in sorted(run.data.metrics):
        values = [point.value for point in client.get_metric_history(run.info.run_id, key)]
        figures = (run.data.metrics[key], sum(values) / len(values), max(values))
        rows.append((key, unit_of(key), *(f"{value:,.2f}" for value in figures), str(len(values))))
    return text_table([_HEADER, *rows], figures=range(2, len(_HEADER)))


def unit_of(key: str) -> str:
    """The unit of a system metric; empty for one that a training script logged."""
    try:
        return metric_of(key.removeprefix(PREFIX)).unit
    except KeyError:
        return ""


def main() -> int:
    """Show the run that is asked for; exit status 1 if the plugin left nothing on it."""
    parser = argparse.ArgumentParser(description="Print a run's tags and metrics.")
    parser.add_argument("run_id", nargs="?", help="by default the latest run of the store")
    run_id = parser.parse_args().run_id
    run = MlflowClient().get_run(run_id) if run_id else latest_run()
    if run is None:
        print(f"There is no run in {mlflow.get_tracking_uri()}", file=sys.stderr)
        return 1
    show(run)
    missing = missing_parts(run)
    for part in missing:
        print(f"\nThe run has no {part}.", file=sys.stderr)
    return 1 if missing else 0


def missing_parts(run: Run) -> list[str]:
    """Which of the two kinds of things that the plugin adds the run has none of."""
    parts = []
    if not any(key.startswith("sys.") for key in run.data.tags):
        parts.append("host tags")
    if not any(key.startswith(PREFIX) for key in run.data.metrics):
        parts.append("system metrics")
    return parts


if __name__ == "__main__":
    sys.exit(main())
