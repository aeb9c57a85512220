"""The command `report`: what there is to say of a run, for a person or a program."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import click
from mlflow.tracking import MlflowClient

from mlflow_sysmetrics.delivery.run_store import RunNotFound, StoreAnswer
from mlflow_sysmetrics.delivery.tracking import calling_mlflow
from mlflow_sysmetrics.insight.report.making import NoSystemMetrics, make_report
from mlflow_sysmetrics.insight.report.reading import read_run
from mlflow_sysmetrics.insight.report.text import styled
from mlflow_sysmetrics.log.addresses import shown_address

if TYPE_CHECKING:
    from mlflow_sysmetrics.insight.report.model import RunReport
    from mlflow_sysmetrics.settings import Settings

_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_FEW_RETRIES = "1"
"""A person waits: by default MLflow goes on for minutes where a server is away."""


class Reporter:
    """Reports on runs of one store.

    Args:
        tracking_uri: The store.
        settings: Which findings are left out.
    """

    def __init__(self, tracking_uri: str, settings: Settings) -> None:
        os.environ.setdefault(_RETRIES, _FEW_RETRIES)
        self._tracking_uri = tracking_uri
        self._settings = settings

    def of_run(self, run_id: str) -> RunReport:
        """The report on a run.

        Raises:
            ClickException: There is no such run, it has no system metrics, or the store fails.
        """
        try:
            with calling_mlflow(self._tracking_uri):
                client = MlflowClient(self._tracking_uri)
                found = read_run(client, run_id)
            return make_report(*found, self._settings)
        except RunNotFound:
            raise click.ClickException(
                f"there is no run {run_id!r} in {shown_address(self._tracking_uri)}; "
                "--tracking-uri names another store"
            ) from None
        except StoreAnswer as reason:
            raise click.ClickException(
                f"the tracking store {shown_address(self._tracking_uri)} does not answer: {reason}"
            ) from None
        except NoSystemMetrics as reason:
            raise click.ClickException(f"run {run_id}: {reason}") from None


def print_text(report: RunReport) -> None:
    """Print it, in colours on a terminal."""
    click.echo(styled(report, shutil.get_terminal_size((100, 24)).columns), nl=False)


def print_json(report: RunReport) -> None:
    """Print it for a program."""
    click.echo(json.dumps(report.as_dict(), indent=2))
