"""Samples on disk: what a store did not take in time, kept for a later process.

One file for each run and process, appended to and read in order, deleted when all in it is sent.
Each line carries a checksum and stands for itself, so that a crash in mid-write costs that line
alone:

    5d1f0a8c {"format": 1, "run_id": "…", "tracking_uri": "…", "prefix": "system/", …}
    90b2c3ee [12, 1700000000000, {"cpu_utilization_percentage": 41.5, …}]
    c00f8e14 [13, 1700000001000, {}, 0, {"tags": {…}, "summary": {…}}]
    1c62ab03 {"sent_to": 13}

A file is locked by the process that owns it, by a lock that the system lets go of when the process
ends; a child that is forked has none. Where the file system has no locks, others leave a file alone
while it is being written to.

Where the file system may hang, a process of its own works on the files, and has the locks; see
`file_helper.py`.

A process that takes up a file first reads all of it, in small steps, and takes it only if each line
is as this package writes lines. It notes at the end what it found, so that the next one need not
read it all:

    7be0c5d1 {"sent_to": 13, "left": 940, "read_to": 58211, …}
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
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.delivery import spool_calls
from mlflow_sysmetrics.delivery.checked_lines import (
    TORN,
    checked_line,
    first_checked_line,
    read_checked_lines,
    read_checked_texts,
)
from mlflow_sysmetrics.delivery.file_lock import lock_file
from mlflow_sysmetrics.delivery.queue import samples_of, up_to
from mlflow_sysmetrics.delivery.run_address import is_same_store
from mlflow_sysmetrics.delivery.run_store import MAX_METRICS_A_BATCH
from mlflow_sysmetrics.delivery.spool_folder import (
    MAX_FILE_BYTES,
    SUFFIX,
    SpoolError,
    SpoolRefused,
    create_file,
    delete_file,
    list_files,
    open_file,
    owner_of,
)
from mlflow_sysmetrics.delivery.spool_records import (
    Header,
    first_step_in,
    header_record,
    parse_header,
    parse_progress,
    parse_record,
)
from mlflow_sysmetrics.host.descriptors import identity_of
from mlflow_sysmetrics.host.file_helper import HERE, NoAnswerError, files_at
from mlflow_sysmetrics.log.addresses import shown_address
from mlflow_sysmetrics.sampling.sink import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflow_sysmetrics.delivery.checked_lines import Read
    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.delivery.spool_records import Steps
    from mlflow_sysmetrics.host.file_helper import Files

__all__ = [
    "MAX_FILE_BYTES",
    "Spool",
    "SpoolError",
    "SpoolRefused",
    "own_spool_files",
    "owned_files",
    "spool_files",
]

MAX_FOLDER_BYTES = 2**30
"""What all may leave; about so much, for it is looked at now and then only."""

_FOLDER_CHECKED_EVERY_BYTES = 2**20  # which a file grows by: there may be thousands of files
_COPIED_AT_ONCE = 1000  # samples, some 4 MB
_CHECKED_AT_ONCE_BYTES = 2**17  # some milliseconds
_NOTED_EVERY_BYTES = 2**23  # that are checked; a smaller file is as soon read again
_NOTED_STEPS = 100  # pieces of a file without gaps in its steps; else it is not noted
_TAIL_BYTES = 4096  # in which the last mark is
_AT_REST_S = 600.0  # where there are no locks, a file not written to for so long has no owner


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


class Extent(NamedTuple):
    """Whose records a file has, and which steps those take.

    Attributes:
        address: The run.
        first_step: Step of the run to which the records' steps are added; None if nobody knows it.
        steps: How many steps they take.
    """

    address: RunAddress
    first_step: int | None
    steps: int


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
        left: Samples that are not sent, of a file that is taken up; None of one that is made here,
            and until all of it is checked.
        is_ours: Whether it may be written to, and deleted: not where another user wrote it.
    """

    def __init__(
        self, path: Path, files: Files, descriptor: int, header: Header, *, is_ours: bool = True
    ) -> None:
        self.path = path
        self.address = header.address
        self.first_step = header.first_step
        self.tags = header.tags
        self.sent_to = 0
        self.dropped = 0
        self.left: int | None = None
        self.is_ours = is_ours
        self._files = files
        self._opened = descriptor
        self._identity = identity_of(descriptor) if files is HERE else None
        self._size = files.call(spool_calls.file_state, descriptor)[0]
        self._read_some = self._read_at
        self._read_to = 0
        self._unsent_from = 0  # before this offset, all is sent
        self._has_room_to = 0  # up to this size of the file, the folder need not be looked at
        self._check: _Check | None = None
        self._noted_to = 0  # where the check was when that was noted last
        owned_files.by_path[path] = self

    @classmethod
    def create(
        cls, folder: Path, address: RunAddress, first_step: int | None, tags: Mapping[str, str]
    ) -> Spool:
        """Make a file; the folder, too, private to the user.

        Raises:
            OSError: The disk refuses, or cannot keep the file from others.
        """
        name = f"{_name_of(address.run_id)}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        header = Header(address, first_step, dict(tags))
        with owned_files.opening:  # else a thread that takes it for left behind may end our lock
            files = files_at(str(folder))
            path, descriptor = files.call(create_file, str(folder), name)
            spool = cls(Path(path), files, descriptor, header)
        try:
            # If it can be locked; another process may just look at it.
            files.call(lock_file, descriptor, wait=True)
            spool._write([header_record(header)])
        except OSError:
            spool.delete()
            raise
        return spool

    @classmethod
    def adopt(
        cls, path: Path, tracking_uri: str | None = None, *, of_others: bool = False
    ) -> Spool:
        """Take up the file of a process that has ended, and check all of it.

        See `begin_to_adopt`.
        """
        spool = cls.begin_to_adopt(path, tracking_uri, of_others=of_others)
        while not spool.check_on():
            pass
        return spool

    @classmethod
    def begin_to_adopt(
        cls, path: Path, tracking_uri: str | None = None, *, of_others: bool = False
    ) -> Spool:
        """Take up the file of a process that has ended; `check_on` is to follow.

        Args:
            path: The file, which may be large.
            tracking_uri: The store that it is to be for; None for any.
            of_others: Whether another user may have written it: then it is only read.

        Raises:
            SpoolRefused: It is not ours, or not as this package writes files.
            SpoolError: It is another process's, or for another store.
            OSError: The disk refuses.
        """
        with owned_files.opening:  # by one thread at a time: a lock is the whole process's
            if path in owned_files.by_path:
                raise SpoolError("this process is sending it")
            files = files_at(str(path.parent))
            descriptor = files.call(open_file, str(path), of_others=of_others)
            if isinstance(descriptor, str):
                raise SpoolRefused(descriptor)
            try:
                _claim(files, descriptor, shared=of_others)
                end, record = first_checked_line(_reader(files, descriptor))
                header = parse_header(record)
                _check_store(header, tracking_uri)
            except BaseException:
                files.call(os.close, descriptor)
                raise
            spool = cls(path, files, descriptor, header, is_ours=not of_others)
        try:
            spool._begin_to_check(end)
        except BaseException:
            spool.release()
            raise
        return spool

    def check_on(self) -> bool:
        """Check some more of a file that is taken up, some milliseconds long.

        Returns:
            Whether all of it is checked.

        Raises:
            SpoolRefused: It says what this package does not write; it is released then.
            OSError: The disk refuses; likewise.
        """
        check = self._check
        if check is None:
            return True
        try:
            if check.go_on(_CHECKED_AT_ONCE_BYTES):
                self._check = None
                self._finish_check(check)
            elif check.end - self._noted_to >= _NOTED_EVERY_BYTES:
                self._noted_to = check.end
                self._note(check.progress())
        except BaseException:
            self.release()
            raise
        return self._check is None

    @property
    def _descriptor(self) -> int:
        """The file's, opened anew where the program has closed it; a helper's is out of its reach.

        Raises:
            OSError: It cannot be opened again, or there is another file in its place.
        """
        if not self._is_open:
            opened = open_file(str(self.path), of_others=not self.is_ours)
            if isinstance(opened, str):
                raise PermissionError(opened)
            if identity_of(opened) != self._identity:
                os.close(opened)
                raise FileNotFoundError(f"{self.path} is another file by now")
            self._opened = opened
            lock_file(opened, wait=False, shared=not self.is_ours)
        return self._opened

    @property
    def _is_open(self) -> bool:
        """Whether the descriptor is this file's still."""
        return self._files is not HERE or identity_of(self._opened) == self._identity

    def _read_at(self, start: int, size: int) -> bytes:
        return self._files.call(spool_calls.read_at, self._descriptor, start, size)

    @property
    def is_deleted(self) -> bool:
        """Whether someone has deleted the file, which only this process can read then."""
        return self._files.call(spool_calls.file_state, self._descriptor)[1] == 0

    @property
    def owner(self) -> str:
        """Who wrote the file: a user's name, or number."""
        return self._files.call(owner_of, self._descriptor)

    @property
    def modified_s(self) -> float:
        """When the file was last written to, seconds since the epoch."""
        return self._files.call(spool_calls.file_state, self._descriptor)[2]

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

    def append(self, samples: Sequence[Record]) -> None:
        """Write samples; all or none.

        Raises:
            OSError: The disk refuses, or there are enough files already.
        """
        self._write([_record_of(sample) for sample in samples])

    def mark(self, **found: int) -> None:
        """Note `sent_to`, `dropped`, `first_step` or `left` for a later process.

        With `left`, the last line tells all that a later process needs: it reads on from there. A
        disk that refuses costs nothing: what is sent twice is stored once.
        """
        for name, value in found.items():
            setattr(self, name, value)
        with contextlib.suppress(OSError):
            self._write([self._summary() if "left" in found else found], is_bounded=False)

    def read(self, first: int, before: int, max_points: int = MAX_METRICS_A_BATCH) -> list[Record]:
        """The next samples with steps from `first` to under `before`, no more than some points.

        Reads on where it read to, so `first` may not go back.
        """
        return up_to(max_points, self._between(first, before))

    def unsent(self) -> Iterator[Record]:
        """All samples that are not marked as sent."""
        return (
            sample for _, sample in self._samples(self._unsent_from) if sample.step >= self.sent_to
        )

    def count(self) -> int:
        """How many samples of the host are not marked as sent."""
        return samples_of(self.unsent())

    def count_points(self) -> int:
        """How many points and tags the samples have that are not marked as sent."""
        return sum(sample.entries for sample in self.unsent())

    def extent(self) -> Extent:
        """See `Extent`.

        Raises:
            OSError: The disk refuses.
        """
        return _extent(self._read_some)

    def delete(self) -> None:
        """Delete the file, which is all sent, or will never be; another user's stays."""
        if owned_files.by_path.get(self.path) is not self:
            return
        if not self.is_ours:
            self.release()
            return
        del owned_files.by_path[self.path]
        with contextlib.suppress(OSError):  # then a later process finds all of it sent
            self._files.call(delete_file, str(self.path), self._descriptor)

    def release(self) -> None:
        """Leave the file to a later process; may be called twice."""
        if owned_files.by_path.get(self.path) is self:
            try:
                with contextlib.suppress(NoAnswerError):  # it is closed when that answers
                    if self._is_open:
                        self._files.call(os.close, self._opened)
            finally:
                del owned_files.by_path[self.path]

    def _between(self, first: int, before: int) -> Iterator[Record]:
        for end, sample in self._samples(self._read_to):
            if sample.step >= before:
                return
            if sample.step >= first:
                yield sample
            else:
                self._read_to = end  # need not be read again

    def _samples(self, start: int) -> Iterator[tuple[int, Record]]:
        """The samples from an offset on, with where each ends; what was written twice is one."""
        last_step = -1
        for end, record in read_checked_lines(self._read_some, start):
            if not isinstance(record, list):
                continue
            try:
                sample = parse_record(record, self.address.prefix)
            except SpoolRefused:  # it has been changed since it was checked
                continue
            if isinstance(sample, Record) and sample.step > last_step:
                last_step = sample.step
                yield end, sample

    def _begin_to_check(self, header_end: int) -> None:
        """Begin where an earlier process has come to, if the last line tells that."""
        record = self._last_line(header_end)
        marks = parse_record(record, self.address.prefix) if isinstance(record, dict) else {}
        progress = parse_progress(record) if isinstance(record, dict) else None
        if isinstance(marks, dict) and marks.keys() >= {"sent_to", "left", "read_to"}:
            self._take(marks)
            self.left = marks["left"]
            self._read_to = self._unsent_from = min(marks["read_to"], self._size)
            return
        self._check = _Check(self._read_some, header_end, self.address.prefix)
        if progress is not None and isinstance(marks, dict) and progress[0] <= self._size:
            self._check.resume(*progress, marks)
            self._noted_to = progress[0]

    def _last_line(self, header_end: int) -> object:
        """What the last line says; None where that is not whole, or the file another user's."""
        if not self.is_ours:
            return None
        end, record = 0, None
        start = max(self._size - _TAIL_BYTES, header_end)
        for end, record in read_checked_lines(self._read_some, start):  # noqa: B007 - the last one
            pass
        return record if end == self._size else None

    def _finish_check(self, check: _Check) -> None:
        """Take what was found, cut off what a crash has torn, and note it for the next process."""
        self._take(check.marks)
        self.left = check.count_from(self.sent_to)
        if not self.is_ours:
            return
        if check.end < self._size:
            with contextlib.suppress(OSError):  # then it is skipped each time
                self._files.call(os.ftruncate, self._descriptor, check.end)
                self._size = check.end
        if self._size >= _NOTED_EVERY_BYTES:
            self._note(self._summary())

    def _note(self, found: Mapping[str, object]) -> None:
        """Note what was found for a later process; the file looks no newer for that."""
        if not (self.is_ours and found):
            return
        with contextlib.suppress(OSError):  # then it finds that out itself
            self._write([found], is_bounded=False, append=spool_calls.append_unseen)

    def _summary(self) -> dict[str, object]:
        """What a later process needs to read on, without reading all that was before."""
        names = ("sent_to", "dropped", "first_step", "left")
        found = {name: getattr(self, name) for name in names}
        return {"read_to": self._read_to} | {k: v for k, v in found.items() if v is not None}

    def _take(self, marks: Mapping[str, int]) -> None:
        self.sent_to = marks.get("sent_to", self.sent_to)
        self.first_step = marks.get("first_step", self.first_step)
        self.dropped = marks.get("dropped", self.dropped)

    def _write(
        self,
        records: Sequence[object],
        *,
        is_bounded: bool = True,
        append: Callable[[int, bytes, int], int] = spool_calls.append,
    ) -> None:
        if not self.is_ours:
            raise PermissionError(f"{self.path} is another user's")
        data = b"".join(checked_line(record) for record in records)
        if is_bounded and self._size + len(data) > MAX_FILE_BYTES:
            raise OSError(f"{self.path} would be over {MAX_FILE_BYTES // 2**20} MiB")
        if is_bounded and self._size + len(data) > self._has_room_to:
            in_folder = sum(size for _, size, _ in _listed(self.path.parent))
            if in_folder + len(data) > MAX_FOLDER_BYTES:
                raise OSError(f"{self.path.parent} would be over {MAX_FOLDER_BYTES // 2**20} MiB")
            self._has_room_to = self._size + len(data) + _FOLDER_CHECKED_EVERY_BYTES
        self._size = self._files.call(append, self._descriptor, data, self._size)


