from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.delivery.kept_apart import KeptApartStore
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import LastPoint, Limits, RunState
from mlflow_sysmetrics.sampling.sink import Point

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.usefixtures("nothing_said")

ADDRESS = RunAddress("1234", "http://somewhere", "system/")
OWN = "system/node-7/"


class Store:
    """A run, one of several views on it that differ by their prefix."""

    def __init__(self, points: dict[str, Point], prefix: str) -> None:
        self.points = points
        self.prefix = prefix
        self.reads = 0
        self.limits = Limits()

    def log(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        self.points.update({self.prefix + point.key: point for point in points})

    def read(self) -> RunState:
        self.reads += 1
        latest = {
            key.removeprefix(self.prefix): LastPoint(point.step, point.timestamp_ms)
            for key, point in self.points.items()
        }
        return RunState({}, latest, is_deleted=False, has_ended=False)

    def timestamps(self, key: str) -> frozenset[int]:
        return frozenset()


@pytest.fixture
def points() -> dict[str, Point]:
    """The newest points of the run by key."""
    return {}


@pytest.fixture
def views(points: dict[str, Point]) -> list[Store]:
    """The views on the run that were opened."""
    return []


@pytest.fixture
def store(points: dict[str, Point], views: list[Store]) -> KeptApartStore:
    def open_view(address: RunAddress) -> Store:
        views.append(Store(points, address.prefix))
        return views[-1]

    return KeptApartStore(ADDRESS, OWN, open_view)


def at(timestamp_ms: int) -> list[Point]:
    return [Point("cpu", 1.0, timestamp_ms, 0)]


def test_a_run_of_one_host_keeps_its_keys_and_is_looked_at_three_times(
    store: KeptApartStore, views: list[Store], points: dict[str, Point]
) -> None:
    for timestamp_ms in range(100, 200, 10):
        store.log(at(timestamp_ms), {})

    assert points.keys() == {"system/cpu"}
    assert [view.reads for view in views] == [3]


def test_points_of_an_earlier_process_are_no_other_host(
    store: KeptApartStore, points: dict[str, Point]
) -> None:
    points["system/cpu"] = at(99)[0]

    store.log(at(100), {})

    assert points.keys() == {"system/cpu"}


@pytest.mark.parametrize("batches_before", [0, 1, 2])
def test_once_another_host_logs_under_the_same_keys_ours_go_under_their_own(
    store: KeptApartStore,
    points: dict[str, Point],
    caplog: pytest.LogCaptureFixture,
    batches_before: int,
) -> None:
    for batch in range(batches_before):
        store.log(at(100 + batch), {})
    theirs = points["system/cpu"] = at(150)[0]

    store.log([*at(140), *at(151)], {})
    store.log(at(152), {})

    assert points == {"system/cpu": theirs, "system/node-7/cpu": at(152)[0]}
    (said,) = caplog.messages
    assert "MLFLOW_SYSTEM_METRICS_NODE_ID" in said
