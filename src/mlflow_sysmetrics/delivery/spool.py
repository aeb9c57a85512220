"""Samples on disk: what a store did not take in time, kept for a later process.

One file for each run and process, appended to and read in order, deleted when all in it is sent.
Each line carries a checksum and stands for itself, so that a crash in mid-write costs that line
alone:

    5d1f0a8c {"format": 1, "run_id": "…", "tracking_uri": "…", "prefix": "system/", …}
    90b2c3ee [12, 1700000000000, {"cpu_utilization_percentage": 41.5, …}]
    1c62ab03 {"sent_to": 13}

A file is locked by the process that owns it, by a lock that the system lets go of when the process
ends; a child that is forked has none. Where the file system has no locks, others leave a file alone
while it is being written to.

Where the file system may hang, a process of its own works on the files, and has the locks; see
`file_helper.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.delivery import spool_calls
from mlflow_sysmetrics.delivery.checked_lines import checked_line, read_checked_lines
from mlflow_sysmetrics.delivery.file_lock import lock_file
from mlflow_sysmetrics.delivery.outbox import Sample, samples_of, up_to
from mlflow_sysmetrics.delivery.run_address import RunAddress, portable_uri
from mlflow_sysmetrics.delivery.run_store import MAX_METRICS_A_BATCH
from mlflow_sysmetrics.file_helper import NoAnswerError, files_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.file_helper import Files

SUFFIX = ".spool"
MAX_FILE_BYTES = 256 * 2**20
"""What one run may leave: a week at an interval of 10 s, at some 4 kB a sample."""
MAX_FOLDER_BYTES = 2**30
"""What all may leave; about so much, for it is looked at now and then only."""

_FORMAT = 1
_HEADER_FIELDS = {"run_id", "tracking_uri", "prefix", "first_step", "tags"}
_FOLDER_CHECKED_EVERY_BYTES = 2**20  # which a file grows by: there may be thousands of files
_COPIED_AT_ONCE = 1000  # samples, some 4 MB
_AT_REST_S = 600.0  # where there are no locks, a file not written to for so long has no owner


class SpoolError(Exception):
    """A file cannot be taken up; the message says why."""


class _OwnedFiles:
    """The files of this process: to lock one again would succeed, and to close it would unlock it.

    Attributes:
        by_path: The files.
        opening: Held while one is opened and entered; reentrant, for a signal handler that ends a
            run.
    """

    def __init__(self) -> None:
        self.by_path: dict[Path, Spool] = {}
        self.opening = threading.RLock()

    def disown_all(self) -> None:
        """Let go of the parent's files, in a forked child; the parent's locks stay."""
        self.opening = threading.RLock()  # a thread that the child does not have may hold it
        for spool in [*self.by_path.values()]:
            with contextlib.suppress(OSError):
                spool.release()
        self.by_path.clear()


owned_files = _OwnedFiles()


class Spool:
    """One file, owned by this process.

    Not for several threads at once.

    Attributes:
        path: The file.
        address: The run; the tracking URI is a portable one.
        first_step: Step of the run to which the samples' steps are added; None where the run is a
            resumed one and could not be asked yet.
        tags: Tags to set on a resumed run that has none of them.
        sent_to: All samples before this step are in the store.
        dropped: Samples of this process that were lost for want of memory and disk.
    """

    def __init__(
        self,
        path: Path,
        files: Files,
        descriptor: int,
        address: RunAddress,
        first_step: int | None,
        tags: Mapping[str, str],
    ) -> None:
        self.path = path
        self.address = address
        self.first_step = first_step
        self.tags = tags
        self.sent_to = 0
        self.dropped = 0
        self._files = files
        self._descriptor = descriptor
        self._size = files.call(spool_calls.file_state, descriptor)[0]
        self._read_some = _reader(files, descriptor)
        self._read_to = 0
        self._has_room_to = 0  # up to this size of the file, the folder need not be looked at
        owned_files.by_path[path] = self

    @classmethod
    def create(
        cls, folder: Path, address: RunAddress, first_step: int | None, tags: Mapping[str, str]
    ) -> Spool:
        """Make a file; the folder, too, private to the user.

        Raises:
            OSError: The disk refuses.
        """
        files = files_at(str(folder))
        files.call(spool_calls.make_folder, str(folder))
        run = re.sub(r"[^\w.-]", "_", address.run_id)[:64]
        path = folder / f"{run}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        with owned_files.opening:  # else a thread that takes it for left behind may end our lock
            descriptor = files.call(spool_calls.create_file, str(path))
            spool = cls(path, files, descriptor, address, first_step, dict(tags))
        header = {
            "format": _FORMAT,
            "run_id": address.run_id,
            "tracking_uri": portable_uri(address.tracking_uri),
            "prefix": address.prefix,
            "workspace": address.workspace,
            "first_step": first_step,
            "tags": spool.tags,
        }
        try:
            # If it can be locked; another process may just look at it.
            files.call(lock_file, descriptor, wait=True)
            spool._write([header])
        except OSError:
            spool.delete()
            raise
        return spool

    @classmethod
    def adopt(cls, path: Path, tracking_uri: str | None = None) -> Spool:
        """Take up the file of a process that has ended.

        Args:
            path: The file, which may be large.
            tracking_uri: The store that it is to be for, a portable one; None for any.

        Raises:
            SpoolError: It is another process's, for another store, or not readable.
            OSError: The disk refuses.
        """
        with owned_files.opening:  # by one thread at a time: a lock is the whole process's
            if path in owned_files.by_path:
                raise SpoolError("this process is sending it")
            files = files_at(str(path.parent))
            descriptor = files.call(spool_calls.open_file, str(path))
            try:
                _claim(files, descriptor)
                header = _header(_reader(files, descriptor), tracking_uri)
            except BaseException:
                files.call(os.close, descriptor)
                raise
            address = RunAddress(
                header["run_id"],
                header["tracking_uri"],
                header["prefix"],
                header.get("workspace"),  # not in the files of the first versions
            )
            spool = cls(path, files, descriptor, address, header["first_step"], header["tags"])
        spool._take_up()
        return spool

    @property
    def is_deleted(self) -> bool:
        """Whether someone has deleted the file, which only this process can read then."""
        return self._files.call(spool_calls.file_state, self._descriptor)[1] == 0

    def take_over(self, other: Spool) -> None:
        """Append what is not sent of another file of this run, and let go of that.

        Raises:
            OSError: The disk refuses; then this file is deleted, and the other one as it was.
        """
        unsent = other.unsent()
        try:
            while samples := list(islice(unsent, _COPIED_AT_ONCE)):
                self.append(samples)
        except OSError:
            self.delete()
            raise
        other.release()

    def append(self, samples: Sequence[Sample]) -> None:
        """Write samples; all or none.

        Raises:
            OSError: The disk refuses, or there are enough files already.
        """
        self._write([_record_of(sample) for sample in samples])

    def mark(self, **found: int) -> None:
        """Note `sent_to`, `dropped` or `first_step` for a later process.

        A disk that refuses costs nothing: what is sent twice is stored once.
        """
        for name, value in found.items():
            setattr(self, name, value)
        with contextlib.suppress(OSError):
            self._write([found])

    def read(self, first: int, before: int, max_points: int = MAX_METRICS_A_BATCH) -> list[Sample]:
        """The next samples with steps from `first` to under `before`, no more than some points.

        Reads on where it read to, so `first` may not go back.
        """
        return up_to(max_points, self._between(first, before))

    def unsent(self) -> Iterator[Sample]:
        """All samples that are not marked as sent."""
        return (sample for _, sample in self._samples(0) if sample.step >= self.sent_to)

    def count(self) -> int:
        """How many samples are not marked as sent."""
        return samples_of(self.unsent())

    def delete(self) -> None:
        """Delete the file, which is all sent, or will never be."""
        self.release()
        with contextlib.suppress(OSError):  # then a later process finds all of it sent
            self._files.call(os.unlink, str(self.path))

    def release(self) -> None:
        """Leave the file to a later process; may be called twice."""
        if owned_files.by_path.get(self.path) is self:
            try:
                with contextlib.suppress(NoAnswerError):  # it is closed when that answers
                    self._files.call(os.close, self._descriptor)
            finally:
                del owned_files.by_path[self.path]

    def _between(self, first: int, before: int) -> Iterator[Sample]:
        for end, sample in self._samples(self._read_to):
            if sample.step >= before:
                return
            if sample.step >= first:
                yield sample
            else:
                self._read_to = end  # need not be read again

    def _samples(self, start: int) -> Iterator[tuple[int, Sample]]:
        """The samples from an offset on, with where each ends; what was written twice is one."""
        last_step = -1
        for end, record in read_checked_lines(self._read_some, start):
            if isinstance(record, list) and record[0] > last_step:
                sample = Sample(*record)
                last_step = sample.step
                yield end, sample

    def _take_up(self) -> None:
        """Find the marks, and cut off what a crash has torn."""
        end = 0
        for end, record in read_checked_lines(self._read_some):  # noqa: B007 - used after the loop
            if isinstance(record, dict):
                self.sent_to = record.get("sent_to", self.sent_to)
                self.first_step = record.get("first_step", self.first_step)
                self.dropped = record.get("dropped", self.dropped)
        if end < self._size:
            with contextlib.suppress(OSError):  # then it is skipped each time
                self._files.call(os.ftruncate, self._descriptor, end)
                self._size = end

    def _write(self, records: Sequence[object]) -> None:
        data = b"".join(checked_line(record) for record in records)
        if self._size + len(data) > MAX_FILE_BYTES:
            raise OSError(f"{self.path} would be over {MAX_FILE_BYTES // 2**20} MiB")
        if self._size + len(data) > self._has_room_to:
            in_folder = sum(size for _, _, size in _listed(self.path.parent))
            if in_folder + len(data) > MAX_FOLDER_BYTES:
                raise OSError(f"{self.path.parent} would be over {MAX_FOLDER_BYTES // 2**20} MiB")
            self._has_room_to = self._size + len(data) + _FOLDER_CHECKED_EVERY_BYTES
        self._size = self._files.call(spool_calls.append, self._descriptor, data, self._size)


def _record_of(sample: Sample) -> list[object]:
    """A sample as it is written; with how many of the host's it is made of, where it is not one."""
    record: list[object] = [sample.step, sample.timestamp_ms, sample.values]
    return record if sample.samples == 1 else [*record, sample.samples]


