"""Small trainings, healthy and not, for the corpus of findings.

    python scripts/findings_trainings.py NAME SECONDS [SCALE]

Each trains something small in numpy or scikit-learn for about so many seconds. `record_findings.py`
runs them with the plugin and stores what it logged. With a scale the run stands for one that takes
so many times as long.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import mlflow
import numpy as np
from numpy.typing import NDArray

from mlflow_sysmetrics.collectors import process_tree

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[Any]

_MEGABYTE = 1_000_000


class Network:
    """Two layers, trained by gradient descent: enough to keep a core busy with real work."""

    def __init__(self, features: int = 64, hidden: int = 128) -> None:
        self._random = np.random.default_rng(0)
        self._first = self._random.normal(size=(features, hidden)) / features**0.5
        self._second = self._random.normal(size=(hidden, 1)) / hidden**0.5

    def batch(self, rows: int = 256) -> tuple[Array, Array]:
        """Some rows, and what is to be learnt from them."""
        rows_x = self._random.normal(size=(rows, self._first.shape[0]))
        return rows_x, np.sin(rows_x[:, :1])

    def step(self, inputs: Array, targets: Array) -> Array:
        """One step; returns the activations."""
        hidden: Array = np.tanh(inputs @ self._first)
        error = hidden @ self._second - targets
        gradient = error @ self._second.T * (1 - hidden**2)
        self._second -= 1e-3 * hidden.T @ error / len(inputs)
        self._first -= 1e-3 * inputs.T @ gradient / len(inputs)
        return hidden


def train(seconds: float) -> None:
    """For as long, on one thread."""
    network, end = Network(), time.monotonic() + seconds
    while time.monotonic() < end:
        network.step(*network.batch())


def busy_worker(seconds: float) -> None:
    """What a child process runs."""
    train(seconds)


def steady(seconds: float) -> None:
    """Trains; nothing is wrong."""
    train(seconds)


def all_cores(seconds: float) -> None:
    """One process a core; nothing is wrong."""
    workers = [
        multiprocessing.Process(target=busy_worker, args=(seconds,))
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def leak(seconds: float, megabytes: float = 1500) -> None:
    """Keeps the activations of every step, as a list of losses with their graphs does."""
    network, begin = Network(), time.monotonic()
    kept: list[Array] = []
    while (lasted := time.monotonic() - begin) < seconds:
        inputs, targets = network.batch()
        activations = network.step(inputs, targets)
        while (
            sum(each.nbytes for each in kept[-1:]) * len(kept) < megabytes * 1e6 * lasted / seconds
        ):
            kept.append(np.tile(activations, (4, 1)))
        time.sleep(0.01)


def cache_fills(seconds: float, megabytes: int = 900) -> None:
    """The first epoch decodes everything and keeps it; the others read from memory."""
    network, begin = Network(), time.monotonic()
    cache: list[Array] = []
    while (lasted := time.monotonic() - begin) < seconds:
        if lasted < seconds / 3:
            while len(cache) < megabytes * lasted / (seconds / 3) / 4:
                cache.append(np.random.default_rng(len(cache)).random(500_000))
        network.step(*network.batch())
        time.sleep(0.005)


def saw_tooth(seconds: float) -> None:
    """Collects an epoch's predictions, evaluates, and drops them, again and again."""
    network, begin = Network(), time.monotonic()
    predictions: list[Array] = []
    epoch_s = seconds / 8
    while (lasted := time.monotonic() - begin) < seconds:
        network.step(*network.batch())
        if len(predictions) * 4 < 500 * (lasted % epoch_s) / epoch_s:
            predictions.append(np.random.default_rng(0).random(500_000))
        elif lasted % epoch_s < epoch_s / 20:
            predictions.clear()
        time.sleep(0.005)


def forest(seconds: float) -> None:
    """Cross-validation of a random forest with scikit-learn on all cores."""
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415 - only this needs it
    from sklearn.model_selection import cross_val_score  # noqa: PLC0415

    inputs, targets = Network().batch(4000)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        model = RandomForestRegressor(n_estimators=40, n_jobs=-1)
        cross_val_score(model, inputs, targets.ravel(), cv=3)


_shared: list[bytes] = []


def _loader(queue: multiprocessing.Queue[Array], seconds: float) -> None:
    end, position = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        # Touching an object writes its reference count: the page is copied for this worker.
        position = (position + 400) % len(_shared)
        rows = [len(each) for each in _shared[position : position + 400]]
        queue.put(np.resize(np.array(rows, dtype=float), (256, 64)))
        time.sleep(0.02)


def forked_loaders(seconds: float) -> None:
    """Workers that touch what they share with their parent: RSS climbs in each of them."""
    _shared.extend(os.urandom(200) for _ in range(400_000))
    queue: multiprocessing.Queue[Array] = multiprocessing.Queue(8)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_loader, args=(queue, seconds)) for _ in range(3)]
    for worker in workers:
        worker.start()
    network, end = Network(), time.monotonic() + seconds
    while time.monotonic() < end:
        batch = queue.get()
        network.step(batch, np.sin(batch[:, :1]))
    for worker in workers:
        worker.terminate()
        worker.join()