class _Check:
    """A look at each line of a file, in small steps.

    Args:
        read: Reads the file.
        start: Where its header ends.
        prefix: The header's.

    Attributes:
        end: Where the last whole line ends, as far as it is read.
        marks: The last ones.
    """

    def __init__(self, read: Read, start: int, prefix: str) -> None:
        self.end = start
        self.marks: dict[str, int] = {}
        self._read = read
        self._lines = read_checked_lines(read, start)
        self._prefix = prefix
        self._read_to = start
        self._steps: list[Steps] = []  # those that follow each other in one

    def go_on(self, some_bytes: int) -> bool:
        """Read some more; whether that was all.

        Raises:
            SpoolRefused: A line says what this package does not write.
        """
        before = self._read_to + some_bytes
        while self._read_to < before:
            self._read_to, record = next(self._lines, (-1, TORN))
            if self._read_to < 0:
                return True
            if record is not TORN:
                self._add(parse_record(record, self._prefix))
                self.end = self._read_to
        return False

    def resume(self, end: int, steps: list[Steps], marks: Mapping[str, int]) -> None:
        """Go on where an earlier process has come to."""
        self.end = self._read_to = end
        self.marks = dict(marks)
        self._steps = steps
        self._lines = read_checked_lines(self._read, end)

    def progress(self) -> dict[str, object]:
        """What a later process needs to go on; empty where that would be too much."""
        if len(self._steps) > _NOTED_STEPS:
            return {}
        steps = [[each.start, each.stop, samples] for each, samples in self._steps]
        return self.marks | {"checked_to": self.end, "steps": steps}

    def count_from(self, step: int) -> int:
        """How many samples of the host there are from a step on."""
        return sum(
            len(range(max(each.start, step), each.stop)) * samples for each, samples in self._steps
        )

    def _add(self, found: Record | dict[str, int]) -> None:
        if isinstance(found, dict):
            self.marks |= found
            return
        last, samples = self._steps[-1] if self._steps else (range(0), 0)
        if found.step == last.stop and found.counts_as == samples:
            self._steps[-1] = (range(last.start, found.step + 1), samples)
        elif found.step >= last.stop:
            self._steps.append((range(found.step, found.step + 1), found.counts_as))


