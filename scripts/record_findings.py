"""Record small trainings with the plugin, as histories for the corpus of findings.

    python scripts/record_findings.py FOLDER [NAME…] [--seconds 100] [--scale 6]

Runs on Linux as root, with control groups of version 1: some of the trainings are given a CPU
quota, a memory limit, a slow disk or a small one. `--scale` multiplies the times of what was
recorded, as if each training had taken so many times as long: rates, shares and sizes of memory
stay what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from findings_corpus import History
from mlflow_sysmetrics.catalog import Aggregate, metric_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS = Path("/sys/fs/cgroup")
_TRAININGS = Path(__file__).with_name("findings_trainings.py")


@dataclass(frozen=True)
class Case:
    """One training, where it runs, and what an expert would say.

    Attributes:
        name: Of the history.
        training: Of `findings_trainings.py`.
        about: What it shows.
        findings: What an expert would say of it.
        allowed: What may be said, too.
        cpus: CPU quota.
        memory_mb: Memory limit.
        read_mb_per_s: Limit of what the disk gives.
        disk_mb: Size of the file system of its working directory.
        open_files: Limit of open files.
        on_disk: Whether its working directory is on a disk.
    """

    name: str
    training: str
    about: str
    findings: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    cpus: float = 0.0
    memory_mb: int = 0
    read_mb_per_s: float = 0.0
    disk_mb: int = 0
    open_files: int = 4096
    on_disk: bool = False


CASES = (
    Case("steady", "steady", "One thread that trains."),
    Case("all-cores", "all-cores", "A process a core."),
    Case("leak", "leak", "Keeps all activations.", ("memory-leak",)),
    Case(
        "leak-in-container",
        "leak",
        "Keeps all activations, in a container of 2 GB.",
        ("memory-leak",),
        ("oom-forecast",),
        memory_mb=2000,
    ),
    Case("cache-fills", "cache-fills", "A third of the run fills a cache."),
    Case(
        "cache-fills-in-container",
        "cache-fills",
        "A third of the run fills a cache to half of the container.",
        memory_mb=2000,
    ),
    Case("saw-tooth", "saw-tooth", "Predictions of each epoch are kept until its end."),
    Case("forest", "forest", "Random forests with scikit-learn."),
    Case("forked-loaders", "forked-loaders", "Forked workers copy what they touch."),
    Case("checkpoints", "checkpoints", "The two newest checkpoints stay.", disk_mb=400),
    Case("fills-disk", "fills-disk", "All checkpoints stay.", ("disk-nearly-full",), disk_mb=256),
    Case(
        "throttled",
        "threads",
        "Two busy processes in half a CPU.",
        ("cpu-throttled",),
        cpus=0.5,
    ),
    Case("not-throttled", "threads", "Two busy processes in two CPUs.", cpus=2.0),
    Case("one-of-one-cpu", "steady", "One thread in a quota of one CPU.", cpus=1.0),
    Case(
        "slow-reader",
        "reads",
        "Reads its data from a disk that gives 4 MB/s.",
        ("io-bound",),
        read_mb_per_s=4,
        on_disk=True,
    ),
    Case("fast-reader", "reads", "Reads its data from a fast disk.", on_disk=True),
    Case("open-files", "open-files", "A file a step stays open.", ("fd-leak",), open_files=1024),
    Case(
        "worker-dies",
        "worker-dies",
        "The kernel kills a worker for want of memory.",
        ("oom-killed",),
        ("memory-near-limit",),
        memory_mb=700,
    ),
    Case(
        "near-limit",
        "near-limit",
        "The dataset all but fills the container.",
        ("memory-near-limit",),
        memory_mb=1050,
    ),
    Case("short", "short", "15 seconds."),
    Case("trials", "trials", "Nested runs, one after another."),
    Case("evaluates", "evaluates", "Evaluation on one core, by turns with training on two."),
    Case("waits-for-data", "waits-for-data", "Half of the time it waits."),
)


def main() -> None:
    """Record them, three at a time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the histories go")
    parser.add_argument("names", nargs="*", help="which ones (default: all)")
    parser.add_argument("--seconds", type=float, default=100, help="how long each takes")
    parser.add_argument("--scale", type=float, default=6, help="by what times are multiplied")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    options = parser.parse_args()
    cases = [case for case in CASES if case.name in options.names or not options.names]
    with ThreadPoolExecutor(options.jobs) as pool:
        for case, history in zip(
            cases,
            pool.map(lambda case: record(case, options.seconds, options.scale), cases),
            strict=True,
        ):
            path = options.folder / f"real-{case.name}.json"
            history.write(path)
            print(path, f"{path.stat().st_size / 1000:.0f} kB", flush=True)


