"""A SLURM cluster of two hosts on this machine, each with a slurmd of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fakes.waiting import eventually
from integration.servers import ServerError, free_port
from integration.training import on_host

if TYPE_CHECKING:
    from typing_extensions import Self

_PROGRAMS = ("munged", "slurmctld", "slurmd", "srun")

_CONFIGURATION = """
ClusterName=lab
SlurmctldHost={controller}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/linear
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class Slurm:
    """A context manager that starts munge, the controller and a slurmd a host, and ends them.

    Args:
        hosts: Names of the hosts.
    """

    def __init__(self, *hosts: str) -> None:
        self._hosts = hosts
        self._folder = Path()
        self._started = ExitStack()

    def __enter__(self) -> Self:
        missing = [each for each in _PROGRAMS if shutil.which(each, path=_path()) is None]
        if missing:
            raise ServerError(
                f"{missing} not installed: apt-get install slurmctld slurmd slurm-client munge"
            )
        self._folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._started.callback(shutil.rmtree, self._folder, ignore_errors=True)
        try:
            self._start_all()
        except BaseException:
            self._started.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._started.close()

    @property
    def variables(self) -> dict[str, str]:
        """By which srun and sinfo find it."""
        return {"SLURM_CONF": str(self._configuration), "PATH": _path()}

    @property
    def _configuration(self) -> Path:
        return self._folder / "slurm.conf"

    def _start_all(self) -> None:
        self._folder.chmod(0o755)
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        nodes = [
            f"NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()}"
            f" CPUs={os.cpu_count()} State=UNKNOWN"
            for host in self._hosts
        ]
        (self._folder / "state").mkdir()
        filled_in = _CONFIGURATION.format(
            controller=os.uname().nodename,
            port=free_port(),
            folder=self._folder,
            nodes="\n".join(nodes),
        )
        self._configuration.write_text(filled_in)
        socket, log = self._folder / "munge.socket", self._folder / "munged.log"
        files = ("--key-file", str(key), "--socket", str(socket), "--log-file", str(log))
        own = ("--pid-file", f"{self._folder}/munged.pid", "--seed-file", f"{self._folder}/seed")
        self._start("munged", "--foreground", "--force", *files, *own)
        eventually(socket.exists)
        self._start("slurmctld", "-D")
        for host in self._hosts:
            self._start(*on_host(host, ("slurmd", "-D", "-N", host)))
        eventually(self._is_idle)

    def _start(self, *command: str | Path) -> None:
        log = (self._folder / "output.log").open("a")
        self._started.callback(log.close)
        process = subprocess.Popen(
            command,
            env=os.environ | self.variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._started.callback(_end, process)

    def _is_idle(self) -> bool:
        """Whether all hosts wait for work."""
        states = self._ask("sinfo", "--noheader", "--Node", "--format=%T").split()
        return states == ["idle"] * len(self._hosts)

    def _ask(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env=os.environ | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        return done.stdout


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
