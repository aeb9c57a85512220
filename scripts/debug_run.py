"""Manual check: open a run where MLflow is set to, and tell what the plugin put on it.

    MLFLOW_RUN_CONTEXT_PROVIDER=sysmetrics,sysmonitor python scripts/debug_run.py [--seconds 5]

Run it with the interpreter, and with the environment variables, of the training it is to check.
Exit status 1 if a provider that is switched on did not do its part.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from typing import TYPE_CHECKING

try:
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from mlflow_sysmetrics.catalog import METRICS, PREFIX, TAGS
    from mlflow_sysmetrics.cli.diagnosis import Report, diagnose
    from mlflow_sysmetrics.runs.switch import PROVIDERS_VARIABLE, SYSMETRICS, SYSMONITOR
    from mlflow_sysmetrics.settings import Settings, matches_any
    from show_run import show
except ModuleNotFoundError as error:
    sys.exit(f"{error}: is mlflow-sysmetrics installed for {sys.executable}?")

if TYPE_CHECKING:
    from mlflow.entities import Run


def main() -> int:
    """Open a run, show it, judge it."""
    parser = argparse.ArgumentParser(description="Check the plugin on a run of its own.")
    parser.add_argument(
        "--seconds", type=float, default=5, help="how long the run lasts (default: %(default)s)"
    )
    seconds = parser.parse_args().seconds

    print(f"{PROVIDERS_VARIABLE}={os.environ.get(PROVIDERS_VARIABLE, '')}")
    print(f"Opening a run for {seconds:g} s; it and a child process keep a core busy each ...\n")
    try:
        run = record_run(seconds)
    except MlflowException as error:
        sys.exit(
            f"MLflow cannot open a run in {mlflow.get_tracking_uri()}: {error}\n"
            "Set MLFLOW_TRACKING_URI to a tracking server; stores in a database need all of MLflow "
            "(pip install mlflow)."
        )
    show(run)

    report = diagnose()
    failures = [*report.problems, *failures_of(run, report)]
    print()
    for remark in remarks(report):
        print(f"Note: {remark}")
    for failure in failures:
        print(f"Failure: {failure}")
    print("Something that is switched on did not work." if failures else "All is as it should be.")
    return 1 if failures else 0


def record_run(seconds: float) -> Run:
    """A run of some seconds, as the store has it afterwards."""
    child = multiprocessing.Process(target=keep_busy, args=(seconds,))
    with mlflow.start_run(run_name="mlflow-sysmetrics debug run") as run:
        child.start()
        keep_busy(seconds)
        child.join()
    return MlflowClient().get_run(run.info.run_id)


def keep_busy(seconds: float) -> None:
    """Use one core."""
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        sum(range(10_000))


def failures_of(run: Run, report: Report) -> list[str]:
    """One sentence for each provider that is switched on and did not do its part."""
    failures = []
    missing = [key for key in expected_tags() if key not in run.data.tags]
    if report.providers[SYSMETRICS].switched_on and missing:
        reason = run.data.tags.get("sysmetrics.error", "no reason was given")
        failures.append(
            f"{SYSMETRICS} is on, but tags are missing: {', '.join(missing)} ({reason})"
        )
    missing = [key for key in expected_metrics() if key not in run.data.metrics]
    if report.providers[SYSMONITOR].switched_on and missing and not report.is_vetoed:
        failures.append(f"{SYSMONITOR} is on, but metrics are missing: {', '.join(missing)}")
    return failures


def expected_tags() -> list[str]:
    """The tags that every host has and the settings do not leave out."""
    excluded = Settings.from_env().exclude_tags
    return [tag.key for tag in TAGS if tag.absent == "never" and not matches_any(tag.key, excluded)]


def expected_metrics() -> list[str]:
    """The metrics that every host has and the settings do not leave out."""
    settings = Settings.from_env()
    prefix = f"{PREFIX}{settings.node_id}/" if settings.node_id else PREFIX
    return [
        prefix + metric.key
        for metric in METRICS
        if metric.absent == "never" and settings.wants(metric.key)
    ]


def remarks(report: Report) -> list[str]:
    """What is not there for a reason: switched off, or not on this host."""
    found = [
        f"{name} is off: {PROVIDERS_VARIABLE} does not list it"
        for name, provider in report.providers.items()
        if not provider.switched_on
    ]
    found += [
        f"no {source} metrics: {reason}"
        for source, reason in report.sources.items()
        if reason is not None
    ]
    return [*found, *report.notes]


if __name__ == "__main__":
    sys.exit(main())
