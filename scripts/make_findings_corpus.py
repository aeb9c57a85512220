"""Make the synthetic histories of the corpus of findings, for what the recorded ones lack.

    python scripts/make_findings_corpus.py

Seeded by their names: they come out the same each time. The levels and the noise are those of real
trainings: utilisation that jitters by some points and dips at checkpoints, memory that steps.
"""

# A drawing is made of numbers.
# ruff: noqa: PLR2004

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, ClassVar

from findings_corpus import FOLDER, History

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    # A level over time, in hours since the run opened.
    Course: TypeAlias = Callable[[float], float]

SLURM = {"sys.slurm_job_id": "412077", "sysmetrics.gpu_allocation": "SLURM_JOB_GPUS"}
PLUGIN = {"sys.container": "containerd", "sysmetrics.gpu_allocation": "NVIDIA_VISIBLE_DEVICES"}
NOTEBOOK = {"mlflow.source.name": "/opt/conda/lib/python3.12/site-packages/ipykernel_launcher.py"}


class Sketch:
    """A run, drawn metric by metric; what is not drawn is a quiet machine's.

    Args:
        name: Of the history.
        about: What it shows.
        hours: How long it takes.
        findings: What an expert would say.
        allowed: What may be said, too.
        cpus: CPUs that the training may use.
        memory_gb: Memory that it may use.
        facts: Tags.
        points: How many are logged.
        ended: Whether it has ended.
    """

    salt: ClassVar[str] = ""
    """Another one makes the same runs with another noise."""

    def __init__(  # noqa: PLR0913, PLR0917 - a run has many sides
        self,
        name: str,
        about: str,
        hours: float,
        findings: str = "",
        allowed: str = "",
        cpus: float = 16,
        memory_gb: float = 128,
        facts: dict[str, str] | None = None,
        points: int = 48,
        *,
        ended: bool = True,
    ) -> None:
        self.name, self.about, self.hours, self.ended = name, about, hours, ended
        self.findings, self.allowed = tuple(findings.split()), tuple(allowed.split())
        self.cpus, self.memory_gb = cpus, memory_gb
        self.facts = {"sys.cpu_cores": f"{cpus:g}", "sys.memory_gb": f"{memory_gb:g}"}
        self.facts |= facts or {}
        self._random = Random(name + self.salt)  # noqa: S311 - noise
        self.times = [
            hours * (number + 1 + self._random.uniform(-0.1, 0.1)) / (points + 0.2)
            for number in range(points)
        ]
        self.values: dict[str, list[float | None]] = {}
        self.cpu(min(cpus, 1.5))
        self.memory(6)
        self.set("process/num_fds", 120, 3)
        self.disk()

    def set(
        self,
        key: str,
        level: Course | float,
        noise: float = 0.0,
        within: tuple[float, float] = (0.0, math.inf),
    ) -> Sketch:
        """Draw a metric: a level, with noise of this deviation."""
        course = level if callable(level) else lambda _: level
        self.values[key] = [
            round(min(max(course(hour) + self._random.gauss(0, noise), within[0]), within[1]), 2)
            for hour in self.times
        ]
        return self

    def cpu(self, cores: Course | float, noise: float = 0.05) -> Sketch:
        """CPU time of the tree."""
        course = cores if callable(cores) else lambda _: cores
        self.set(
            "process/cpu_usage_percentage",
            lambda hour: 100 * course(hour) * self._random.gauss(1, noise),
            within=(0, 100 * self.cpus),
        )
        self.values["process/cpu_utilization_percentage"] = [
            None if value is None else round(value / self.cpus, 2)
            for value in self.values["process/cpu_usage_percentage"]
        ]
        return self.set(
            "cpu_utilization_percentage",
            lambda hour: min(100, 100 * course(hour) / self.cpus + 2),
            1,
            (0, 100),
        )

    def memory(
        self,
        gigabytes: Course | float,
        noise: float = 0.02,
        rss: Course | float | None = None,
        mapped: Course | float = 0.0,
    ) -> Sketch:
        """PSS and USS of the tree, its RSS where that differs, and how much is mapped files."""
        course = gigabytes if callable(gigabytes) else lambda _: gigabytes
        resident = course if rss is None else rss
        self.set("process/memory_pss_megabytes", lambda hour: 1000 * course(hour), 1000 * noise)
        self.set("process/memory_uss_megabytes", lambda hour: 990 * course(hour), 1000 * noise)
        self.set(
            "process/memory_rss_megabytes",
            lambda hour: 1050 * (resident(hour) if callable(resident) else resident),
            1000 * noise,
        )
        self.values["process/memory_usage_percentage"] = [
            None if value is None else round(value / self.memory_gb / 10, 2)
            for value in self.values["process/memory_rss_megabytes"]
        ]
        files = mapped if callable(mapped) else lambda _: mapped
        return self.host_memory(lambda hour: 3 + course(hour) - files(hour))

    def host_memory(self, gigabytes: Course | float) -> Sketch:
        """What is in use on the host."""
        course = gigabytes if callable(gigabytes) else lambda _: gigabytes
        self.set("system_memory_usage_megabytes", lambda hour: 1000 * course(hour), 40)
        self.values["system_memory_usage_percentage"] = [
            None if value is None else round(value / self.memory_gb / 10, 2)
            for value in self.values["system_memory_usage_megabytes"]
        ]
        return self

    def container(self, gigabytes: Course | float) -> Sketch:
        """What a memory limit counts."""
        course = gigabytes if callable(gigabytes) else lambda _: gigabytes
        self.facts["sys.memory_limit_gb"] = f"{self.memory_gb:g}"
        self.facts.setdefault("sys.container", "docker")
        self.set("container/memory_usage_megabytes", lambda hour: 1000 * course(hour), 10)
        self.values["container/memory_usage_percentage"] = [
            None if value is None else round(value / self.memory_gb / 10, 2)
            for value in self.values["container/memory_usage_megabytes"]
        ]
        return self.set("container/oom_kills", 0)

    def quota(
        self, throttled: Course | float = 0.0, noise: float = 0.0, kept_back: float = 0.5
    ) -> Sketch:
        """A limit of the CPUs, how often it is reached, and how much it keeps back then."""
        course = throttled if callable(throttled) else lambda _: throttled
        self.facts["sys.cpu_limit"] = f"{self.cpus:g}"
        self.set(
            "container/cpu_throttled_cores",
            lambda hour: course(hour) / 100 * kept_back * self.cpus,
            0.01,
        )
        self.facts["sys.cpu_cores"] = f"{max(64, self.cpus):g}"
        return self.set("container/cpu_throttled_percentage", throttled, noise, (0, 100))

    def disk(
        self, free_gb: Course | float = 900, total_gb: float = 2000, where: str = "disk_"
    ) -> Sketch:
        """Space on a file system."""
        course = free_gb if callable(free_gb) else lambda _: free_gb
        self.set(f"{where}available_megabytes", lambda hour: 1000 * course(hour))
        self.set(f"{where}usage_megabytes", lambda hour: 1000 * (total_gb - course(hour)))
        return self.set(
            f"{where}usage_percentage", lambda hour: 100 * (1 - course(hour) / total_gb)
        )

    def gpu(
        self,
        index: int = 0,
        use: Course | float = 0.0,
        noise: float = 4.0,
        own_gb: Course | float | None = 30.0,
        others_gb: float = 0.0,
        total_gb: float = 80.0,
    ) -> Sketch:
        """A GPU.

        Args:
            index: Its number.
            use: Its utilisation.
            noise: Of that.
            own_gb: Its memory that the tree holds; None where that is not known.
            others_gb: Its memory that others hold.
            total_gb: Its memory.
        """
        own = own_gb if callable(own_gb) else lambda _: own_gb or 0.0
        course = use if callable(use) else lambda _: use
        self.set(
            f"gpu_{index}_utilization_percentage",
            lambda hour: course(hour) + (self._random.gauss(0, noise) if course(hour) else 0),
            within=(0, 100),
        )
        self.set(
            f"gpu_{index}_memory_usage_megabytes",
            lambda hour: 1000 * (own(hour) + others_gb) + 4,
        )
        self.set(
            f"gpu_{index}_memory_usage_percentage",
            lambda hour: 100 * (own(hour) + others_gb) / total_gb,
        )
        self.set(
            f"gpu_{index}_power_usage_watts", lambda hour: 75 + 5.5 * course(hour), 6, (60, 700)
        )
        self.set(f"gpu_{index}/throttled_thermal_percentage", 0)
        self.set(f"gpu_{index}/throttled_hardware_percentage", 0)
        self.set(f"gpu_{index}/ecc_uncorrected_errors", 0)
        self.set(f"gpu_{index}/ecc_corrected_errors", 0)
        self.set(f"gpu_{index}/remapped_rows", 0)
        if own_gb is not None:
            self.set(f"gpu_{index}/process_memory_megabytes", lambda hour: 1000 * own(hour))
        count = len([key for key in self.values if key.endswith("/remapped_rows")])
        self.facts.setdefault("sys.gpu_count", "0")
        self.facts["sys.gpu_count"] = str(max(count, int(self.facts["sys.gpu_count"])))
        return self

    def only(self, *keys: str) -> Sketch:
        """Nothing but these metrics: those of MLflow's own monitor, say."""
        self.values = {key: row for key, row in self.values.items() if key in keys}
        return self

    def without(self, begin: float, end: float) -> Sketch:
        """No points between two hours."""
        kept = [number for number, hour in enumerate(self.times) if not begin <= hour < end]
        self.times = [self.times[number] for number in kept]
        self.values = {key: [row[each] for each in kept] for key, row in self.values.items()}
        return self

    def node(self, index: int) -> Sketch:
        """All that is drawn so far becomes one node's."""
        self.values = {
            key if key.startswith("node_") else f"node_{index}/{key}": row
            for key, row in self.values.items()
        }
        return self

    def history(self) -> History:
        """As it is stored."""
        return History(
            name=self.name,
            about=self.about,
            findings=self.findings,
            allowed=self.allowed,
            facts=self.facts,
            times_s=[round(3600 * hour, 1) for hour in self.times],
            values=self.values,
            ended=self.ended,
        )


