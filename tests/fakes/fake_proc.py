"""A /proc of made-up processes in a folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fakes.simulation import Simulation
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.proc_pid import CLOCK_TICKS, PAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class FakeProc:
    """Writes the files of processes below `root`; times are in seconds, sizes in pages."""

    root: Path
    clock: Simulation = field(default_factory=lambda: Simulation(1000.0))

    def __post_init__(self) -> None:
        (self.root / "proc").mkdir()

    @property
    def host(self) -> Host:
        return Host(root=self.root, system="Linux", environ={}, clock=self.clock)

    def run(  # noqa: PLR0913 - a process has many sides
        self,
        pid: int,
        parent: int = 1,
        *,
        start: float = 900.0,
        cpu: float = 0.0,
        waited: float = 0.0,
        io: tuple[int, ...] | None = (0, 0),
        group: int = 1,
        session: int = 1,
        waited_faults: int = 0,
        command: str = "a) b (c",
        state: str = "S",
        threads: int = 1,
        pages: int = 100,
        fds: int = 3,
    ) -> None:
        """Let a process be, or be otherwise than before; a zombie has no memory or descriptors."""
        if state == "Z":
            pages = fds = 0
        own, inherited, began = (round(each * CLOCK_TICKS) for each in (cpu, waited, start))
        files = {
            "stat": f"{pid} ({command}) {state} {parent} {group} {session} 0 -1 4194304 100 "
            f"{waited_faults} 0 0 {own} 0 "
            f"{inherited} 0 20 0 {threads} 0 {began} {pages * PAGE_BYTES} {pages} 18446744\n",
            "comm": f"{command}\n",
            "status": "SigIgn:\t0000000000000000\n",
            "statm": f"{pages * 10} {pages} 5 1 0 9 0\n",
        }
        if io is not None:
            files["io"] = f"rchar: 9\nwchar: 9\nread_bytes: {io[0]}\nwrite_bytes: {io[1]}\n"
            if len(io) > 2:  # old kernels do not tell what was cancelled
                files["io"] += f"cancelled_write_bytes: {io[2]}\n"
        folder = self.root / "proc" / str(pid)
        shutil.rmtree(folder / "fd", ignore_errors=True)
        (folder / "fd").mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        for number in range(fds):
            (folder / "fd" / str(number)).touch()

    def tell_threads(self, pid: int, *pages: int, fds: int = 3) -> None:
        """Write what each thread of a process says of its memory; without any it has ended."""
        for number, resident in enumerate(pages):
            folder = self.root / "proc" / str(pid) / "task" / str(pid + number)
            (folder / "fd").mkdir(parents=True)
            (folder / "statm").write_text(f"{resident * 10} {resident} 5 1 0 9 0\n")
            for descriptor in range(fds if resident else 0):
                (folder / "fd" / str(descriptor)).touch()

    def end(self, *pids: int) -> None:
        """Let processes be gone."""
        for pid in pids:
            shutil.rmtree(self.root / "proc" / str(pid))

    def tell_children(self, pid: int, *threads: tuple[int, ...]) -> None:
        """Write what each thread of a process has for children."""
        for number, children in enumerate(threads):
            folder = self.root / "proc" / str(pid) / "task" / str(pid + number)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "children").write_text("".join(f"{child} " for child in children))
