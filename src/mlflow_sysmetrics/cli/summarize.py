"""The command `summarize`: summary and findings of runs that ended without them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mlflow_sysmetrics.catalog import PREFIX
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import ENDED
from mlflow_sysmetrics.delivery.tracking import active_workspace, open_store
from mlflow_sysmetrics.insight.node_tag import node_tags
from mlflow_sysmetrics.insight.stored import read_views
from mlflow_sysmetrics.insight.whole import RECOMPUTED, SUMMARY_TAG, answers_of, result_of
from mlflow_sysmetrics.log.addresses import shown_text
from mlflow_sysmetrics.sampling.sink import Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow.entities import Run

    from mlflow_sysmetrics.insight.whole import Answers, NodeResult
    from mlflow_sysmetrics.settings import Settings

_PAGE = 100
_SILENT_S = 600.0
"""A run that has logged nothing for this long has ended, whatever its status: who is killed sets
none."""

_FINAL = "final"
_SINCE = " since "


class Summarizer:
    """Makes up for what runs lack, in one store.

    Args:
        tracking_uri: The store.
        settings: Which values and findings are wanted.
        dry_run: Write nothing.

    Attributes:
        failures: How many runs could not be read or written.
    """

    def __init__(self, tracking_uri: str, settings: Settings, *, dry_run: bool) -> None:
        self.failures = 0
        self._tracking_uri = tracking_uri
        self._settings = settings
        self._dry_run = dry_run
        self._client = MlflowClient(tracking_uri)

    def named(self, run_ids: Sequence[str]) -> None:
        """Runs by their ids."""
        for run_id in run_ids:
            try:
                click.echo(f"{run_id}: {self._summarize(self._client.get_run(run_id))}")
            except Exception as error:  # noqa: BLE001 - the others are looked at all the same
                self._fail(run_id, error)

    def experiment(self, name: str) -> None:
        """All runs of an experiment, the oldest first.

        Raises:
            ClickException: There is no such experiment.
        """
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            raise click.ClickException(f"there is no experiment {name!r} in the tracking store")
        runs = [each for each in self._runs(experiment.experiment_id) if self._lacks(each) is None]
        said = []
        with click.progressbar(runs, label="Summarizing runs", show_pos=True) as progress:
            for run in progress:
                try:
                    said.append(f"{run.info.run_id}: {self._summarize(run)}")
                except Exception as error:  # noqa: BLE001 - as above
                    self._fail(run.info.run_id, error)
        for line in said:
            click.echo(line)
        if not runs:
            click.echo("Every run that has ended has its summary.")

    def _runs(self, experiment_id: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs(
                [experiment_id],
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _lacks(self, run: Run) -> str | None:
        """Why a run is left as it is; None where it lacks its summary."""
        state = run.data.tags.get(SUMMARY_TAG, "")
        if state.startswith((_FINAL, RECOMPUTED)) and _SINCE not in state:
            return f"has its summary ({state})"
        if run.info.status not in ENDED and time.time() - _latest_s(run) < _SILENT_S:
            return "has not ended"
        return None

    def _summarize(self, run: Run) -> str:
        if reason := self._lacks(run):
            return reason
        results = self._results(run)
        if not results:
            return "has no system metrics"
        found = answers_of(results, self._settings, RECOMPUTED)
        if not found.tags:
            return "has too few samples"
        if not self._dry_run:
            self._write(run, found)
        return _said(found, "would get" if self._dry_run else "got")

    def _results(self, run: Run) -> list[NodeResult]:
        """What each node did: as it said itself where it has said all, else by its metrics."""
        said = {
            each.result.node: each.result
            for each in node_tags(run.data.tags)
            if each.is_final and _SINCE not in each.state
        }
        views = read_views(self._client, run, frozenset(said))
        results = {**said, **{view.node: result_of(view, self._settings) for view in views}}
        return [results[node] for node in sorted(results, key=lambda each: each or "")]

    def _write(self, run: Run, found: Answers) -> None:
        address = RunAddress(run.info.run_id, self._tracking_uri, PREFIX, active_workspace())
        now_ms = round(time.time() * 1000)
        points = [Point(key, value, now_ms, 0) for key, value in found.summary.items()]
        open_store(address).log(points, found.tags)

    def _fail(self, run_id: str, error: Exception) -> None:
        self.failures += 1
        reason = error.message if isinstance(error, MlflowException) else repr(error)
        click.echo(f"{run_id}: {shown_text(reason, self._tracking_uri)}", err=True)


def _latest_s(run: Run) -> float:
    """When a run's latest metric was, or its start; seconds since the epoch."""
    metrics = run.data._metric_objs  # noqa: SLF001 - public accessors give no timestamps
    latest_ms = max((each.timestamp for each in metrics), default=run.info.start_time or 0)
    return float(latest_ms) / 1000


def _said(found: Answers, verb: str) -> str:
    said = f"{verb} {len(found.summary)} summary values"
    if found.judgement is None or not found.judgement.judged:
        return said
    findings = found.tags["sys.findings"]
    return f"{said}; findings: {findings}"
