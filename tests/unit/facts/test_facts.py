from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics import facts
from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.facts import host_tags, tags_of
from mlflow_sysmetrics.facts.disk import read_disk
from mlflow_sysmetrics.facts.probes import Probes
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

LONG_S = 60.0


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that has nothing."""
    return Host(root=tmp_path, system="Linux", environ={})


@pytest.fixture
def hang() -> Iterator[Callable[[Host], dict[str, str]]]:
    """A fact that answers only once the test is over."""
    end = threading.Event()

    def read(_host: Host) -> dict[str, str]:
        end.wait(LONG_S)
        return {"sys.gpu": "late"}

    yield read
    end.set()


@pytest.fixture
def fresh(mocker: MockerFixture) -> None:
    """This machine as it is before its facts have been read."""
    mocker.patch.object(facts, "_this_machine", facts._ThisMachine())


def collected(host: Host, budget_s: float = LONG_S) -> dict[str, str]:
    probes = Probes(facts.FACTS, host, budget_s)
    probes.wait()
    return tags_of(probes.outcomes().values())


def test_each_fact_fails_alone(host: Host, mocker: MockerFixture) -> None:
    def fail(_host: Host) -> dict[str, str]:
        raise KeyError("x")

    _use(mocker, cpu=fail, memory=lambda _: {"sys.memory_gb": "1.0"}, os=fail)

    assert collected(host) == {
        "sys.memory_gb": "1.0",
        "sysmetrics.error": "cpu: KeyError: 'x'; os: KeyError: 'x'",
    }


def test_an_unavailable_fact_is_no_failure(
    host: Host, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    def absent(_host: Host) -> dict[str, str]:
        raise Unavailable("no such thing")

    _use(mocker, cpu=absent)

    with caplog.at_level(logging.DEBUG, "mlflow_sysmetrics"):
        assert collected(host) == {}
    assert "no fact cpu: no such thing" in caplog.text


def test_a_hanging_fact_costs_the_budget_and_its_own_tags(
    host: Host, mocker: MockerFixture, hang: Callable[[Host], dict[str, str]]
) -> None:
    _use(mocker, gpu=hang, memory=lambda _: {"sys.memory_gb": "1.0"})

    assert collected(host, budget_s=0.3) == {
        "sys.memory_gb": "1.0",
        "sysmetrics.error": "gpu: did not answer within 0.3 s",
    }


def test_a_late_fact_is_in_later_outcomes(host: Host) -> None:
    answer = threading.Event()

    def read(_host: Host) -> dict[str, str]:
        answer.wait(LONG_S)
        return {"sys.gpu": "late"}

    probes = Probes([("gpu", read)], host, budget_s=0.0)
    probes.wait()
    early = probes.outcomes()["gpu"]
    answer.set()
    probes._threads[0].join(LONG_S)

    assert early.error == "gpu: did not answer within 0 s"
    assert probes.outcomes()["gpu"].tags == {"sys.gpu": "late"}
    assert not probes.outcomes()["gpu"].error


def test_facts_are_read_where_no_thread_may_start(host: Host, mocker: MockerFixture) -> None:
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("at interpreter shutdown"))
    probes = Probes([("cpu", lambda _: {"sys.cpu": "Z80"})], host, budget_s=0.0)
    probes.wait()

    assert probes.outcomes()["cpu"].tags == {"sys.cpu": "Z80"}


def test_values_are_capped_and_empty_ones_left_out(host: Host, mocker: MockerFixture) -> None:
    _use(mocker, cpu=lambda _: {"sys.cpu": "x" * 10_000, "sys.os": ""})

    assert collected(host) == {"sys.cpu": "x" * (MAX_TAG_LENGTH - 3) + "…"}


@pytest.mark.usefixtures("fresh")
def test_the_static_facts_of_this_machine_are_read_once(mocker: MockerFixture) -> None:
    started = threading.Barrier(8)
    reads = []

    def read(_host: Host) -> dict[str, str]:
        reads.append(1)
        return {"sys.cpu": "Z80"}

    _use(mocker, cpu=read)
    answers: list[dict[str, str]] = []

    def call() -> None:
        started.wait(LONG_S)
        answers.append(host_tags(LONG_S))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(reads) == 1
    assert [tags["sys.cpu"] for tags in answers] == ["Z80"] * 8


@pytest.mark.usefixtures("fresh")
def test_free_disk_space_is_read_each_time(mocker: MockerFixture) -> None:
    usage = mocker.patch("shutil.disk_usage")
    usage.return_value.free, usage.return_value.total = 5_000_000_000, 9_000_000_000
    _use(mocker, disk=read_disk)

    first = host_tags(LONG_S)
    usage.return_value.free = 4_000_000_000

    assert first["sys.disk_free_gb"] == "5.0"
    assert host_tags(LONG_S)["sys.disk_free_gb"] == "4.0"


@pytest.mark.usefixtures("fresh")
def test_a_disk_that_hangs_costs_its_tags_alone(
    mocker: MockerFixture, hang: Callable[[Host], dict[str, str]]
) -> None:
    mocker.patch.object(facts, "_DISK", ("disk", hang))
    _use(mocker, cpu=lambda _: {"sys.cpu": "Z80"}, disk=hang)
    budget_s = 0.05

    for _ in range(2):
        assert host_tags(budget_s) == {
            "sys.cpu": "Z80",
            "sysmetrics.error": "disk: did not answer within 0.05 s",
        }


@pytest.mark.usefixtures("fresh")
def test_a_deleted_working_directory_costs_the_disk_tags_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    _use(mocker, cpu=lambda _: {"sys.cpu": "Z80"}, disk=read_disk)
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    deleted.rmdir()

    assert host_tags(LONG_S) == {"sys.cpu": "Z80"}


@pytest.mark.usefixtures("fresh")
def test_callers_may_change_what_they_get(mocker: MockerFixture) -> None:
    _use(mocker, cpu=lambda _: {"sys.cpu": "Z80"})
    host_tags(LONG_S).clear()

    assert host_tags(LONG_S)["sys.cpu"] == "Z80"


def test_a_forked_child_keeps_what_is_known(mocker: MockerFixture) -> None:
    _use(mocker, cpu=lambda _: {"sys.cpu": "Z80"})
    machine = facts._ThisMachine()
    probes = machine.probes(LONG_S)
    probes.wait()

    machine.after_fork()

    assert machine.probes(LONG_S) is probes


def test_a_forked_child_reads_anew_what_its_parent_was_reading(
    mocker: MockerFixture, hang: Callable[[Host], dict[str, str]]
) -> None:
    _use(mocker, gpu=hang)
    machine = facts._ThisMachine()
    inherited = machine.probes(LONG_S)
    machine._lock.acquire()  # another thread of the parent holds it

    machine.after_fork()

    assert machine.probes(LONG_S) is not inherited


def test_a_forked_child_does_not_wait_again_for_what_hung(
    mocker: MockerFixture, hang: Callable[[Host], dict[str, str]]
) -> None:
    _use(mocker, gpu=hang)
    machine = facts._ThisMachine()
    inherited = machine.probes(budget_s=0.0)

    machine.after_fork()

    assert machine.probes(LONG_S) is inherited


def test_psutil_broken_at_import_costs_only_what_needs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    root = Path(__file__).parents[2] / "data/hosts/raspberry-pi-4"

    tags = collected(Host(root=root, system="Linux"))

    error = tags["sysmetrics.error"]
    assert error.startswith("cpu_physical_cores: ModuleNotFoundError: ")
    assert not [name for name, _ in facts.FACTS if f"; {name}: " in error]
    assert tags["sys.cpu"] == "Arm Cortex-A72"
    assert tags["sys.memory_gb"] == "3.98"


def test_a_forked_process_has_the_same_tags() -> None:
    script = """
import os
from mlflow_sysmetrics.facts import host_tags
tags = host_tags(60.0)
child = os.fork()
if not child:
    mine = host_tags(60.0)
    changing = ("sys.disk_free_gb",)
    os._exit(any(mine[key] != tags[key] for key in tags if key not in changing))
raise SystemExit(os.waitpid(child, 0)[1])
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=LONG_S)


def _use(mocker: MockerFixture, **facts_by_name: Callable[[Host], dict[str, str]]) -> None:
    mocker.patch.object(facts, "FACTS", tuple(facts_by_name.items()))
