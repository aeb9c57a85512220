from __future__ import annotations

import errno
import json
import os
import stat
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fakes.scripted_store import sample, samples, wide_sample
from fakes.simulation import LONG_S
from mlflow_sysmetrics.delivery import checked_lines, file_lock
from mlflow_sysmetrics.delivery import spool as spool_module
from mlflow_sysmetrics.delivery.checked_lines import checked_line
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import (
    Spool,
    SpoolError,
    SpoolRefused,
    owned_files,
    spool_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

ADDRESS = RunAddress("1234", "http://somewhere", "system/node-3/")
ALL = 10**9
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="daemons are POSIX'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool.create(folder, ADDRESS, 0, {})


def steps_of(spool: Spool, first: int = 0, before: int = ALL, max_points: int = ALL) -> list[int]:
    return [each.step for each in spool.read(first, before, max_points)]


def adopted(spool: Spool) -> Spool:
    """The file as a later process takes it up."""
    spool.release()
    return Spool.adopt(spool.path)


class SmallDisk:
    """What `os.write` does when a disk gets full: a short write, then none."""

    def __init__(self, mocker: MockerFixture, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self._write = os.write
        mocker.patch("os.write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        fits = data[: self.room_bytes]
        if not fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(descriptor, fits)
        self.room_bytes -= written
        return written


# A new file


def test_a_file_is_private_to_the_user_whatever_the_umask(folder: Path) -> None:
    umask = os.umask(0)
    try:
        spool = Spool.create(folder, ADDRESS, 0, {})
    finally:
        os.umask(umask)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [spool.path]


def test_the_header_tells_whose_samples_follow(folder: Path) -> None:
    address = RunAddress("1234", "postgresql://me:secret@host/db", "system/", "team-a")

    spool = Spool.create(folder, address, None, {"sys.cpu": "EPYC"})

    content = spool.path.read_text()
    _, _, header = content.partition(" ")
    assert json.loads(header) == {
        "format": 1,
        "run_id": "1234",
        "tracking_uri": "postgresql://me@host/db",
        "prefix": "system/",
        "workspace": "team-a",
        "first_step": None,
        "tags": {"sys.cpu": "EPYC"},
    }
    assert "secret" not in content


@pytest.mark.parametrize("workspace", ["team-a", None])
def test_a_file_tells_the_workspace_of_its_run(folder: Path, workspace: str | None) -> None:
    spool = Spool.create(folder, replace(ADDRESS, workspace=workspace), 0, {})
    spool.release()

    assert Spool.adopt(spool.path).address.workspace == workspace


def test_a_file_that_tells_no_workspace_is_read(folder: Path) -> None:
    header = {"format": 1, "run_id": "1234", "tracking_uri": "http://somewhere"}
    folder.mkdir(parents=True)
    path = folder / "1.spool"
    path.write_bytes(checked_line(header | {"prefix": "system/", "first_step": 0, "tags": {}}))

    assert Spool.adopt(path).address == RunAddress("1234", "http://somewhere", "system/")


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "a/b", "x" * 300, "", "é\n*"])
def test_whatever_a_runs_id_is_its_file_is_in_the_folder(folder: Path, run_id: str) -> None:
    spool = Spool.create(folder, RunAddress(run_id, "http://somewhere", "system/"), 0, {})

    assert spool_files(folder) == [spool.path]
    with pytest.raises(SpoolRefused, match="run id"):  # MLflow gives no run such an id
        adopted(spool)


def test_each_opening_of_a_run_has_a_file_of_its_own(folder: Path) -> None:
    made = [Spool.create(folder, ADDRESS, 0, {}) for _ in range(3)]

    assert set(spool_files(folder)) == {spool.path for spool in made}
    assert len(spool_files(folder)) == 3


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="file"):
        Spool.create(tmp_path / "file" / "spool", ADDRESS, 0, {})


