"""What delivery asks of the store that a run lives in, and what the answers mean to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mlflow_sysmetrics.catalog import PREFIX
from mlflow_sysmetrics.log.addresses import hide, shown_text
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.sampling.sink import Point

MAX_METRICS_A_BATCH = 1000
"""MLflow's limit for one `log_batch`."""

ENDED = frozenset(("FINISHED", "FAILED", "KILLED"))
"""The statuses of a run that is over."""

_PAUSE_UNTIL_MENDED_S = 60.0  # what ends only when someone sees to it
_ACCESS_DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_INVALID = {"INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "MALFORMED_REQUEST"}


class StoreAnswer(Exception):  # noqa: N818 - an answer of the store, not an error of ours
    """What a store answers that does not take what it is sent.

    Attributes:
        of_one_run: Whether it says nothing of other runs, and does not pass by itself.
        pause_s: How long to leave it alone; None for longer from time to time.
    """

    of_one_run = True
    pause_s: float | None = None


class RunGone(StoreAnswer):
    """The run is deleted: nothing more is sent for it; the message is the store's reason."""


class RunNotFound(StoreAnswer):
    """The store has no such run; it may have once it has its database, or its workspace, back."""

    pause_s = _PAUSE_UNTIL_MENDED_S


class AccessDenied(StoreAnswer):
    """The store does not let this user in; it may when the credentials change."""

    pause_s = _PAUSE_UNTIL_MENDED_S


class NotYet(StoreAnswer):
    """Another process is about to find out which steps are taken; no answer of the store."""

    pause_s = 2.0


class InvalidPoints(StoreAnswer):
    """The store does not take these points as they are; it may take others, or fewer.

    Attributes:
        is_too_large: There were too many at once.
    """

    def __init__(self, reason: str, *, is_too_large: bool = False) -> None:
        super().__init__(reason)
        self.is_too_large = is_too_large


class Busy(StoreAnswer):
    """The store asks to be left alone for some time.

    Attributes:
        retry_after_s: For how long.
    """

    of_one_run = False

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class StoreFailed(StoreAnswer):
    """The store cannot be reached, or fails; it may be well again soon.

    The message is what it was in the end: HTTP clients wrap `Connection refused` four times.
    """

    of_one_run = False

    @classmethod
    def of(
        cls, error: BaseException, *uris: str | None, secrets: Sequence[str | None] = ()
    ) -> StoreFailed:
        """One that says what another exception does.

        Args:
            error: The exception.
            uris: Addresses that were used, whose secrets its message may have.
            secrets: What else it may have.
        """
        root = error
        while (cause := root.__cause__ or root.__context__) is not None:
            root = cause
        said = shown_text(hide(str(root), *secrets), *uris)
        return cls(said or type(root).__name__)


@dataclass
class Limits:
    """How much a store takes, or gives, at once; learned from what it refuses.

    Attributes:
        batch_points: Points of one `log_batch`.
        history_points: Points of one page of a metric's history.
    """

    batch_points: int = MAX_METRICS_A_BATCH
    history_points: int = 25_000


class LastPoint(NamedTuple):
    """The last point of a metric, as the store sees it: the one with the highest step."""

    step: int
    timestamp_ms: int


@dataclass(frozen=True)
class RunState:
    """What a store reports about a run.

    Attributes:
        tags: Its tags.
        latest: Last point of each of our metrics, by key below the prefix.
        is_deleted: Whether it takes nothing any more.
        has_ended: Whether its status is one of those that end a run.
    """

    tags: Mapping[str, str]
    latest: Mapping[str, LastPoint]
    is_deleted: bool
    has_ended: bool

    @property
    def next_step(self) -> int:
        """The step after the last point of ours; 0 where there is none."""
        return max((latest.step for latest in self.latest.values()), default=-1) + 1


class RunStore(Protocol):
    """One run in its tracking store.

    All methods raise `RunNotFound`, `AccessDenied` or `Busy`, `log` also `InvalidPoints`; whatever
    else they raise may pass. No message has a secret.

    Attributes:
        limits: Shared by all runs of the store.
    """

    limits: Limits

    def log(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        """Store metric points, at most `MAX_METRICS_A_BATCH`, and tags."""

    def read(self) -> RunState:
        """What the store has of the run, without the histories of its metrics."""

    def timestamps(self, key: str) -> frozenset[int]:
        """Timestamps, in ms, of all points of one metric."""


def full_key(prefix: str, point: Point) -> str:
    """A point's key in the store; those of a summary are the run's, under no host's prefix."""
    return (PREFIX if point.key.startswith(SUMMARY_PREFIX) else prefix) + point.key


def raise_for(error_code: str, reason: str) -> None:
    """Raise what an MLflow error code means to delivery; nothing for one that may pass.

    Raises:
        RunNotFound: The run does not exist.
        AccessDenied: No permission.
        InvalidPoints: The request is not as the store wants it.
    """
    if error_code == "RESOURCE_DOES_NOT_EXIST":
        raise RunNotFound(reason)
    if error_code in _ACCESS_DENIED:
        raise AccessDenied(reason)
    if error_code in _INVALID:
        raise InvalidPoints(reason)


def state_from_json(run: Mapping[str, Any], prefix: str) -> RunState:
    """A run as the REST API gives it.

    `{"info": {"status": "RUNNING", "lifecycle_stage": "active", …}, "data": {"metrics":
    [{"key": "system/…", "value": 1.0, "timestamp": 1700000000000, "step": 3}], "tags": […]}}`
    """
    data = run.get("data", {})
    return RunState(
        tags={tag["key"]: tag.get("value", "") for tag in data.get("tags", ())},
        latest={
            metric["key"].removeprefix(prefix): LastPoint(
                int(metric.get("step", 0)), int(metric["timestamp"])
            )
            for metric in data.get("metrics", ())
            if metric["key"].startswith(prefix)
        },
        is_deleted=run["info"].get("lifecycle_stage") == "deleted",
        has_ended=run["info"].get("status") in ENDED,
    )
