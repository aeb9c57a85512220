"""Facts are read in parallel; one that fails or hangs affects no other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mlflow_sysmetrics.accelerators.facts import GpusUnknownError
from mlflow_sysmetrics.host.errors import (
    Transient,
    Unavailable,
    is_short_of_descriptors,
    is_shortage,
)
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.log.isolation import Isolated
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_sysmetrics.host.host import Host

    Fact: TypeAlias = "tuple[str, Callable[[Host], dict[str, str]]]"


@dataclass(frozen=True)
class Outcome:
    """The result of reading a fact.

    Attributes:
        tags: Its tags; empty if the host lacks the subject.
        error: Why it failed; empty if it did not.
        is_final: Whether another reading would give the same.
    """

    tags: Mapping[str, str]
    error: str = ""
    is_final: bool = True


def read_fact(fact: Fact, host: Host) -> Outcome:
    """Read one fact, whatever it raises."""
    name, read = fact
    with Isolated() as reading:
        return Outcome(read(host), is_final=not is_short_of_descriptors())
    error = reading.error
    logger.debug("no fact %s: %s", name, error, exc_info=error)
    is_final = not (is_shortage(error) or is_short_of_descriptors())
    if isinstance(error, GpusUnknownError):
        return Outcome(error.tags, f"{name}: {error}", is_final and error.is_final)
    if isinstance(error, Unavailable) and not isinstance(error, Transient):
        return Outcome({}, is_final=is_final)
    is_foreseen = isinstance(error, Transient | ParseError)
    reason = str(error) if is_foreseen else f"{type(error).__name__}: {error}"
    return Outcome({}, f"{name}: {reason}", is_final)


class Probes:
    """Reads each fact in its own daemon thread, and keeps the results so far.

    A fact that answers late is in `outcomes()` from then on.

    Args:
        facts: What to read.
        host: Where.
        budget_s: How long `wait()` may take, counted from now, for all of them together.
    """

    def __init__(self, facts: Iterable[Fact], host: Host, budget_s: float) -> None:
        self._facts = tuple(facts)
        self._host = host
        self._budget_s = budget_s
        self._deadline_s = time.monotonic() + budget_s
        self._outcomes: dict[str, Outcome] = {}
        self._threads = [thread for fact in self._facts if (thread := self._start(fact))]

    def wait(self) -> None:
        """Wait until all have answered or the budget is used up; later calls return at once."""
        for thread in self._threads:
            thread.join(max(0.0, self._deadline_s - time.monotonic()))

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing more to wait for."""
        has_all = len(self._outcomes) == len(self._facts)
        return has_all or time.monotonic() >= self._deadline_s

    def read_again(self) -> None:
        """Read facts again that failed for want of a resource, within the budget."""
        again = [fact for fact in self._facts if self._is_worth_another_try(fact)]
        if again:
            self._deadline_s = time.monotonic() + self._budget_s
        for fact in again:
            del self._outcomes[fact[0]]
            if thread := self._start(fact):
                self._threads.append(thread)

    def outcomes(self) -> dict[str, Outcome]:
        """Outcomes by the facts' names, in their order."""
        late = f"did not answer within {self._budget_s:g} s"
        return {
            name: self._outcomes.get(name) or Outcome({}, f"{name}: {late}")
            for name, _ in self._facts
        }

    def _is_worth_another_try(self, fact: Fact) -> bool:
        outcome = self._outcomes.get(fact[0])
        return outcome is not None and not outcome.is_final

    def _start(self, fact: Fact) -> threading.Thread | None:
        """The thread that reads a fact; None if no thread starts: then it has been read here."""
        try:
            return start_thread(f"fact-{fact[0]}", self._read, fact)
        except RuntimeError:
            self._read(fact)
            return None

    def _read(self, fact: Fact) -> None:
        self._outcomes[fact[0]] = read_fact(fact, self._host)