@pytest.mark.parametrize("room_bytes", [0, 1, 50])
def test_a_disk_without_room_for_a_header_keeps_no_file(
    folder: Path, mocker: MockerFixture, room_bytes: int
) -> None:
    SmallDisk(mocker, room_bytes)

    with pytest.raises(OSError, match="No space left"):
        Spool.create(folder, ADDRESS, 0, {})

    assert list(folder.iterdir()) == []
    assert not owned_files.by_path


def test_a_file_that_is_being_made_is_nobody_elses(folder: Path, mocker: MockerFixture) -> None:
    lock = file_lock.lock_file

    def look_and_lock(descriptor: int, *, wait: bool) -> None:
        (path,) = spool_files(folder)
        with pytest.raises(SpoolError, match="this process is sending it"):
            Spool.adopt(path)
        lock(descriptor, wait=wait)

    mocker.patch.object(spool_module, "lock_file", look_and_lock)

    spool = Spool.create(folder, ADDRESS, 0, {})

    assert spool_files(folder) == [spool.path]


def test_a_file_without_its_header_yet_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    path = folder / "1234-1-abcd.spool"
    path.touch()

    with pytest.raises(SpoolError, match="does not begin"):
        Spool.adopt(path)

    assert path.exists()


def test_what_was_written_twice_is_read_once(spool: Spool) -> None:
    spool.append([sample(0), sample(1)])
    spool.append([sample(0), sample(1), sample(2)])

    assert [each.step for each in spool.unsent()] == [0, 1, 2]
    assert [each.step for each in spool.read(0, 10)] == [0, 1, 2]


# Writing and reading


def test_samples_are_read_as_they_were_written(spool: Spool) -> None:
    written = [sample(0, cpu=0.1 + 0.2, disk=1e300), sample(1, cpu=-0.0), sample(5, cpu=5e-324)]
    spool.append(written[:2])
    spool.append(written[2:])

    assert spool.read(0, ALL) == written
    assert adopted(spool).read(0, ALL) == written


def test_samples_are_read_in_batches_of_whole_ones(spool: Spool) -> None:
    spool.append([wide_sample(step, 10) for step in range(7)])

    assert steps_of(spool, 0, max_points=25) == [0, 1]
    assert steps_of(spool, 2, max_points=25) == [2, 3]
    assert steps_of(spool, 4, max_points=5) == [4]
    assert steps_of(spool, 5) == [5, 6]
    assert steps_of(spool, 7) == []


def test_a_batch_that_was_not_sent_is_read_again(spool: Spool) -> None:
    spool.append(samples(range(4)))

    assert steps_of(spool, 1, max_points=2) == [1, 2]
    assert steps_of(spool, 1, max_points=2) == [1, 2]


def test_reading_ends_before_a_step(spool: Spool) -> None:
    spool.append(samples(range(6)))

    assert steps_of(spool, 1, before=4) == [1, 2, 3]
    assert steps_of(spool, 4, before=4) == []
    assert steps_of(spool, 4) == [4, 5]


def test_what_is_written_while_it_is_read_is_read_too(spool: Spool) -> None:
    spool.append(samples([0, 1]))
    assert steps_of(spool, 0, max_points=1) == [0]
    spool.mark(sent_to=1)
    spool.append(samples([2]))

    assert steps_of(spool, 1) == [1, 2]


def test_lines_longer_than_what_is_read_at_once_are_read_whole(spool: Spool) -> None:
    written = [wide_sample(step, 9000) for step in range(3)]
    spool.append(written)
    assert spool.path.stat().st_size > 3 * checked_lines._CHUNK_BYTES

    assert spool.read(0, ALL, ALL) == written


# A later process


def test_a_later_process_finds_all_that_was_known(folder: Path) -> None:
    spool = Spool.create(folder, ADDRESS, None, {"sys.cpu": "EPYC"})
    spool.append(samples(range(5)))

    found = adopted(spool)

    assert (found.address, found.first_step) == (ADDRESS, None)
    assert found.tags == {"sys.cpu": "EPYC"}
    assert (found.sent_to, found.left) == (0, 5)
    assert steps_of(found) == [0, 1, 2, 3, 4]