def _check_store(header: Header, tracking_uri: str | None) -> None:
    uri = header.address.tracking_uri
    if tracking_uri is not None and not is_same_store(uri, tracking_uri):
        shown = shown_address(uri)
        raise SpoolError(f"it is for {shown}; `upload --tracking-uri {shown}` sends it")


def _record_of(sample: Record) -> list[object]:
    """A sample as JSON, which has no NaN and no infinity.

    With how many of the host's it is made of, where it is not one; and with its tags and summary,
    where it has any.
    """
    record: list[object] = [sample.step, sample.timestamp_ms, _finite(sample.values)]
    if sample.tags or sample.summary:
        more = {"tags": dict(sample.tags), "summary": _finite(sample.summary)}
        return [*record, sample.samples, more]
    return record if sample.samples == 1 else [*record, sample.samples]


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if isfinite(value)}


def spool_files(folder: Path) -> list[Path]:
    """All spool files in a folder, the oldest first; none where there is no such folder.

    Where others may write to it, those in this user's own folder there are among them.
    """
    return [path for path, _, _ in _listed(folder)]


def own_spool_files(folder: Path, run_id: str | None = None) -> list[Path]:
    """Those that this user can have written, and nobody else; of a run, or of all."""
    of_run = "" if run_id is None else f"{_name_of(run_id)}-"
    return [
        path for path, _, refusal in _listed(folder) if not refusal and path.name.startswith(of_run)
    ]


