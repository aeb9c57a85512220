"""Nobody's time is lost, and nobody's counted twice, as processes come and go."""

from __future__ import annotations

from mlflow_sysmetrics.collectors.tree_totals import TreeTotals
from mlflow_sysmetrics.sources.process_use import ProcessUse

OPENED = 100.0


def use(
    pid: int,
    *,
    parent: int = 1,
    cpu: float = 0.0,
    waited: float = 0.0,
    io: int | None = 0,
    start: float = 50.0,
) -> ProcessUse:
    return ProcessUse(pid, start, parent, 1, 0, 0, 0, cpu, waited, io, io)


def totals(*, inherits_io: bool = True) -> TreeTotals:
    return TreeTotals(OPENED, inherits_io=inherits_io)


def test_only_what_came_after_the_first_update_counts() -> None:
    tree = totals()
    tree.update([use(1, cpu=7, waited=1000, io=50), use(2, parent=1, cpu=3)])
    assert (tree.cpu_s, tree.read_bytes, tree.write_bytes) == (0, 0, 0)

    tree.update([use(1, cpu=8, waited=1000, io=60), use(2, parent=1, cpu=5)])
    assert (tree.cpu_s, tree.read_bytes, tree.write_bytes) == (3, 10, 10)


def test_a_child_born_since_counts_whole() -> None:
    tree = totals()
    tree.update([use(1)])

    tree.update([use(1), use(2, parent=1, cpu=3, waited=1, io=9, start=101)])

    assert (tree.cpu_s, tree.read_bytes) == (4, 9)


def test_a_process_that_was_overlooked_at_first_starts_where_it_is_found() -> None:
    tree = totals()
    tree.update([use(1)])
    tree.update([use(1), use(2, parent=1, cpu=1000, io=9, start=99)])
    assert (tree.cpu_s, tree.read_bytes) == (0, 0)

    tree.update([use(1), use(2, parent=1, cpu=1001, io=10, start=99)])
    assert (tree.cpu_s, tree.read_bytes) == (1, 1)


def test_a_child_that_lived_between_two_updates_counts_through_its_parent() -> None:
    tree = totals()
    tree.update([use(1, waited=5)])

    tree.update([use(1, waited=7)])

    assert tree.cpu_s == 2


def test_a_known_child_that_is_waited_for_is_not_counted_twice() -> None:
    tree = totals()
    tree.update([use(1, cpu=1, io=4), use(2, parent=1, cpu=10, io=100)])
    tree.update([use(1, cpu=1, io=4), use(2, parent=1, cpu=15, io=160)])

    tree.update([use(1, cpu=2, waited=16, io=4 + 170)])

    assert tree.cpu_s == 5 + 1 + 1
    assert tree.read_bytes == 60 + 10


def test_a_child_that_is_gone_before_its_parent_is_seen_to_have_waited() -> None:
    """The parent is read, then it waits for the child, then the child is not found."""
    tree = totals()
    tree.update([use(1), use(2, parent=1, cpu=10, io=100)])
    tree.update([use(1)])

    tree.update([use(1, waited=10.5, io=120)])

    assert (tree.cpu_s, tree.read_bytes) == (0.5, 20)


def test_children_waited_for_on_both_sides_of_an_update() -> None:
    tree = totals()
    tree.update([use(1), use(2, parent=1, cpu=10), use(3, parent=1, cpu=8)])
    tree.update([use(1, waited=10.1)])

    tree.update([use(1, waited=10.1 + 8.2)])

    assert round(tree.cpu_s, 9) == 0.3


def test_a_child_that_nobody_waits_for_keeps_what_was_counted_and_costs_its_parent_nothing() -> (
    None
):
    tree = totals()
    tree.update([use(1), use(2, parent=1, cpu=10)])
    tree.update([use(1, cpu=1), use(2, parent=1, cpu=14)])
    for cpu in (2, 3):
        tree.update([use(1, cpu=cpu)])
    assert tree.cpu_s == 4 + 3

    tree.update([use(1, cpu=3, waited=6)])  # for others, long after

    assert tree.cpu_s == 4 + 3 + 6


def test_an_orphan_that_ends_keeps_what_was_counted() -> None:
    tree = totals()
    tree.update([use(10), use(20, parent=10), use(30, parent=20, cpu=5)])
    tree.update([use(10), use(30, parent=1, cpu=7)])
    tree.update([use(10)])

    tree.update([use(10, waited=3)])

    assert tree.cpu_s == 2 + 3


def test_a_whole_branch_that_ends_at_once_is_inherited_by_its_root() -> None:
    tree = totals()
    tree.update([use(1), use(2, parent=1, cpu=10), use(3, parent=2, cpu=20)])

    tree.update([use(1, waited=10 + 20 + 1)])

    assert tree.cpu_s == 1


def test_what_is_still_awaited_goes_to_the_next_heir() -> None:
    tree = totals()
    tree.update([use(1), use(2, parent=1, cpu=10), use(3, parent=2, cpu=20)])
    tree.update([use(1), use(2, parent=1, cpu=10)])  # 3 is gone, 2 was read before it waited

    tree.update([use(1, waited=10 + 20)])

    assert tree.cpu_s == 0


def test_a_reused_pid_starts_anew() -> None:
    tree = totals()
    tree.update([use(1), use(2, parent=1, cpu=10, io=7)])

    tree.update([use(1, waited=10, io=7), use(2, parent=1, cpu=3, io=2, start=150)])

    assert (tree.cpu_s, tree.read_bytes) == (3, 2)


def test_counters_that_fall_count_nothing() -> None:
    tree = totals()
    tree.update([use(1, cpu=10, waited=10, io=10)])

    tree.update([use(1, cpu=9, waited=9, io=9)])

    assert (tree.cpu_s, tree.read_bytes) == (0, 0)


def test_where_storage_counters_are_not_inherited_parents_lose_nothing() -> None:
    tree = totals(inherits_io=False)
    tree.update([use(1), use(2, parent=1, io=100)])

    tree.update([use(1, io=30)])

    assert tree.read_bytes == 30


def test_storage_counters_that_are_told_late_start_where_they_are_found() -> None:
    tree = totals()
    tree.update([use(1, io=None)])
    assert not tree.has_io
    tree.update([use(1, io=500)])
    tree.update([use(1, io=501)])

    assert tree.has_io
    assert tree.read_bytes == 1


def test_what_nobody_saw_counts_where_the_whole_is_known() -> None:
    tree = totals()
    tree.update([use(1)], None)

    tree.update([use(1, cpu=1)], 3.0)

    assert tree.cpu_s == 3


def test_what_is_read_a_moment_later_than_the_whole_is_not_counted_twice() -> None:
    tree = totals()
    seen = []
    tree.update([use(1)])
    for cpu, whole in [(2.0, 1.5), (3.0, 1.5), (4.0, 1.0)]:
        tree.update([use(1, cpu=cpu)], whole)
        seen.append(tree.cpu_s)

    assert seen == [2, 3, 4]


def test_what_was_not_seen_stays_counted_once_the_whole_is_not_known_any_more() -> None:
    tree = totals()
    tree.update([use(1)])
    tree.update([use(1, cpu=1)], 3.0)
    tree.update([use(1, cpu=5)], None)
    tree.update([use(1, cpu=6)], 1.0)

    assert tree.cpu_s == 3 + 5