def checkpoints(seconds: float, keep: int = 2, every_s: float = 4, megabytes: int = 12) -> None:
    """Writes checkpoints into the working directory and keeps the newest ones."""
    network, begin, written = Network(), time.monotonic(), 0
    while (lasted := time.monotonic() - begin) < seconds:
        network.step(*network.batch())
        if lasted > (written + 1) * every_s:
            written += 1
            Path(f"checkpoint-{written}.bin").write_bytes(os.urandom(megabytes * _MEGABYTE))
            for old in sorted(Path().glob("checkpoint-*.bin"), key=os.path.getmtime)[:-keep]:
                old.unlink()
        time.sleep(0.01)


def fills_disk(seconds: float) -> None:
    """Keeps every checkpoint, on a disk that has room for 25 of them."""
    checkpoints(seconds, keep=1000, every_s=seconds / 25, megabytes=10)


def threads(seconds: float) -> None:
    """Two busy processes: fine on two CPUs, too many in half a CPU."""
    workers = [multiprocessing.Process(target=busy_worker, args=(seconds,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def reads(seconds: float) -> None:
    """Reads its data from disk, past the page cache, and trains on them.

    A slow disk starves it; on a fast one it computes nearly all the time.
    """
    path, block = Path("dataset.bin"), 4 * _MEGABYTE // 4096 * 4096
    if not path.exists():
        path.write_bytes(os.urandom(block * 16))
        with path.open("rb") as written:
            os.fsync(written.fileno())
    network, end, position = Network(), time.monotonic() + seconds, 0
    with path.open("rb") as file:
        while time.monotonic() < end:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            content = os.pread(file.fileno(), block, position * block)
            position = (position + 1) % 16
            rows = np.frombuffer(content, dtype=np.uint8)[: 64 * 4096].reshape(-1, 64) / 255.0
            for _ in range(20):
                network.step(rows, np.sin(rows[:, :1]))


def open_files(seconds: float) -> None:
    """Opens a file a step and keeps it: 900 of the 1024 that it may have."""
    network, begin = Network(), time.monotonic()
    kept: list[BinaryIO] = []
    while (lasted := time.monotonic() - begin) < seconds:
        network.step(*network.batch())
        while len(kept) < 900 * lasted / seconds:
            kept.append(Path("/dev/null").open("rb"))  # noqa: SIM115 - that it stays open is the point
        time.sleep(0.01)
    for each in kept:
        each.close()


def _glutton(megabytes: int) -> None:
    taken = []
    for _ in range(megabytes // 10):
        taken.append(np.ones(10 * _MEGABYTE // 8))
        time.sleep(0.02)


def worker_dies(seconds: float) -> None:
    """A worker takes more memory than the container has and is killed; the training goes on."""
    network, end, worker = Network(), time.monotonic() + seconds, None
    killed_at = time.monotonic() + seconds / 2
    while time.monotonic() < end:
        network.step(*network.batch())
        time.sleep(0.01)
        if worker is None and time.monotonic() > killed_at:
            worker = multiprocessing.Process(target=_glutton, args=(1500,))
            worker.start()


def near_limit(seconds: float) -> None:
    """Loads a dataset that all but fills the container, and trains."""
    held = [np.ones(10 * _MEGABYTE // 8) for _ in range(78)]
    train(seconds)
    del held


def short(seconds: float) -> None:
    """As short as many are."""
    train(min(seconds, 15))


def trials(seconds: float) -> None:
    """A search: nested runs, one after another, in one process."""
    for _ in range(6):
        with mlflow.start_run(nested=True):
            train(seconds / 6)


def evaluates(seconds: float) -> None:
    """Trains on all cores, then evaluates on one, by turns."""
    epoch_s = seconds / 6
    for _ in range(6):
        threads(epoch_s * 0.6)
        train(epoch_s * 0.4)


def waits_for_data(seconds: float) -> None:
    """Half of the time it waits, as for a queue or a person."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        train(2)
        time.sleep(2)


TRAININGS: dict[str, Callable[[float], None]] = {
    training.__name__.replace("_", "-"): training
    for training in (
        steady,
        all_cores,
        leak,
        cache_fills,
        saw_tooth,
        forest,
        forked_loaders,
        checkpoints,
        fills_disk,
        threads,
        reads,
        open_files,
        worker_dies,
        near_limit,
        short,
        trials,
        evaluates,
        waits_for_data,
    )
}


def main() -> None:
    """Run one in a run of its own, where MLflow is set to; print the run's id."""
    name, seconds = sys.argv[1], float(sys.argv[2])
    scale = float((*sys.argv[3:], "1")[0])
    # In so much more time, USS and PSS would be read so many times as often.
    process_tree.PRIVATE_MEMORY_SHARE *= scale
    mlflow.set_experiment("findings")
    with mlflow.start_run(run_name=name) as run:
        TRAININGS[name](seconds)
    print(run.info.run_id)


if __name__ == "__main__":
    main()
