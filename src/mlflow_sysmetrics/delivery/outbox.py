"""What waits in memory to be sent."""

from __future__ import annotations

from collections import deque
from itertools import islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_sysmetrics.sampling.sink import Record


class Outbox:
    """Samples of one run in the order in which they were taken.

    Attributes:
        size_bytes: Memory that they take.
        samples: Samples of the host that they are made of.
    """

    def __init__(self) -> None:
        self._samples: deque[Record] = deque()
        self.size_bytes = 0
        self.samples = 0

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, sample: Record) -> None:
        """Append a sample."""
        self._samples.append(sample)
        self.size_bytes += sample.size_bytes
        self.samples += sample.counts_as

    def peek(self, max_points: int) -> list[Record]:
        """The oldest samples, at least one, that have no more points together."""
        return up_to(max_points, self._samples)

    def since(self, step: int) -> list[Record]:
        """The samples from a step on."""
        newest_first = takewhile(lambda sample: sample.step >= step, reversed(self._samples))
        return list(newest_first)[::-1]

    def remove_before(self, step: int) -> int:
        """Take out what is before a step; of how many samples of the host that was."""
        before = self.samples
        while self._samples and self._samples[0].step < step:
            removed = self._samples.popleft()
            self.size_bytes -= removed.size_bytes
            self.samples -= removed.counts_as
        return before - self.samples

    def thin(self, since: int = 0) -> int:
        """Take out at least half of what is from a step on; of how many samples of the host it was.

        What stays are the newest and the steps on a grid, as wide as it must be; so what is
        thinned again and again, with new samples in between, is thinned evenly.
        """
        thinned = self.since(since)
        before, stride = len(thinned), 1
        while len(thinned) > (before + 1) // 2:
            stride *= 2
            newest = thinned[-1]
            thinned = [each for each in thinned if (each.step + 1) % stride == 0 or each is newest]
        untouched = islice(self._samples, len(self._samples) - before)
        self._samples = deque([*untouched, *thinned])
        self.size_bytes = sum(sample.size_bytes for sample in self._samples)
        samples_before, self.samples = self.samples, samples_of(self._samples)
        return samples_before - self.samples


def samples_of(logged: Iterable[Record]) -> int:
    """How many samples of the host they are made of."""
    return sum(each.counts_as for each in logged)


def up_to(max_points: int, samples: Iterable[Record]) -> list[Record]:
    """The first samples, at least one, that have no more points and tags together."""
    taken: list[Record] = []
    points = 0
    for sample in samples:
        points += sample.entries
        if taken and points > max_points:
            break
        taken.append(sample)
    return taken
