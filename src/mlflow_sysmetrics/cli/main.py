"""The command `mlflow-sysmetrics`: what the plugin sees on this host, and whether it is on."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_sysmetrics.catalog import PREFIX, metric_of
from mlflow_sysmetrics.cli import diagnosis
from mlflow_sysmetrics.cli.tables import text_table
from mlflow_sysmetrics.facts import host_tags
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.window import Window
from mlflow_sysmetrics.settings import MAX_INTERVAL_S, MIN_INTERVAL_S, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlflow-sysmetrics")
def main() -> None:
    """Host facts and system metrics for MLflow runs.

    Switch the plugin on with MLFLOW_RUN_CONTEXT_PROVIDER=sysmetrics,sysmonitor.
    """


@main.command()
@_json_option
def doctor(*, as_json: bool) -> None:
    """Report what works here, what does not, and why.

    Exit status 1 if something that is switched on cannot work, or a setting is refused.
    """
    report = diagnosis.diagnose()
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text())
    if report.problems:
        raise SystemExit(1)


@main.command()
@_json_option
def tags(*, as_json: bool) -> None:
    """Print the host's tags as a run would get them."""
    found = host_tags()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(text_table(found.items()))


@main.command()
@_json_option
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds over which rates are taken.",
)
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
def metrics(*, as_json: bool, interval: float, watch: bool) -> None:
    """Sample this host once and print its metrics, with units and meaning.

    The metrics under process/ are those of this command itself.
    """
    with _open_window() as (window, collectors):
        while True:
            time.sleep(interval)
            window.add(collectors.collect())
            values = window.close()
            if as_json:
                click.echo(json.dumps({PREFIX + key: value for key, value in values.items()}))
            else:
                if watch:
                    click.clear()
                click.echo(_metrics_table(values))
            if not watch:
                return


