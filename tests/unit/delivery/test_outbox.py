from __future__ import annotations

from mlflow_sysmetrics.delivery.outbox import Outbox, Point


def points(*steps: int) -> list[Point]:
    return [Point("key", 1.0, 0, step) for step in steps]


def steps_in(outbox: Outbox) -> list[int]:
    return [point.step for point in outbox.peek(100)]


def test_points_wait_in_order() -> None:
    outbox = Outbox()
    outbox.add(points(0, 1))
    outbox.add(points(2))

    assert [point.step for point in outbox.peek(2)] == [0, 1]
    assert len(outbox) == 3


def test_what_was_sent_is_taken_out_and_what_came_meanwhile_stays() -> None:
    outbox = Outbox()
    outbox.add(points(0, 1, 2))
    batch = outbox.peek(2)
    outbox.add(points(3))

    outbox.remove(batch)

    assert steps_in(outbox) == [2, 3]


def test_where_there_is_no_room_the_oldest_make_it_and_are_counted() -> None:
    outbox = Outbox(max_points=3)
    outbox.add(points(0, 1))
    outbox.add(points(2, 3, 4))
    outbox.add(points(5))

    assert steps_in(outbox) == [3, 4, 5]
    assert outbox.dropped == 3


def test_what_was_pushed_out_while_it_was_sent_takes_nothing_else_with_it() -> None:
    outbox = Outbox(max_points=3)
    outbox.add(points(0, 1, 2))
    batch = outbox.peek(2)
    outbox.add(points(3))

    outbox.remove(batch)

    assert steps_in(outbox) == [2, 3]


def test_equal_points_are_told_apart() -> None:
    outbox = Outbox(max_points=2)
    outbox.add(points(0, 0))
    batch = outbox.peek(2)
    outbox.add(points(0, 0))

    outbox.remove(batch)

    assert len(outbox) == 2


def test_more_at_once_than_there_is_room_for() -> None:
    outbox = Outbox(max_points=2)

    outbox.add(points(*range(5)))

    assert steps_in(outbox) == [3, 4]
    assert outbox.dropped == 3
