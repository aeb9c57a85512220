"""What a script sees of its runs and its threads, told as JSON to the test that started it.

MLflow is imported only to report, so that scripts may import what they like first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

OURS = "mlflow-sysmetrics"
_PATIENCE_S = 30.0
_CHANNEL = "mlflow_sysmetrics.delivery.channel"
_LINGERING = {
    f"{OURS}-sampler": "mlflow_sysmetrics.sampling.sampler",
    f"{OURS}-uploader": _CHANNEL,
    f"{OURS}-otlp": "mlflow_sysmetrics.export.otlp",
}
"""Threads that stay for a while after the last run, and the modules that say how long."""

threads_started: list[str] = []
_samples: Counter[str] = Counter()  # of each run that this process samples
_start = threading.Thread.start


def _start_and_note(thread: threading.Thread) -> None:
    threads_started.append(thread.name)
    module = _LINGERING.get(thread.name)
    if module is not None:
        sys.modules[module].LINGER_S = 0.2  # type: ignore[attr-defined] # its end is waited for
        _count_samples()
    _start(thread)


threading.Thread.start = _start_and_note  # type: ignore[assignment,method-assign] # the one way to see all


def _count_samples() -> None:
    """Count what is put into a channel from now on."""
    channel: Any = sys.modules[_CHANNEL].Channel
    put = channel.put
    if put.__name__ == "put_and_count":
        return

    def put_and_count(self: Any, record: object) -> None:  # noqa: ANN401 - as put
        put(self, record)
        _samples[self.task.stream.address.run_id] += 1

    channel.put = put_and_count


def wait_for_samples(run_id: str, count: int = 4) -> None:
    """Wait until this process has taken so many more samples of a run; four have rates.

    Raises:
        TimeoutError: They do not come.
    """
    enough = _samples[run_id] + count
    deadline_s = time.monotonic() + _PATIENCE_S
    while _samples[run_id] < enough:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{_samples[run_id]} of {enough} samples were taken of {run_id}")
        time.sleep(0.02)


def burn(seconds: float) -> float:
    """Keep one core busy; return the percentage of it that the system let this thread have."""
    wall_s, cpu_s = time.perf_counter(), time.thread_time()
    while time.perf_counter() - wall_s < seconds:
        pass
    return 100 * (time.thread_time() - cpu_s) / (time.perf_counter() - wall_s)


def report(**notes: object) -> None:
    """Print what there is to see of the experiment named by the environment."""
    tell(observe(os.environ["MLFLOW_EXPERIMENT_NAME"], **notes))


def tell(what: object) -> None:
    """Print JSON on a line of its own."""
    sys.stdout.write(f"\n{json.dumps(what)}\n")
    sys.stdout.flush()


def observe(experiment_name: str, **notes: object) -> dict[str, Any]:
    """All runs of an experiment as its store has them now, and the threads so far."""
    from mlflow import MlflowClient  # noqa: PLC0415 - see above

    client = MlflowClient()
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return {
        "runs": [_run(client, run) for run in runs],
        "threads_started": threads_started,
        "threads_left": _threads_left(),
        "notes": notes,
    }


def _run(client: MlflowClient, run: Run) -> dict[str, Any]:
    end_ms = run.info.end_time or time.time() * 1000
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "lasted_s": (end_ms - run.info.start_time) / 1000,
        "tags": run.data.tags,
        "series": {key: _series(client, run.info.run_id, key) for key in run.data.metrics},
    }


def _series(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, int, float]]:
    history = client.get_metric_history(run_id, key)
    return sorted((point.step, point.timestamp, point.value) for point in history)


def _threads_left() -> list[str]:
    """Our threads that do not end, given time to."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith(OURS)]
    deadline_s = time.monotonic() + _PATIENCE_S
    for thread in ours:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    return [thread.name for thread in ours if thread.is_alive()]