def _name_of(run_id: str) -> str:
    """A run as it may stand in the name of a file."""
    return re.sub(r"[^\w.-]", "_", run_id)[:64]


def extent_of(path: Path) -> Extent | None:
    """See `Extent`; whoever has the file. None if it is gone, or not as this package writes files.

    Raises:
        OSError: The disk refuses.
    """
    with owned_files.opening:  # to close one of this process's would unlock it
        spool = owned_files.by_path.get(path)
        if spool is not None:
            return spool.extent()
        files = files_at(str(path.parent))
        descriptor = files.call(open_file, str(path))
        if isinstance(descriptor, str):
            return None
        try:
            return _extent(_reader(files, descriptor))
        except SpoolRefused:
            return None
        finally:
            files.call(os.close, descriptor)


def _extent(read: Read) -> Extent:
    """See `Extent`; faster than a check of the file, for it is not taken up."""
    end, record = first_checked_line(read)
    header = parse_header(record)
    first_step, steps = header.first_step, 0
    for _, text in read_checked_texts(read, end):
        if text is None:
            continue
        if text.startswith(b"{"):
            first_step = first_step_in(text, first_step)
        elif found := re.match(rb"\[(\d{1,13}),", text):
            steps = max(steps, int(found[1]) + 1)
    return Extent(header.address, first_step, steps)


def _listed(folder: Path) -> list[tuple[Path, int, str]]:
    """The same, with their sizes, and why one must not be taken up."""
    try:
        found = files_at(str(folder)).call(list_files, str(folder))
    except OSError:
        return []
    return [(Path(path), size, refusal) for path, _, size, refusal in found]


def _reader(files: Files, descriptor: int) -> Read:
    return partial(files.call, spool_calls.read_at, descriptor)


def _claim(files: Files, descriptor: int, *, shared: bool) -> None:
    """Lock a file that a process has left; `shared` if it is only read.

    Raises:
        SpoolError: That process lives, or another one has taken it up; or so it seems.
    """
    try:
        if files.call(lock_file, descriptor, wait=False, shared=shared):
            return
    except OSError as error:
        raise SpoolError("another process is sending it") from error
    changed_s = files.call(spool_calls.file_state, descriptor)[2]
    if time.time() - changed_s < _AT_REST_S:
        raise SpoolError("it was written to within the last ten minutes, and cannot be locked")
