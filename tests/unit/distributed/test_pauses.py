from __future__ import annotations

import pytest

from mlflow_sysmetrics.distributed.pauses import EAGER_FOR_S, GIVE_UP_S, Pauses


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow_sysmetrics.distributed.pauses.jitter", lambda _low, high: high)


def test_pauses_grow_and_are_long_after_two_minutes() -> None:
    pauses = Pauses(0.0)
    at_s, found = 0.0, []
    while at_s < GIVE_UP_S:
        found.append(pauses.after(at_s, 0.0, has_found=False))
        at_s += found[-1]

    assert found[:5] == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert found[-1] == 60.0
    assert len(found) < 45  # requests of a host whose rank 0 never opens a run


def test_a_host_that_has_joined_looks_twice_a_minute() -> None:
    assert Pauses(0.0).after(1.0, 0.0, has_found=True) == 30.0


def test_after_a_run_has_ended_the_next_one_is_looked_for_eagerly() -> None:
    pauses = Pauses(0.0)
    for at_s in (0, 300, 600):
        pauses.after(at_s, 0.0, has_found=False)

    pauses.begin(1000.0)

    assert not pauses.is_over(1000.0 + GIVE_UP_S - 1)
    assert pauses.after(1000.0, 0.0, has_found=False) == 2.0


def test_an_expensive_look_is_taken_less_often_but_at_least_once_a_minute() -> None:
    assert Pauses(0.0).after(EAGER_FOR_S + 1, 0.5, has_found=False) == 25.0
    assert Pauses(0.0).after(EAGER_FOR_S + 1, 9.0, has_found=False) == 60.0


def test_it_is_over_after_half_an_hour() -> None:
    pauses = Pauses(0.0)

    assert not pauses.is_over(1799.0)
    assert pauses.is_over(1800.0)
