"""Every way to open a run, one after the other in one process, each in an experiment of its own."""

# MLflow's fluent functions and scikit-learn have no types.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import observation
from mlflow import MlflowClient
from observation import burn, wait_for_samples
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TICK_S = 0.25
SWEEP = 50


def two_seconds_at_the_default_interval() -> dict[str, object]:
    os.environ.pop("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL")
    with mlflow.start_run():
        share = burn(2.2)
    return {"cpu_percentage": share}


def instant() -> None:
    mlflow.set_system_metrics_sampling_interval(10)
    with mlflow.start_run():
        mlflow.log_param("size", 1)


def sweep() -> None:
    mlflow.set_system_metrics_sampling_interval(10)
    for number in range(SWEEP):
        with mlflow.start_run():
            mlflow.log_param("number", number)


def nested() -> None:
    with mlflow.start_run(run_name="parent") as parent:
        wait_for_samples(parent.info.run_id)
        with mlflow.start_run(run_name="child", nested=True) as child:
            wait_for_samples(child.info.run_id)


def four_threads() -> None:
    together = threading.Barrier(4, timeout=60)

    def train(number: int) -> None:
        with in_a_thread(run_name=f"thread {number}") as run_id:
            together.wait()
            wait_for_samples(run_id)
            together.wait()

    run_threads([threading.Thread(target=train, args=(number,)) for number in range(4)])


def resumed_by_id() -> dict[str, object]:
    os.environ["MLFLOW_RUN_CONTEXT_PROVIDER"] = "sysmonitor"
    with mlflow.start_run() as run:
        wait_for_samples(run.info.run_id)
    opened = MlflowClient().get_run(run.info.run_id)
    os.environ["MLFLOW_RUN_CONTEXT_PROVIDER"] = "sysmetrics,sysmonitor"
    with mlflow.start_run(run_id=run.info.run_id):
        wait_for_samples(run.info.run_id)
    return {
        "tagged_at_first": "sys.platform" in opened.data.tags,
        "steps_at_first": 1 + max(metric.step for metric in opened.data._metric_objs),
    }


def resumed_by_variable() -> None:
    os.environ["MLFLOW_RUN_ID"] = run_id = _created_run()
    with mlflow.start_run():
        wait_for_samples(run_id)


def started_by_log_metric() -> None:
    mlflow.log_metric("loss", 0.5)
    run = mlflow.active_run()
    assert run is not None
    wait_for_samples(run.info.run_id)
    mlflow.log_metric("loss", 0.4)
    mlflow.end_run()


def raising() -> None:
    with contextlib.suppress(ZeroDivisionError), mlflow.start_run() as run:
        wait_for_samples(run.info.run_id)
        raise ZeroDivisionError


def same_run_in_two_threads() -> None:
    run_id = _created_run()
    together = threading.Barrier(2, timeout=60)

    def train() -> None:
        with in_a_thread(run_id=run_id):
            together.wait()
            wait_for_samples(run_id)
            together.wait()

    run_threads([threading.Thread(target=train) for _ in range(2)])


def autologged() -> None:
    mlflow.set_system_metrics_sampling_interval(0.05)
    mlflow.sklearn.autolog(log_models=False, silent=True)
    try:
        features, labels = make_classification(2000, random_state=0)
        MLPClassifier(max_iter=40, tol=0, n_iter_no_change=1000).fit(features, labels)
    finally:
        mlflow.sklearn.autolog(disable=True)


def grid_search() -> None:
    mlflow.set_system_metrics_sampling_interval(0.05)
    mlflow.sklearn.autolog(log_models=False, silent=True)
    try:
        features, labels = make_classification(1000, random_state=0)
        search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2, 4, 8]}, cv=3)
        search.fit(features, labels)
    finally:
        mlflow.sklearn.autolog(disable=True)


def project() -> None:
    folder = Path("project")
    folder.mkdir()
    (folder / "MLproject").write_text(
        "name: demo\nentry_points:\n  main:\n    command: python train.py\n"
    )
    (folder / "train.py").write_text(
        "import mlflow\n"
        "from observation import wait_for_samples\n"
        f"mlflow.set_system_metrics_sampling_interval({TICK_S})\n"
        "with mlflow.start_run() as run:\n"
        "    wait_for_samples(run.info.run_id)\n"
    )
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mlflow.projects.run(str(folder), env_manager="local", experiment_name=_experiment("project"))


SCENARIOS: tuple[Callable[[], dict[str, object] | None], ...] = (
    two_seconds_at_the_default_interval,
    instant,
    sweep,
    nested,
    four_threads,
    resumed_by_id,
    resumed_by_variable,
    started_by_log_metric,
    raising,
    autologged,
    grid_search,
    project,
    same_run_in_two_threads,
)


@contextlib.contextmanager
def in_a_thread(**run: Any) -> Iterator[str]:  # noqa: ANN401 - as start_run takes it
    """The id of a run that is opened and closed as a thread of MLflow's version has to.

    The threads of MLflow 2.16 share one stack of runs, which nothing guards.
    """
    is_shared = isinstance(mlflow.tracking.fluent._active_run_stack, list)
    with _one_at_a_time if is_shared else contextlib.nullcontext():
        run_id: str = mlflow.start_run(**run, nested=is_shared).info.run_id
    try:
        yield run_id
    finally:
        with _one_at_a_time if is_shared else contextlib.nullcontext():
            mlflow.end_run()


_one_at_a_time = threading.Lock()


def run_threads(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _created_run() -> str:
    """A run that somebody else has opened, and that nobody has tagged."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    assert experiment is not None
    run_id: str = client.create_run(experiment.experiment_id).info.run_id
    return run_id


def _experiment(scenario: str) -> str:
    return f"{_PREFIX}-{scenario}"


_PREFIX = os.environ["MLFLOW_EXPERIMENT_NAME"]


def play(scenario: Callable[[], dict[str, object] | None]) -> dict[str, object]:
    """Play one scenario; what it raises is told, too."""
    name = os.environ["MLFLOW_EXPERIMENT_NAME"] = _experiment(scenario.__name__)
    mlflow.set_experiment(name)
    mlflow.set_system_metrics_sampling_interval(TICK_S)
    observation.threads_started.clear()
    try:
        notes = scenario() or {}
    except Exception:  # noqa: BLE001 - the other scenarios are to be played
        return {"failed": traceback.format_exc()}
    told = observation.observe(name, **notes)
    return {**told, "threads_started": list(told["threads_started"])}


if __name__ == "__main__":
    observation.tell({scenario.__name__: play(scenario) for scenario in SCENARIOS})