def record(case: Case, seconds: float, scale: float) -> History:
    """Run a training and read what the plugin logged of it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        store = folder / "mlflow.db"
        work = folder / "work"
        work.mkdir()
        if not case.on_disk:
            stack.enter_context(mounted(work, case.disk_mb or 1000))
        groups = stack.enter_context(control_groups(case, folder.name))

        def enter() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (case.open_files, 20_000))
            for group in groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{store}",
            "MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor",
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "2",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, str(_TRAININGS), case.training, str(seconds), str(scale)],
            cwd=work,
            env=environment,
            preexec_fn=enter,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        run_id = done.stdout.split()[-1]
        return read(MlflowClient(f"sqlite:///{store}"), run_id, case, scale)


def read(client: MlflowClient, run_id: str, case: Case, scale: float) -> History:
    """What the plugin logged, as a history."""
    run = client.get_run(run_id)
    begin_ms = run.info.start_time
    keys = sorted(key for key in run.data.metrics if not key.startswith("system/summary/"))
    points = {key: client.get_metric_history(run_id, key) for key in keys}
    times = sorted({point.timestamp for history in points.values() for point in history})
    values = {}
    for key, history in points.items():
        name = key.removeprefix("system/")
        # What is summed up over time, in so much more of it.
        factor = scale if is_summed_up(name) else 1.0
        by_time = {point.timestamp: point.value * factor for point in history}
        values[name] = [by_time.get(time) for time in times]
    facts = {key: value for key, value in run.data.tags.items() if key in _TOLD}
    return History(
        name=f"real-{case.name}",
        about=f"{case.about} Recorded on Linux; times multiplied by {scale:g}.",
        findings=case.findings,
        allowed=case.allowed,
        facts=facts,
        times_s=[round((time - begin_ms) / 1000 * scale, 1) for time in times],
        values=values,
    )


def is_summed_up(key: str) -> bool:
    """Whether a metric is an amount that rises with the time that a run takes."""
    return metric_of(key).aggregate is Aggregate.TOTAL and key.endswith("_megabytes")


_TOLD = (
    "sys.cpu_cores",
    "sys.cpu_limit",
    "sys.memory_gb",
    "sys.memory_limit_gb",
    "sys.disk_total_gb",
    "sys.gpu",
)


@contextlib.contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system in memory, of this size."""
    subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        check=True,
    )
    try:
        yield
    finally:
        subprocess.run(["/usr/bin/umount", str(folder)], check=True)


@contextlib.contextmanager
def control_groups(case: Case, name: str) -> Iterator[list[Path]]:
    """The groups of a case; removed afterwards."""
    settings: dict[str, dict[str, str]] = {}
    if case.cpus:
        settings["cpu"] = {"cpu.cfs_quota_us": str(round(case.cpus * 100_000))}
    if case.memory_mb:
        settings["memory"] = {"memory.limit_in_bytes": str(case.memory_mb * 1_000_000)}
    if case.read_mb_per_s:
        device = os.stat("/var/tmp").st_dev  # noqa: S108, PTH116 - which disk it is on
        rate = round(case.read_mb_per_s * 1e6)
        settings["blkio"] = {
            "blkio.throttle.read_bps_device": f"{os.major(device)}:{os.minor(device)} {rate}"
        }
    groups = []
    try:
        for controller, files in settings.items():
            group = _CGROUPS / controller / f"findings-{name}"
            group.mkdir()
            groups.append(group)
            for file, content in files.items():
                (group / file).write_text(content)
        yield groups
    finally:
        for group in groups:
            group.rmdir()


if __name__ == "__main__":
    main()