def after(hour: float, level: float, before: float = 0.0) -> Course:
    """One level, from an hour on another."""
    return lambda now: before if now < hour else level


def ramp(begin: float, end: float, low: float, high: float) -> Course:
    """From one level to another between two hours."""
    return lambda now: low + (high - low) * min(1.0, max(0.0, (now - begin) / (end - begin)))


def by_turns(period: float, share: float, level: float, other: float) -> Course:
    """One level for a share of each period, then the other."""
    return lambda now: level if now % period < share * period else other


def saw(period: float, low: float, high: float) -> Course:
    """Climbs in each period, and falls."""
    return lambda now: low + (high - low) * (now % period) / period


def healthy() -> list[Sketch]:
    """Runs in which nothing is wrong."""
    many_gpus = Sketch("healthy-ddp-eight-gpus", "Eight GPUs, all busy.", 12, facts=SLURM, cpus=96)
    for index in range(8):
        many_gpus.gpu(index, 95, 3)
    on_purpose = Sketch(
        "healthy-one-gpu-of-eight",
        "A personal server: one of its eight GPUs on purpose.",
        5,
        cpus=64,
    )
    for index in range(8):
        on_purpose.gpu(index, 88 if index == 3 else 0, own_gb=20 if index == 3 else 0)
    colleagues = Sketch(
        "healthy-colleagues-gpus", "Two GPUs of eight; colleagues hold the others.", 5, cpus=64
    )
    for index in range(8):
        mine = index in {0, 1}
        colleagues.gpu(
            index, 90 if mine else 3, own_gb=40 if mine else 0, others_gb=0 if mine else 9
        )
    box = Sketch("healthy-sklearn-on-gpu-box", "scikit-learn beside eight GPUs.", 2, cpus=64)
    box.cpu(56)
    for index in range(8):
        box.gpu(index, 0, own_gb=0)
    container_box = Sketch(
        "healthy-sklearn-in-container", "docker --gpus all out of habit; scikit-learn.", 2
    ).cpu(12)
    container_box.facts |= {"sys.container": "docker"}
    for index in range(2):
        container_box.gpu(index, 0, own_gb=None)
    mig = Sketch("healthy-mig", "A MIG instance: no utilisation is reported.", 6, facts=PLUGIN)
    mig.gpu(0, 0, own_gb=None)
    del mig.values["gpu_0_utilization_percentage"]
    mig.set("gpu_0/mig_1_memory_usage_megabytes", 8800, 20)
    mig.set("gpu_0/mig_1_memory_usage_percentage", 44, 0.1)
    shared = Sketch("healthy-shared-gpu", "Two users on a GPU; the run has its half.", 6)
    shared.gpu(0, 46, own_gb=20, others_gb=30).set(
        "gpu_0/process_utilization_percentage", 27, 5, (0, 100)
    )
    shared_share = Sketch(
        "healthy-small-share-of-a-gpu", "A GPU that is shared on purpose; 9 % are the run's.", 6
    )
    shared_share.gpu(0, 60, own_gb=20, others_gb=30).set(
        "gpu_0/process_utilization_percentage", 9, 3, (0, 100)
    )
    shared_idle = Sketch(
        "healthy-small-model-beside-another",
        "A small model beside another's job: theirs to judge.",
        4,
    )
    shared_idle.gpu(0, 35, own_gb=4, others_gb=60)
    tokenise = ramp(0, 0.1, 14, 15.6)
    preparing = [
        Sketch(
            "healthy-tokenises-half-an-hour",
            "Tokenises for 32 minutes, then trains.",
            3,
            facts=SLURM,
        )
        .cpu(lambda now: tokenise(now) if now < 0.53 else 2.5)
        .gpu(0, after(0.53, 93), own_gb=after(0.53, 60)),
        Sketch(
            "healthy-tokenises-then-trains-briefly",
            "Tokenises for 32 minutes, trains for 15.",
            0.8,
            facts=SLURM,
        )
        .cpu(lambda now: tokenise(now) if now < 0.53 else 2.5)
        .gpu(0, after(0.53, 91), own_gb=after(0.53, 60)),
        Sketch(
            "healthy-big-download",
            "Downloads weights for 40 minutes, then trains.",
            4,
            facts=PLUGIN,
        )
        .cpu(after(0.67, 3, 0.6))
        .gpu(0, after(0.67, 94), own_gb=after(0.67, 70))
        .set("network_receive_megabytes", ramp(0, 0.67, 0, 480_000))
        .set("network/receive_megabytes_per_second", after(0.67, 0.1, 200), 0.05),
        Sketch(
            "healthy-slow-start", "Loads and compiles for 14 minutes of four hours.", 4, facts=SLURM
        )
        .cpu(after(0.23, 3, 1))
        .gpu(0, after(0.23, 96), own_gb=after(0.1, 60)),
    ]
    usual = [
        Sketch("healthy-resnet", "One GPU, busy.", 8, facts=SLURM).gpu(0, 93, 5).cpu(7),
        Sketch("healthy-resnet-unknown-container", "One GPU, busy; nobody knows whose.", 3).gpu(
            0, 84, 8, own_gb=None
        ),
        Sketch(
            "healthy-evaluation-phases",
            "An evaluation on the CPU after each epoch.",
            6,
            facts=SLURM,
        )
        .gpu(0, by_turns(0.45, 0.72, 92, 12))
        .cpu(by_turns(0.45, 0.72, 3, 14)),
        Sketch("healthy-fluctuating", "Swings between epochs and validation.", 5, facts=SLURM).gpu(
            0, by_turns(0.3, 0.65, 97, 4), 2
        ),
        Sketch("healthy-checkpoint-bursts", "Writes a checkpoint every 20 minutes.", 6, facts=SLURM)
        .gpu(0, by_turns(1 / 3, 0.88, 92, 20))
        .set("pressure/io_some_percentage", by_turns(1 / 3, 0.88, 0.5, 70), 0.4, (0, 100))
        .set("process/io_write_megabytes", ramp(0, 6, 0, 220_000)),
        Sketch("healthy-power-capped", "At its power limit, as it should be.", 8, facts=SLURM)
        .gpu(0, 99, 1)
        .set("gpu_0/throttled_power_percentage", 82, 6, (0, 100)),
        Sketch("healthy-full-gpu-memory", "A batch that just fits.", 4, facts=SLURM).gpu(
            0, 97, 2, own_gb=77
        ),
        Sketch("healthy-corrected-ecc", "ECC corrected two errors.", 9, facts=SLURM)
        .gpu(0, 96, 2)
        .set("gpu_0/ecc_corrected_errors", after(5, 2)),
        Sketch("healthy-subset", "Two of eight GPUs by CUDA_VISIBLE_DEVICES, both busy.", 4)
        .gpu(0, 90)
        .gpu(1, 89),
        Sketch(
            "healthy-single-process-gpu",
            "The launching thread keeps one core busy.",
            4,
            facts=SLURM,
        )
        .gpu(0, 91)
        .cpu(1.01, 0.01),
        Sketch("healthy-xgboost", "Boosting on all cores.", 2, cpus=32).cpu(30.5),
        Sketch("healthy-uses-up-its-quota", "Four threads in a quota of four CPUs.", 3, cpus=4)
        .cpu(3.98, 0.01)
        .quota(96, 3, 0.03),
        Sketch("healthy-cpu-quota", "85 % of a quota of eight CPUs.", 3, cpus=8)
        .cpu(6.8)
        .quota(3, 2),
        Sketch(
            "healthy-bursts-throttled", "Throttled while data are augmented, briefly.", 5, cpus=8
        )
        .cpu(by_turns(1, 0.12, 7.9, 4))
        .quota(by_turns(1, 0.12, 80, 2), 1),
        Sketch("healthy-other-jobs-io", "Another job's I/O on the host.", 4)
        .cpu(14)
        .set("pressure/io_some_percentage", 55, 12, (0, 100))
        .set("process/io_read_megabytes", ramp(0, 0.1, 0, 900)),
        Sketch(
            "healthy-other-jobs-io-gpu", "Another job's I/O beside a GPU that is busy enough.", 4
        )
        .gpu(0, 71, 8)
        .set("pressure/io_some_percentage", 48, 12, (0, 100)),
        Sketch("healthy-one-core-laptop", "One core of a laptop of two.", 1, cpus=2).cpu(1, 0.01),
        Sketch("healthy-mixed-cores", "One core at times, all at others.", 3).cpu(
            by_turns(0.3, 0.5, 1, 14)
        ),
    ]
    memory = [
        Sketch(
            "healthy-cache-fills", "Decoded images are kept: 80 GB in an epoch of 90 minutes.", 6
        )
        .gpu(0, 88)
        .memory(ramp(0.05, 1.5, 6, 86))
        .set("process/io_read_megabytes", ramp(0.05, 1.5, 0, 52_000)),
        Sketch(
            "healthy-cache-fills-live", "The same in its first hour.", 1, memory_gb=128, ended=False
        )
        .gpu(0, 88)
        .memory(ramp(0.05, 1.5, 6, 86))
        .set("process/io_read_megabytes", ramp(0.05, 1.5, 0, 52_000)),
        Sketch("healthy-page-cache", "The container's page cache is full; that is its purpose.", 5)
        .memory(30)
        .container(ramp(0, 1, 35, 122)),
        Sketch("healthy-forked-loaders", "RSS of 24 workers climbs, PSS does not.", 6, facts=SLURM)
        .gpu(0, 90)
        .memory(22, 0.1, rss=ramp(0.2, 6, 24, 118)),
        Sketch("healthy-saw-tooth", "Predictions of an epoch are kept until its end.", 6).memory(
            saw(0.7, 8, 30), 0.3
        ),
        Sketch("healthy-big-steps", "Each fold loads its data and drops them.", 5).memory(
            by_turns(1, 0.7, 60, 12), 0.5
        ),
        Sketch("healthy-lazy-allocation", "Grows for an hour, then stays.", 6).memory(
            lambda now: 6 + 14 * (1 - math.exp(-3 * now)), 0.1
        ),
        Sketch("healthy-slow-drift", "Fragmentation: 0.3 GB in ten hours.", 10).memory(
            ramp(0, 10, 20, 20.3), 0.05
        ),
        Sketch(
            "healthy-replay-buffer",
            "A buffer that is full after 60 % of the run.",
            10,
            memory_gb=64,
        )
        .memory(ramp(0, 6, 4, 24), 0.1)
        .gpu(0, 62, 9),
        Sketch("healthy-log-growth", "An index that grows ever more slowly.", 8).memory(
            lambda now: 10 + 4 * math.log1p(6 * now), 0.1
        ),
        Sketch("healthy-stale-swap", "Swap is full of what nobody needs, since last week.", 5)
        .set("memory/swap_usage_megabytes", 7900, 5)
        .set("memory/swap_usage_percentage", 96, 0.1)
        .set("process/memory_swap_megabytes", 40, 1),
        Sketch("healthy-cold-pages-swapped", "Cold pages go to swap and nobody misses them.", 6)
        .set("process/memory_swap_megabytes", ramp(1, 2, 0, 1800), 5)
        .set("pressure/memory_some_percentage", 0.02, 0.02, (0, 100)),
        Sketch("healthy-full-host", "Others fill the host's memory; the run is small.", 4)
        .memory(5)
        .host_memory(120),
        Sketch("healthy-mapped-dataset", "Pages of a mapped file of 90 GB come in.", 6)
        .memory(ramp(0, 6, 6, 96), mapped=ramp(0, 6, 0, 90))
        .gpu(0, 87),
        Sketch("healthy-dataset-in-memory", "A dataset of 70 % of the container.", 4, memory_gb=64)
        .memory(after(0.3, 45, 12))
        .container(after(0.3, 48, 14)),
        Sketch("healthy-many-descriptors", "3,000 descriptors over 64 workers.", 6)
        .set("process/num_fds", 3000, 40)
        .set("process/fds_usage_percentage", 22, 1, (0, 100)),
    ]
    odd = [
        Sketch("healthy-big-disk", "A disk of 4 TB, 94 % full.", 5).disk(240, 4000),
        Sketch("healthy-small-root", "A root of 8 GB with 1.2 GB left; the work lies elsewhere.", 5)
        .disk(1.2, 8)
        .disk(700, 1000, "disk/working_directory_"),
        Sketch("healthy-disk-fills-and-stops", "Unpacks 300 GB in an hour, then trains.", 8).disk(
            ramp(0, 1, 400, 100), 1000
        ),
        Sketch("healthy-full-disk-nobody-writes", "96 % of a laptop's disk, as ever.", 2, cpus=8)
        .cpu(5)
        .disk(18, 494),
        Sketch("healthy-short", "Two minutes; the GPU was not needed yet.", 0.03, facts=SLURM).gpu(
            0, 0, own_gb=0
        ),
        Sketch(
            "healthy-short-test", "A smoke test of four minutes at 10 %.", 0.065, facts=SLURM
        ).gpu(0, 10, 4),
        Sketch("healthy-gaps", "The store was away for an hour, twice.", 9, facts=SLURM)
        .gpu(0, 90)
        .without(2, 3)
        .without(5, 6.2),
        Sketch("healthy-laptop-slept", "Suspended overnight.", 14, cpus=8).cpu(7).without(3, 12),
        Sketch(
            "healthy-resumed", "Resumed after ten hours: its memory starts anew.", 16, facts=SLURM
        )
        .memory(lambda now: 8 + 1.5 * min(now % 13, 1))
        .gpu(0, lambda now: 92 if now % 13 > 0.15 else 2)
        .without(3, 13),
        Sketch("healthy-idle-notebook", "A notebook: computes now and then.", 6, facts=NOTEBOOK)
        .gpu(0, by_turns(1.5, 0.06, 80, 0), 0.3, own_gb=6)
        .cpu(by_turns(1.5, 0.06, 1, 0.01)),
        Sketch(
            "healthy-notebook-on-cluster",
            "A notebook on a GPU that SLURM gave.",
            5,
            facts=NOTEBOOK | SLURM,
        )
        .gpu(0, 0, own_gb=0)
        .cpu(0.05),
        Sketch("healthy-nested-trials", "Trials one after another: memory and GPU by turns.", 6)
        .gpu(0, by_turns(0.5, 0.85, 86, 3))
        .memory(by_turns(0.5, 0.85, 18, 7), 0.2),
        Sketch("healthy-mlflows-own", "MLflow's own monitor; busy.", 4)
        .gpu(0, 92)
        .only(*MLFLOWS_OWN),
        Sketch("healthy-mlflows-own-cpu-only", "MLflow's own monitor beside an idle GPU.", 4)
        .gpu(0, 0, own_gb=0)
        .cpu(14)
        .only(*MLFLOWS_OWN),
        Sketch(
            "healthy-long-quiet-service", "Waits for requests; a quarter of a core.", 20, cpus=4
        ).cpu(0.25),
    ]
    nodes = Sketch("healthy-two-nodes", "Two nodes, both busy.", 6, facts=SLURM, cpus=32)
    nodes.gpu(0, 92).gpu(1, 91).node(0)
    nodes.gpu(0, 90).gpu(1, 93).cpu(4).memory(20).node(1)
    nodes.facts["sys.gpu_count"] = "2"
    for sketch in usual:
        if sketch.name == "healthy-subset":
            sketch.facts["sys.gpu_count"] = "8"
    return [
        many_gpus,
        on_purpose,
        colleagues,
        box,
        container_box,
        mig,
        shared,
        shared_share,
        shared_idle,
        nodes,
        *preparing,
        *usual,
        *memory,
        *odd,
    ]


