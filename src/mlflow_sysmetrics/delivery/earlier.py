"""What other processes have left of a run: its steps are taken, whoever sends it, and when."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.run_address import is_same_store
from mlflow_sysmetrics.delivery.spool import (
    Spool,
    SpoolError,
    SpoolRefused,
    extent_of,
    own_spool_files,
    owned_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow_sysmetrics.delivery.run_address import RunAddress


class EarlierFiles:
    """The files with records of the same metrics of the same run.

    Their steps are known, or the store never answered those who wrote them; then they get theirs
    here, in the order in which they were written.

    Attributes:
        held: So many records whose steps are not known lie in files that other processes have.
    """

    def __init__(self, address: RunAddress) -> None:
        self.held = 0
        self._address = address
        self._known_to = 0
        self._claimed: list[tuple[Spool, int]] = []

    def add(self, path: Path, *, is_older: bool) -> None:
        """Look at a file; one that is not older than the own one gets its steps later."""
        found = extent_of(path)
        if found is None or not self._is_of_same_run(found.address):
            return
        if found.first_step is not None:
            self._known_to = max(self._known_to, found.first_step + found.steps)
        elif is_older and path not in owned_files.by_path:  # this process asks in order
            try:
                self._claim(path, found.steps)
            except SpoolRefused:  # nobody sends it
                return
            except SpoolError:
                self.held += found.steps

    def number(self, next_step: int) -> int:
        """Give steps to all that have none yet.

        Args:
            next_step: The store has no higher one, by what it said after the files were looked at.

        Returns:
            The next one that is free.
        """
        next_step = max(next_step, self._known_to)
        for spool, steps in self._claimed:
            spool.mark(first_step=next_step)
            next_step += steps
        return next_step + self.held

    def release(self) -> None:
        """Leave the files to whoever sends them."""
        for spool, _ in self._claimed:
            spool.release()

    def _claim(self, path: Path, steps: int) -> None:
        spool = Spool.adopt(path)
        if spool.first_step is None:
            self._claimed.append((spool, steps))
        else:  # known meanwhile
            self._known_to = max(self._known_to, spool.first_step + steps)
            spool.release()

    def _is_of_same_run(self, other: RunAddress) -> bool:
        ours = self._address
        return (other.run_id, other.prefix) == (ours.run_id, ours.prefix) and is_same_store(
            other.tracking_uri, ours.tracking_uri
        )


@contextmanager
def earlier_files(
    address: RunAddress, folder: Path | None, own: Path | None
) -> Iterator[EarlierFiles]:
    """What lies in a folder of a run, claimed while its steps are found out.

    Args:
        address: The run.
        folder: The folder; None for none.
        own: The file that asks; None where it has none yet.
    """
    found = EarlierFiles(address)
    paths = [] if folder is None else own_spool_files(folder, address.run_id)
    is_older = True
    try:
        for path in paths:
            if path == own:
                is_older = False
                continue
            with suppress(OSError):  # it is sent and deleted meanwhile, or cannot be read
                found.add(path, is_older=is_older)
        yield found
    finally:
        found.release()
