from __future__ import annotations

import pytest

from mlflow_sysmetrics.collectors.rate_limit import CpuBudget


@pytest.mark.parametrize(("cost_s", "allowed"), [(0.1, True), (0.11, False)])
def test_the_first_reading_may_be_at_once_unless_it_is_very_dear(
    cost_s: float, *, allowed: bool
) -> None:
    assert CpuBudget(0.005, began_s=100, at_once_s=0.1).allows(cost_s, now_s=100) is allowed


def test_later_ones_wait_until_time_has_paid_for_them_all() -> None:
    budget = CpuBudget(0.01, began_s=100, at_once_s=1)
    budget.spend(0.5)

    assert not budget.allows(0.5, now_s=199)
    assert budget.allows(0.5, now_s=201)


def test_a_very_dear_one_is_allowed_in_the_end() -> None:
    assert CpuBudget(0.01, began_s=0, at_once_s=1).allows(5, now_s=501)