MLFLOWS_OWN = (
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_megabytes",
    "disk_usage_percentage",
    "disk_available_megabytes",
    "network_receive_megabytes",
    "network_transmit_megabytes",
    "gpu_0_utilization_percentage",
    "gpu_0_memory_usage_megabytes",
    "gpu_0_memory_usage_percentage",
    "gpu_0_power_usage_watts",
    "gpu_0_power_usage_percentage",
)


def gpu_troubles() -> list[Sketch]:
    """Runs whose GPUs wait."""
    three_unused = Sketch(
        "three-of-four-gpus-unused",
        "SLURM gave four GPUs; one is used.",
        7,
        "gpu-unused",
        facts=SLURM,
    )
    for index in range(4):
        three_unused.gpu(index, 0 if index else 94, own_gb=0.4 if index else 50)
    subset = Sketch("one-of-two-visible-unused", "Two by CUDA_VISIBLE_DEVICES.", 3, "gpu-unused")
    subset.gpu(0, 88).gpu(1, 0, own_gb=0)
    subset.facts["sys.gpu_count"] = "8"
    plugin_live = Sketch(
        "gpus-unused-live",
        "45 minutes, and the process waits for another rank.",
        0.75,
        "gpu-unused",
        facts=PLUGIN,
        ended=False,
    ).cpu(0.02)
    plugin_live.gpu(0, 0, own_gb=None).gpu(1, 0, own_gb=None)
    second_live = Sketch(
        "second-gpu-unused-live",
        "25 minutes: one GPU trains, the other waits.",
        0.42,
        "gpu-unused",
        facts=SLURM,
        ended=False,
    )
    second_live.gpu(0, 90).gpu(1, 0, own_gb=0)
    low = Sketch("eight-gpus-low", "Eight GPUs at 22 %.", 9, "gpu-low", facts=SLURM, cpus=96)
    for index in range(8):
        low.gpu(index, 22, 8, own_gb=24)
    return [
        three_unused,
        subset,
        plugin_live,
        second_live,
        low,
        Sketch(
            "forgot-to-move-to-the-gpu",
            "SLURM gave a GPU; the training runs on the CPU.",
            3,
            "gpu-unused",
            facts=SLURM,
        )
        .cpu(15)
        .gpu(0, 0, own_gb=0),
        Sketch("gpu-idle", "Small steps with long pauses.", 4, "gpu-idle", facts=SLURM)
        .cpu(0.4)
        .gpu(0, 6, 3),
        Sketch("gpu-idle-held", "Nobody gave it, but the tree holds it.", 4, "gpu-idle")
        .cpu(0.4)
        .gpu(0, 8, 3),
        Sketch("gpu-hangs", "Trains for an hour, hangs for 14.", 15, "gpu-idle", facts=SLURM)
        .cpu(lambda now: 3 if now < 1 else 0.01)
        .gpu(0, lambda now: 93 if now < 1 else 0, 1),
        Sketch("gpu-low-38", "38 %, and no reason to be seen.", 5, "gpu-low", facts=SLURM).gpu(
            0, 38, 9
        ),
        Sketch("gpu-low-24", "24 %, and no reason to be seen.", 5, "gpu-low", facts=PLUGIN).gpu(
            0, 24, 9, own_gb=None
        ),
        Sketch(
            "cpu-bound-input-quota",
            "Loader workers use up eight CPUs; the GPU waits.",
            6,
            "cpu-bound-input gpu-low",
            facts=PLUGIN,
            cpus=8,
        )
        .cpu(7.85, 0.02)
        .quota(14, 4)
        .gpu(0, 36, 10),
        Sketch(
            "cpu-bound-input-idle",
            "Two CPUs for a GPU.",
            6,
            "cpu-bound-input gpu-idle",
            facts=SLURM,
            cpus=2,
        )
        .cpu(1.97, 0.01)
        .gpu(0, 11, 4),
        Sketch(
            "cpu-bound-most-of-the-time",
            "Augmentation at the limit for 70 % of the time.",
            6,
            "cpu-bound-input gpu-low",
            facts=SLURM,
        )
        .cpu(by_turns(1, 0.7, 15.8, 3), 0.01)
        .gpu(0, by_turns(1, 0.7, 25, 60), 5),
        Sketch(
            "single-core-input",
            "num_workers=0: one core of 16 prepares the data.",
            5,
            "single-core gpu-low",
            facts=SLURM,
        )
        .cpu(1.03, 0.02)
        .gpu(0, 27, 6),
        Sketch(
            "single-core-input-12-cpus",
            "One core of twelve, and a GPU at 41 %.",
            2,
            "single-core gpu-low",
            "cpu-overprovisioned",
            facts=PLUGIN,
            cpus=12,
        )
        .quota()
        .cpu(1.0, 0.03)
        .gpu(0, 41, 6),
        Sketch(
            "single-core-cpu-job",
            "SLURM gave 16 cores; n_jobs was left at 1.",
            6,
            "single-core",
            "cpu-overprovisioned",
            facts={"sys.slurm_job_id": "7"},
        )
        .quota()
        .cpu(1.0, 0.01),
        Sketch(
            "io-bound-nfs",
            "Small files from a share; the container waits for I/O.",
            6,
            "io-bound gpu-low",
            facts=PLUGIN,
        )
        .cpu(2.2)
        .gpu(0, 23, 7)
        .set("container/pressure_io_some_percentage", 66, 8, (0, 100))
        .set("pressure/io_some_percentage", 71, 8, (0, 100))
        .set("process/io_read_megabytes", ramp(0, 6, 0, 400_000)),
        Sketch(
            "io-bound-host",
            "Reads from a slow disk; the GPU waits.",
            6,
            "io-bound gpu-idle",
            facts=SLURM,
        )
        .cpu(0.7)
        .gpu(0, 12, 5)
        .set("pressure/io_some_percentage", 58, 10, (0, 100))
        .set("process/io_read_megabytes", ramp(0, 6, 0, 900_000)),
        Sketch(
            "io-bound-cpu-training",
            "Reads from a slow disk; the cores wait.",
            3,
            "io-bound",
            cpus=8,
        )
        .cpu(0.5)
        .set("pressure/io_some_percentage", 74, 8, (0, 100))
        .set("pressure/io_full_percentage", 60, 8, (0, 100))
        .set("process/io_read_megabytes", ramp(0, 3, 0, 120_000)),
        Sketch(
            "gpu-thermal",
            "Held down by heat for a fifth of the time.",
            8,
            "gpu-thermal",
            facts=SLURM,
        )
        .gpu(0, 96, 2)
        .set("gpu_0/throttled_thermal_percentage", 19, 6, (0, 100)),
        Sketch(
            "gpu-thermal-one-of-two", "One of two GPUs is too hot.", 8, "gpu-thermal", facts=SLURM
        )
        .gpu(0, 96, 2)
        .gpu(1, 95, 2)
        .set("gpu_1/throttled_thermal_percentage", 31, 9, (0, 100))
        .set("gpu_1/throttled_hardware_percentage", 12, 5, (0, 100)),
        Sketch(
            "gpu-thermal-live",
            "Half an hour, and it is too hot.",
            0.5,
            "gpu-thermal",
            facts=PLUGIN,
            ended=False,
        )
        .gpu(0, 94, 3, own_gb=None)
        .set("gpu_0/throttled_thermal_percentage", 42, 9, (0, 100)),
        Sketch("ecc-error", "One uncorrectable error.", 5, "ecc-errors", facts=SLURM)
        .gpu(0, 95, 3)
        .set("gpu_0/ecc_uncorrected_errors", after(3.2, 1)),
        Sketch(
            "ecc-error-early-live",
            "An uncorrectable error after two minutes.",
            0.05,
            "ecc-errors",
            facts=SLURM,
            points=8,
            ended=False,
        )
        .gpu(0, 95, 3)
        .set("gpu_0/ecc_uncorrected_errors", after(0.03, 3)),
        Sketch(
            "mlflows-own-idle-gpu", "MLflow's own monitor; a GPU at 4 %.", 5, "", "gpu-idle gpu-low"
        )
        .gpu(0, 4, 2)
        .only(*MLFLOWS_OWN),
    ]


