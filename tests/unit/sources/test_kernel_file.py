from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources.kernel_file import KernelFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are wanted


@pytest.fixture
def stat() -> Iterator[KernelFile]:
    file = KernelFile("/proc/self/stat")
    yield file
    file.close()


@on_linux
def test_a_file_of_the_kernel_is_opened_once_and_read_anew_each_time(
    stat: KernelFile, mocker: MockerFixture
) -> None:
    opened = mocker.spy(os, "open")
    first = stat.read()
    before = descriptors()

    again = [stat.read() for _ in range(3)]

    assert opened.call_count == 1
    assert descriptors() == before
    assert all(content.startswith(b"%d (" % os.getpid()) for content in (first, *again))


@on_linux
def test_a_long_file_is_read_to_its_end() -> None:
    file = KernelFile("/proc/self/maps", is_long=True)

    assert len(file.read()) > 8192  # the kernel gives it in pieces of a page
    assert file.read().endswith(b"\n")
    file.close()


@on_linux
def test_closing_frees_the_descriptor_and_may_be_repeated() -> None:
    before = descriptors()
    file = KernelFile("/proc/self/stat")
    file.read()
    file.close()
    file.close()

    assert descriptors() == before


@on_linux
def test_a_descriptor_that_the_program_closed_and_gave_to_another_file_is_neither_read_nor_closed(
    stat: KernelFile, tmp_path: Path
) -> None:
    """As a daemon does that closes all it finds open."""
    spare = os.dup(0)
    os.close(spare)
    stat.read()
    number = spare  # the lowest that is free
    (tmp_path / "theirs").write_text("a model's weights")
    theirs = os.open(tmp_path / "theirs", os.O_RDONLY)
    os.dup2(theirs, number)
    os.close(theirs)

    assert stat.read().startswith(b"%d (" % os.getpid())
    assert os.read(number, 9) == b"a model's"
    os.close(number)


@on_linux
def test_two_files_whose_descriptors_the_program_closed_are_not_taken_for_each_other() -> None:
    """Their numbers are given out again, in the order in which they are read."""
    numbers = KernelFile("/proc/self/stat"), KernelFile("/proc/self/statm")
    before = descriptors()
    first, second = (file.read() for file in numbers)
    for number in sorted(int(each) for each in descriptors() - before):
        with suppress(OSError):  # that of listing them
            os.close(number)

    assert len(numbers[1].read().split()) == len(second.split())
    assert len(numbers[0].read().split()) == len(first.split())
    for file in numbers:
        file.close()


@on_linux
def test_a_file_whose_process_has_ended_cannot_be_read_and_leaves_nothing_open() -> None:
    before = descriptors()
    pid = os.fork()
    if not pid:
        os._exit(0)
    file = KernelFile(f"/proc/{pid}/statm")
    file.read()
    os.waitpid(pid, 0)

    with pytest.raises(OSError, match=r"No such (process|file)"):
        file.read()
    assert descriptors() == before


def test_a_recorded_file_may_be_replaced_and_is_not_held_open(tmp_path: Path) -> None:
    path = tmp_path / "stat"
    path.write_text("one\n\0\0")
    file = KernelFile(str(path))
    assert file.parsed(str.strip) == "one"

    path.unlink()
    with pytest.raises(Unavailable, match="stat"):
        file.parsed(str.strip)

    path.write_text("two\n")
    assert file.parsed(str.strip) == "two"