def test_a_later_process_finds_the_last_marks(folder: Path) -> None:
    spool = Spool.create(folder, ADDRESS, None, {})
    spool.append(samples(range(5)))
    spool.mark(first_step=40)
    spool.mark(sent_to=2)
    spool.mark(sent_to=3)
    assert (spool.first_step, spool.sent_to) == (40, 3)
    assert [each.step for each in spool.unsent()] == [3, 4]

    found = adopted(spool)

    assert (found.first_step, found.sent_to, found.left) == (40, 3, 2)
    assert steps_of(found, found.sent_to) == [3, 4]


def test_a_file_of_another_version_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    path = folder / "1.spool"
    path.write_bytes(checked_line({"format": 2, "run": "1234"}))

    with pytest.raises(SpoolError, match="does not begin as the files of this version do"):
        Spool.adopt(path)
    assert path.exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"\x00" * 5000])
def test_a_file_that_is_none_of_ours_is_left_alone(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True)
    path = folder / "1.spool"
    path.write_bytes(content)

    with pytest.raises(SpoolError):
        Spool.adopt(path)
    assert path.read_bytes() == content


def test_a_file_that_is_gone_is_an_oserror(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Spool.adopt(folder / "1.spool")


def test_taking_up_a_whole_file_leaves_its_age(spool: Spool) -> None:
    spool.append(samples(range(3)))
    os.utime(spool.path, (1000, 1000))

    adopted(spool)

    assert spool.path.stat().st_mtime == 1000


def test_a_file_that_is_being_made_is_not_taken_for_left_behind(
    folder: Path, mocker: MockerFixture
) -> None:
    reasons: list[str] = []

    def adopt(name: str) -> None:
        with pytest.raises(SpoolError) as caught:
            Spool.adopt(folder / os.path.basename(name))  # noqa: PTH119 - it is a string
        reasons.append(str(caught.value))

    def open_and_be_seen(path: str, flags: int, *arguments: int, **options: Any) -> int:  # noqa: ANN401 - of `os.open`
        descriptor = os_open(path, flags, *arguments, **options)
        if flags & os.O_EXCL and not threads:
            threads.append(threading.Thread(target=adopt, args=(path,)))
            threads[0].start()
            threads[0].join(0.1)  # time to go wrong in
        return descriptor

    threads: list[threading.Thread] = []
    os_open = os.open
    mocker.patch("os.open", open_and_be_seen)

    Spool.create(folder, ADDRESS, 0, {})
    threads[0].join(LONG_S)

    assert reasons == ["this process is sending it"]


# The end of a file


def test_a_file_that_is_all_sent_is_deleted(spool: Spool) -> None:
    spool.delete()

    assert not spool.path.exists()
    with pytest.raises(FileNotFoundError):
        Spool.adopt(spool.path)


def test_a_file_that_is_released_may_be_taken_up_by_another(spool: Spool) -> None:
    spool.release()
    spool.release()

    Spool.adopt(spool.path).release()


def test_to_release_a_file_twice_is_nothing_to_who_has_it_now(spool: Spool) -> None:
    later = adopted(spool)

    spool.release()

    later.append(samples([0]))
    with pytest.raises(SpoolError, match="this process is sending it"):
        Spool.adopt(spool.path)


def test_a_file_that_is_gone_already_may_be_deleted(spool: Spool) -> None:
    spool.path.unlink()

    spool.delete()


# Who owns a file, within one process


def test_a_file_of_this_process_is_not_taken_up_again(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="this process is sending it"):
        Spool.adopt(spool.path)


def test_of_many_threads_that_take_up_a_file_one_gets_it(
    spool: Spool, mocker: MockerFixture
) -> None:
    spool.release()
    count = 8
    together = threading.Barrier(count)
    opens = os.open
    outcomes: list[Spool | SpoolError] = []

    def open_slowly(path: str, flags: int, *arguments: int, **options: Any) -> int:  # noqa: ANN401 - of `os.open`
        descriptor = opens(path, flags, *arguments, **options)
        threading.Event().wait(0.05)  # time for the others to come
        return descriptor

    def adopt() -> None:
        together.wait(LONG_S)
        try:
            outcomes.append(Spool.adopt(spool.path))
        except SpoolError as reason:
            outcomes.append(reason)

    mocker.patch("os.open", open_slowly)
    threads = [threading.Thread(target=adopt) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)

    assert len(outcomes) == count
    assert sum(isinstance(each, Spool) for each in outcomes) == 1


# A disk that refuses


@pytest.mark.parametrize("room_bytes", [0, 1, 40, 200])
def test_a_disk_that_gets_full_in_mid_write_keeps_no_half_line(
    spool: Spool, mocker: MockerFixture, room_bytes: int
) -> None:
    spool.append(samples([0, 1]))
    before = spool.path.read_bytes()
    disk = SmallDisk(mocker, room_bytes)

    with pytest.raises(OSError, match="No space left"):
        spool.append(samples(range(2, 12)))
    assert spool.path.read_bytes() == before

    disk.room_bytes = 10**6
    spool.append(samples([12]))
    assert steps_of(spool) == [0, 1, 12]
    assert steps_of(adopted(spool)) == [0, 1, 12]


def test_ctrl_c_in_mid_write_costs_no_line_that_was_whole(
    spool: Spool, mocker: MockerFixture
) -> None:
    spool.append(samples([0, 1]))
    write = os.write  # the real one

    def write_and_interrupt(descriptor: int, data: bytes) -> int:
        write(descriptor, data)
        raise KeyboardInterrupt

    interrupt = mocker.patch("os.write", side_effect=write_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        spool.append(samples([2, 3]))
    mocker.stop(interrupt)
    spool.append(samples([2, 3, 4]))

    SmallDisk(mocker, room_bytes=10)
    with pytest.raises(OSError, match="No space left"):
        spool.append(samples([5]))

    assert steps_of(adopted(spool)) == [0, 1, 2, 3, 4]


# A file system without locks


@pytest.fixture
def no_locks(mocker: MockerFixture) -> None:
    """Locks are not known here, as on Lustre mounted without them."""
    error = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    mocker.patch.object(file_lock, "_lock", side_effect=error)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_samples_are_kept_all_the_same(spool: Spool) -> None:
    spool.append(samples(range(3)))
    spool.release()
    an_hour_ago_s = time.time() - 3600
    os.utime(spool.path, (an_hour_ago_s, an_hour_ago_s))

    assert steps_of(Spool.adopt(spool.path)) == [0, 1, 2]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_file_that_is_being_written_to_is_left_alone(spool: Spool) -> None:
    spool.append(samples(range(3)))

    with pytest.raises(SpoolError, match="within the last ten minutes"):
        adopted(spool)


def test_a_lock_that_another_has_is_not_taken_for_no_locks(
    spool: Spool, mocker: MockerFixture
) -> None:
    for code in (errno.EACCES, errno.EAGAIN):
        mocker.patch.object(file_lock, "_lock", side_effect=OSError(code, os.strerror(code)))

        with pytest.raises(SpoolError, match="another process is sending it"):
            adopted(spool)


def test_a_write_in_pieces_is_a_whole_write(spool: Spool, mocker: MockerFixture) -> None:
    write = os.write
    mocker.patch("os.write", lambda descriptor, data: write(descriptor, data[:7]))

    spool.append(samples(range(10)))

    assert steps_of(adopted(spool)) == list(range(10))


# A program that closes all descriptors that it finds, as daemons do


@pytest.fixture
def theirs(spool: Spool, tmp_path: Path) -> Iterator[Path]:
    """A file of the program's own, longer than the spool file, at the number that this had."""
    spool.append(samples(range(3)))
    path = tmp_path / "weights"
    path.write_bytes(bytes(100_000))
    number = spool._opened
    opened = os.open(path, os.O_RDWR)
    os.dup2(opened, number)
    os.close(opened)
    yield path
    with suppress(OSError):
        os.close(number)


@POSIX
def test_what_the_program_opens_in_place_of_a_file_is_neither_written_to_nor_cut(
    spool: Spool, theirs: Path
) -> None:
    spool.append(samples(range(3, 6)))

    assert theirs.read_bytes() == bytes(100_000)
    assert steps_of(spool) == [0, 1, 2, 3, 4, 5]
    assert steps_of(adopted(spool)) == [0, 1, 2, 3, 4, 5]


@POSIX
def test_what_the_program_opens_in_place_of_a_file_is_not_closed(
    spool: Spool, theirs: Path
) -> None:
    number = spool._opened

    spool.release()

    assert os.fstat(number).st_ino == theirs.stat().st_ino


@POSIX
def test_a_file_that_the_program_closed_and_someone_exchanged_is_left_alone(
    spool: Spool, theirs: Path
) -> None:
    other = spool.path.with_name("other")
    other.write_text("another's")
    other.chmod(0o600)
    other.replace(spool.path)

    with pytest.raises(FileNotFoundError, match="another file by now"):
        spool.append(samples(range(3, 6)))

    assert spool.path.read_text() == "another's"
    assert theirs.read_bytes() == bytes(100_000)


def test_a_mark_that_cannot_be_written_costs_nothing(spool: Spool, mocker: MockerFixture) -> None:
    spool.append(samples(range(3)))
    SmallDisk(mocker, 5)

    spool.mark(sent_to=2)

    assert spool.sent_to == 2
    assert adopted(spool).sent_to == 0  # what is sent twice is stored once


def test_a_file_is_bounded(spool: Spool, mocker: MockerFixture) -> None:
    mocker.patch.object(spool_module, "MAX_FILE_BYTES", spool.path.stat().st_size + 100)
    spool.append(samples([0, 1]))

    with pytest.raises(OSError, match="would be over"):
        spool.append(samples([2, 3]))

    assert steps_of(spool) == [0, 1]


def test_a_folder_is_bounded(folder: Path, spool: Spool, mocker: MockerFixture) -> None:
    mocker.patch.object(spool_module, "_FOLDER_CHECKED_EVERY_BYTES", 0)
    other = Spool.create(folder, ADDRESS, 0, {})
    spool._has_room_to = 0
    full = spool.path.stat().st_size + other.path.stat().st_size + 100
    mocker.patch.object(spool_module, "MAX_FOLDER_BYTES", full)
    spool.append(samples([0]))
    other.append(samples([0]))

    for each in (spool, other):
        with pytest.raises(OSError, match="would be over"):
            each.append(samples([1, 2]))

    spool.delete()
    other.append(samples([1, 2]))
    assert steps_of(other) == [0, 1, 2]


# The folder


def test_files_are_found_the_oldest_first(folder: Path) -> None:
    made = [Spool.create(folder, ADDRESS, 0, {}).path for _ in range(3)]
    for age_s, path in zip([20, 30, 10], made, strict=True):
        os.utime(path, (10**9 - age_s, 10**9 - age_s))

    assert spool_files(folder) == [made[1], made[0], made[2]]


def test_unfinished_and_foreign_files_are_not_found(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("1234-1-abcd.txt", "notes.txt", ".spool.swp"):
        (folder / name).touch()

    assert spool_files(folder) == []


def test_a_folder_that_is_not_there_has_no_files(folder: Path) -> None:
    assert spool_files(folder) == []


def test_a_file_that_goes_while_they_are_listed_is_nothing_to_the_others(
    folder: Path, spool: Spool
) -> None:
    gone = folder / "gone.spool"
    gone.symlink_to(folder / "nowhere")  # listed, but not there when it is looked at

    assert spool.path in spool_files(folder)