def other_troubles() -> list[Sketch]:
    """Runs that are slow, or in danger, for other reasons."""
    one_node_low = Sketch(
        "one-node-slow",
        "The other node's GPUs have little to do.",
        6,
        "rank-imbalance",
        "gpu-low gpu-idle",
        facts=SLURM,
        cpus=32,
    )
    one_node_low.gpu(0, 92).gpu(1, 91).node(0)
    one_node_low.gpu(0, 21).gpu(1, 24).cpu(4).memory(20).node(1)
    hangs = Sketch(
        "one-node-of-four-hangs",
        "One of four nodes does next to nothing.",
        8,
        "rank-imbalance",
        "gpu-low gpu-idle",
        facts=SLURM,
        cpus=32,
    )
    for number in range(4):
        hangs.cpu(6).memory(20).gpu(0, 4 if number == 2 else 84, 6).node(number)
    hangs.facts["sys.gpu_count"] = "1"
    leak_on_node = Sketch(
        "leak-on-node-1", "The second node leaks.", 9, "memory-leak", "oom-forecast", cpus=32
    )
    leak_on_node.node(0)
    leak_on_node.cpu(4).memory(ramp(0, 9, 9, 44), 0.2).node(1)
    return [
        one_node_low,
        hangs,
        leak_on_node,
        Sketch("throttled", "Two CPUs for 64 threads.", 3, "cpu-throttled", cpus=2)
        .cpu(1.98, 0.01)
        .quota(92, 4),
        Sketch(
            "throttled-and-idle",
            "All threads run at once, then wait for the next period.",
            3,
            "cpu-throttled",
            cpus=4,
        )
        .cpu(2.3)
        .quota(64, 9),
        Sketch(
            "throttled-in-the-end", "The last 80 minutes of four hours.", 4, "cpu-throttled", cpus=4
        )
        .cpu(lambda now: 3.95 if now > 2.6 else 2)
        .quota(lambda now: 75 if now > 2.6 else 1, 1),
        Sketch(
            "leak",
            "Keeps the graph of each loss: 36 GB in ten hours.",
            10,
            "memory-leak",
            "oom-forecast",
        )
        .memory(ramp(0, 10, 8, 44), 0.3)
        .gpu(0, 88),
        Sketch(
            "leak-with-saw-tooth", "Leaks 1.5 GB an epoch.", 10, "memory-leak", "oom-forecast"
        ).memory(lambda now: 8 + 2.2 * now + 3 * (now % 0.7), 0.3),
        Sketch("leak-slow", "2.6 GB in 20 hours.", 20, "memory-leak", memory_gb=64).memory(
            ramp(0, 20, 6, 8.6), 0.04
        ),
        Sketch(
            "leak-in-small-container", "0.8 GB of 4.", 5, "memory-leak", "oom-forecast", memory_gb=4
        )
        .memory(ramp(0, 5, 1, 1.8), 0.02)
        .container(ramp(0, 5, 1.1, 1.9)),
        Sketch("leak-with-gaps", "Leaks; the store was away.", 10, "memory-leak", "oom-forecast")
        .memory(ramp(0, 10, 8, 40), 0.3)
        .without(4, 5),
        Sketch(
            "leak-of-workers",
            "Each epoch leaves its workers behind.",
            8,
            "memory-leak",
            "oom-forecast",
        )
        .memory(lambda now: 6 + 2 * math.floor(now / 0.4), 0.1)
        .set("process/num_processes", lambda now: 5 + 4 * math.floor(now / 0.4)),
        Sketch(
            "oom-forecast-live",
            "45 minutes, 55 % of the limit, and it climbs.",
            0.75,
            "oom-forecast",
            "memory-leak",
            memory_gb=64,
            ended=False,
        )
        .memory(ramp(0, 0.75, 6, 35), 0.1)
        .container(ramp(0, 0.75, 7, 36)),
        Sketch(
            "oom-forecast-host-live",
            "The same, without a limit but the host's.",
            1.2,
            "oom-forecast",
            "memory-leak",
            memory_gb=64,
            ended=False,
        ).memory(ramp(0, 1.2, 6, 40), 0.1),
        Sketch(
            "near-limit", "94 % of the container's memory.", 5, "memory-near-limit", memory_gb=64
        )
        .memory(by_turns(0.8, 0.5, 40, 59))
        .container(by_turns(0.8, 0.5, 41, 60.2)),
        Sketch("near-the-hosts-memory", "It fills the host.", 5, "memory-near-limit", memory_gb=32)
        .memory(28)
        .host_memory(30.6),
        Sketch(
            "worker-killed",
            "A loader worker was killed.",
            3,
            "oom-killed",
            "memory-near-limit",
            memory_gb=32,
        )
        .memory(by_turns(0.5, 0.9, 14, 27))
        .container(by_turns(0.5, 0.9, 15, 31))
        .set("container/oom_kills", after(1.4, 1)),
        Sketch(
            "worker-killed-live",
            "Four minutes, and two workers were killed.",
            0.065,
            "oom-killed",
            "memory-near-limit",
            memory_gb=16,
            points=12,
            ended=False,
        )
        .memory(9)
        .container(10)
        .set("container/oom_kills", after(0.03, 2)),
        Sketch(
            "swaps",
            "What it needs goes to swap and comes back.",
            4,
            "swap-used",
            "memory-near-limit",
            memory_gb=32,
        )
        .memory(27)
        .set("process/memory_swap_megabytes", ramp(0.5, 2, 0, 4600), 60)
        .set("pressure/memory_some_percentage", after(1, 23, 0.1), 3, (0, 100))
        .set("memory/swap_usage_megabytes", ramp(0.5, 2, 200, 4900), 60),
        Sketch(
            "swaps-in-container",
            "Six gigabytes of the container go to swap, and come back, for hours.",
            6,
            "swap-used",
            "memory-near-limit",
            memory_gb=24,
        )
        .memory(17)
        .container(22)
        .set("process/memory_swap_megabytes", ramp(0.2, 3, 0, 6100), 90)
        .set("container/pressure_memory_some_percentage", after(0.8, 11, 0.1), 2, (0, 100))
        .set("pressure/memory_some_percentage", after(0.8, 4, 0.1), 1, (0, 100)),
        Sketch("disk-full", "0.3 % of the disk are left.", 3, "disk-nearly-full").disk(1.4, 500),
        Sketch(
            "disk-full-early-live",
            "A minute, and the disk is full.",
            0.02,
            "disk-nearly-full",
            points=6,
            ended=False,
        ).disk(0, 100),
        Sketch("disk-fills-at-the-end", "Checkpoints: 3 % are left.", 9, "disk-nearly-full")
        .disk(ramp(0, 9, 240, 14), 500)
        .set("process/io_write_megabytes", ramp(0, 9, 0, 226_000)),
        Sketch(
            "disk-fills-live",
            "40 minutes: full in three hours.",
            0.67,
            "disk-nearly-full",
            ended=False,
        )
        .disk(ramp(0, 0.67, 150, 122), 500)
        .set("process/io_write_megabytes", ramp(0, 0.67, 0, 28_000)),
        Sketch(
            "work-disk-fills-live",
            "The working directory's, in 12 hours.",
            2,
            "disk-nearly-full",
            ended=False,
        )
        .disk(ramp(0, 2, 700, 596), 2000, "disk/working_directory_")
        .set("process/io_write_megabytes", ramp(0, 2, 0, 104_000)),
        Sketch("leaks-descriptors", "Files that stay open: 88 % of the limit.", 6, "fd-leak")
        .set("process/num_fds", ramp(0, 6, 60, 960), 4)
        .set("process/fds_usage_percentage", ramp(0, 6, 5, 88), 0.4, (0, 100)),
        Sketch("too-many-cpus", "Three of 32 cores.", 5, "cpu-overprovisioned", cpus=32)
        .cpu(3)
        .quota(),
        Sketch("too-much-memory", "20 of 256 GB.", 5, "memory-overprovisioned", memory_gb=256)
        .memory(20)
        .container(24),
        Sketch(
            "too-much-of-both",
            "A small job in a big container.",
            8,
            "cpu-overprovisioned memory-overprovisioned",
            cpus=48,
            memory_gb=192,
        )
        .cpu(5)
        .quota()
        .memory(11)
        .container(13),
    ]


def main() -> None:
    """Write them all."""
    for old in FOLDER.glob("synthetic-*.json"):
        old.unlink()
    for sketch in [*healthy(), *gpu_troubles(), *other_troubles()]:
        sketch.history().write(FOLDER / f"synthetic-{sketch.name}.json")


if __name__ == "__main__":
    main()
