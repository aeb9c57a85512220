from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.distributed import claim
from mlflow_sysmetrics.distributed.claim import Claim

if TYPE_CHECKING:
    from pathlib import Path

HOLDING = """
import sys, time
from mlflow_sysmetrics.distributed import claim
claim._HAS_ABSTRACT_SOCKETS = sys.argv[3] == "sockets"
print(claim.Claim(sys.argv[1], sys.argv[2]).acquire(), flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="starts and kills as POSIX does")


@pytest.fixture(
    params=[
        pytest.param("sockets", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux'")),
        "file",
    ]
)
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What claims are made of."""
    means: str = request.param
    monkeypatch.setattr(claim, "_HAS_ABSTRACT_SOCKETS", means == "sockets")
    return means


@pytest.fixture
def name() -> str:
    """One that no other test claims."""
    return uuid.uuid4().hex


def test_one_process_has_it_until_it_ends_however_it_does(means: str, name: str) -> None:
    ours = Claim(name, "run")
    command = [sys.executable, "-c", HOLDING, name, "run", means]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not ours.acquire()
        assert ours.holder() == (holder.pid if means == "sockets" else None)
        holder.send_signal(signal.SIGKILL)

    assert ours.acquire()
    ours.release()


@pytest.mark.usefixtures("means")
def test_one_claim_in_a_process_has_it_until_it_is_released(name: str) -> None:
    first, second = Claim(name, "run"), Claim(name, "run")

    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


@pytest.mark.usefixtures("means")
def test_other_things_and_other_hosts_have_other_claims(name: str) -> None:
    claims = [Claim(name, "run"), Claim(name, "another"), Claim(f"{name}0", "run")]

    assert all(each.acquire() for each in claims)
    for each in claims:
        each.release()


@pytest.mark.usefixtures("means")
def test_a_forked_child_neither_has_it_nor_keeps_it_from_others(name: str) -> None:
    ours = Claim(name, "run")
    assert ours.acquire()
    child_ends, we_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(Claim(name, "run").acquire())
            ours.release()  # not the parent's
            os.write(we_end, b"%d" % status)
            signal.pause()
        finally:
            os._exit(status)
    try:
        assert os.read(child_ends, 1) == b"0"
        ours.release()
        assert ours.acquire()
        ours.release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(child_ends)
        os.close(we_end)


def test_where_there_are_no_locks_every_process_has_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(claim, "_HAS_ABSTRACT_SOCKETS", False)
    monkeypatch.setattr(claim, "_locked_bytes", claim._LockedBytes())
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/dev/null")

    assert Claim(name, "run").acquire()
    assert Claim(name, "run").acquire()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux' sockets")
def test_a_descriptor_that_the_program_closed_and_gave_to_its_own_file_is_left_alone(
    name: str, tmp_path: Path
) -> None:
    """As a daemon does that closes all it finds open."""
    ours = Claim(name, "run")
    number = os.dup(0)
    os.close(number)
    assert ours.acquire()  # at the lowest number that is free
    os.close(number)
    theirs = os.open(tmp_path / "theirs", os.O_WRONLY | os.O_CREAT)
    assert theirs == number

    assert ours.visitors() == []
    ours.release()

    assert os.write(theirs, b"a model's weights")
    os.close(theirs)


def test_a_lock_file_that_the_program_closed_is_opened_again_and_its_own_file_left_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_HAS_ABSTRACT_SOCKETS", False)
    monkeypatch.setattr(claim, "_locked_bytes", claim._LockedBytes())
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    first = Claim(name, "run")
    assert first.acquire()
    number = claim._locked_bytes._descriptor
    assert number is not None
    os.close(number)  # and with it, the lock
    theirs = os.open(tmp_path / "theirs", os.O_WRONLY | os.O_CREAT)
    assert theirs == number
    first.release()

    command = [sys.executable, "-c", HOLDING, name, "run", "file"]
    variables = os.environ | {"TMPDIR": str(tmp_path)}
    assert Claim(name, "run").acquire()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as another:
        assert another.stdout is not None
        assert another.stdout.readline() == "False\n"
        another.kill()
    assert os.write(theirs, b"a model's weights")
    os.close(theirs)