@main.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: mlflow-sysmetrics watch -- ./train --epochs 3",
)
@click.option("--pid", type=click.IntRange(min=1), help="Follow a process that is already running.")
@click.option(
    "--run-id", help="The run to log to. By default that of MLFLOW_RUN_ID, or else a new one."
)
@click.option(
    "--interval",
    type=click.FloatRange(MIN_INTERVAL_S, MAX_INTERVAL_S),
    help="Seconds between two samples. By default that of "
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL, or else 10.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def watch(
    *, pid: int | None, run_id: str | None, interval: float | None, command: tuple[str, ...]
) -> None:
    """Monitor a command, or a running process, of any language, into an MLflow run.

    The metrics under process/ are those of the command and its children. The command finds the
    run in MLFLOW_RUN_ID. Its exit status is passed on, signals are forwarded to it, and the run's
    status follows it: FINISHED, FAILED, or KILLED by a signal.
    """
    if (pid is None) == (not command):
        raise click.UsageError("Give either --pid PID, or -- and a COMMAND to run.")
    from mlflow_sysmetrics.cli.watch import watch_command, watch_process  # noqa: PLC0415 - MLflow, slow

    settings = Settings.from_env().overridden(sampling_interval_s=interval)
    if pid is not None:
        watch_process(pid, run_id, settings)
    else:
        raise SystemExit(watch_command(command, run_id, settings))


@main.command()
@click.option("--run-id", "run_ids", multiple=True, help="Only this run; may be given repeatedly.")
@click.option("--list", "list_only", is_flag=True, help="List what is waiting, and send nothing.")
@click.option("--dry-run", is_flag=True, help="Ask the stores what they lack, and send nothing.")
@click.option(
    "--tracking-uri",
    help="Send what was left for this store. By default that of MLFLOW_TRACKING_URI.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Send only this file, even if another user wrote it; prints its owner first.",
)
def upload(
    *,
    run_ids: tuple[str, ...],
    list_only: bool,
    dry_run: bool,
    tracking_uri: str | None,
    file: Path | None,
) -> None:
    """Send the samples that earlier processes could not send.

    They are in the folder that MLFLOW_SYSMETRICS_SPOOL_DIR names. What a store already has is not
    stored twice. Only files that no other user can have written are sent, and only to the
    tracking URI in force; others are listed with the reason. The files contain tracking URIs
    without passwords: set MLFLOW_TRACKING_URI to the full one. Exit status 1 if something could
    not be sent.
    """
    if list_only and dry_run:
        raise click.UsageError("Give either --list or --dry-run.")
    from mlflow_sysmetrics.cli import upload as uploads  # noqa: PLC0415 - MLflow, slow

    settings = Settings.from_env()
    for problem in settings.problems:
        click.echo(problem, err=True)
    folder = settings.spool_folder
    if folder is None:
        raise click.ClickException("no home folder; MLFLOW_SYSMETRICS_SPOOL_DIR names another")
    chosen = uploads.selection(folder, tracking_uri, run_ids, file)
    if list_only:
        uploads.list_leftovers(chosen)
    elif not uploads.send_leftovers(chosen, dry_run=dry_run):
        raise SystemExit(1)


@main.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1)
@click.option("--experiment", metavar="NAME", help="All runs of this experiment.")
@click.option("--dry-run", is_flag=True, help="Say what runs would get, and write nothing.")
@click.option(
    "--tracking-uri", help="The store that has the runs. By default that of MLFLOW_TRACKING_URI."
)
def summarize(
    *, run_ids: tuple[str, ...], experiment: str | None, dry_run: bool, tracking_uri: str | None
) -> None:
    """Make the summary and the findings of ended runs that lack them.

    Such are runs that crashed or were killed, old ones, and those of MLflow's own monitor. They are
    made from the metrics in the store. A final summary is never overwritten; what is interrupted
    goes on with the next run when it is started again. Exit status 1 if a run could not be read or
    written.
    """
    if bool(run_ids) == (experiment is not None):
        raise click.UsageError("Give either RUN ids, or --experiment NAME.")
    import mlflow  # noqa: PLC0415 - slow

    from mlflow_sysmetrics.cli.summarize import Summarizer  # noqa: PLC0415 - MLflow, slow

    settings = Settings.from_env()
    for problem in settings.problems:
        click.echo(problem, err=True)
    summarizer = Summarizer(tracking_uri or mlflow.get_tracking_uri(), settings, dry_run=dry_run)
    if experiment is not None:
        summarizer.experiment(experiment)
    else:
        summarizer.named(run_ids)
    if summarizer.failures:
        raise SystemExit(1)


@main.command()
@click.argument("run_id")
@_json_option
@click.option(
    "--tracking-uri", help="The store that has the run. By default that of MLFLOW_TRACKING_URI."
)
def report(*, run_id: str, as_json: bool, tracking_uri: str | None) -> None:
    """Say what was wrong with a run, and what it did.

    Works on any run, open or ended, with metrics of this plugin or of MLflow's own monitor. Exit
    status 1 if there is no such run, it has no system metrics, or the store does not answer.
    """
    import mlflow  # noqa: PLC0415 - slow

    from mlflow_sysmetrics.cli import report as reports  # noqa: PLC0415 - MLflow, slow

    settings = Settings.from_env()
    for problem in settings.problems:
        click.echo(problem, err=True)
    reporter = reports.Reporter(tracking_uri or mlflow.get_tracking_uri(), settings)
    found = reporter.of_run(run_id)
    if as_json:
        reports.print_json(found)
    else:
        reports.print_text(found)


@contextmanager
def _open_window() -> Iterator[tuple[Window, CollectorSet]]:
    collectors = CollectorSet(Host())
    collectors.open()
    window = Window()
    window.add(collectors.collect())
    try:
        yield window, collectors
    except KeyboardInterrupt:
        click.echo()  # the prompt begins on a line of its own
    finally:
        collectors.close()


def _metrics_table(values: dict[str, float]) -> str:
    rows = []
    for key, value in values.items():
        metric = metric_of(key)
        rows.append((PREFIX + key, f"{value:>14,.3f}", metric.unit, metric.meaning))
    return text_table(rows)