def spool_files(folder: Path) -> list[Path]:
    """All spool files in a folder, the oldest first; none where there is no such folder."""
    return [folder / name for name, _, _ in _listed(folder)]


def _listed(folder: Path) -> list[tuple[str, float, int]]:
    try:
        return files_at(str(folder)).call(spool_calls.list_folder, str(folder), SUFFIX)
    except OSError:
        return []


def _reader(files: Files, descriptor: int) -> Callable[[int, int], bytes]:
    return partial(files.call, spool_calls.read_at, descriptor)


def _claim(files: Files, descriptor: int) -> None:
    """Lock a file that a process has left.

    Raises:
        SpoolError: That process lives, or another one has taken it up; or so it seems.
    """
    try:
        if files.call(lock_file, descriptor, wait=False):
            return
    except OSError as error:
        raise SpoolError("another process is sending it") from error
    changed_s = files.call(spool_calls.file_state, descriptor)[2]
    if time.time() - changed_s < _AT_REST_S:
        raise SpoolError("it was written to within the last ten minutes, and cannot be locked")


def _header(read: Callable[[int, int], bytes], tracking_uri: str | None) -> dict[str, Any]:
    """The first line, which says whose samples follow.

    Raises:
        SpoolError: It is not whole, or of another version, or for another store.
    """
    _, header = next(read_checked_lines(read), (0, None))
    if (
        not isinstance(header, dict)
        or header.get("format") != _FORMAT
        or not header.keys() >= _HEADER_FIELDS
    ):
        raise SpoolError("it does not begin as the files of this version do")
    if tracking_uri not in {None, header["tracking_uri"]}:
        raise SpoolError("it is for another store")
    return header
