"""Reads a run from its store and reports on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.insight.report.making import make_report
from mlflow_sysmetrics.insight.report.text import text_of
from mlflow_sysmetrics.insight.stored import read_histories
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run

    from mlflow_sysmetrics.insight.report.model import RunReport
    from mlflow_sysmetrics.insight.stored import History


def read_run(client: Any, run_id: str) -> tuple[Run, str, dict[str | None, dict[str, History]]]:  # noqa: ANN401 - MLflow has no types
    """A run, the name of its experiment, and its system metrics for each node.

    Args:
        client: MLflow's client of its store.
        run_id: The run.

    Raises:
        Exception: What the client raises.
    """
    run = client.get_run(run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    return run, experiment.name, read_histories(client, run)


class Report:
    """What there is to say of one run; a notebook shows it, and `print` prints it.

    Attributes:
        verdict: The result in a sentence or two.
    """

    def __init__(self, content: RunReport) -> None:
        self._content = content
        self.verdict = content.verdict

    def as_dict(self) -> dict[str, Any]:
        """What `mlflow-sysmetrics report --json` prints."""
        return self._content.as_dict()

    def __str__(self) -> str:
        return text_of(self._content)

    def __repr__(self) -> str:
        return f"<Report on run {self._content.run_id}: {self.verdict}>"


def report(run_id: str, tracking_uri: str | None = None) -> Report:
    """Report on a run of any tracking store, open or ended, with our metrics or MLflow's own.

    Args:
        run_id: The run.
        tracking_uri: The store that has it; by default the one that MLflow uses.

    Raises:
        MlflowException: There is no such run, or the store does not answer.
        ValueError: The run has no system metrics.
    """
    from mlflow import MlflowClient  # noqa: PLC0415 - slow

    return Report(make_report(*read_run(MlflowClient(tracking_uri), run_id), Settings.from_env()))
