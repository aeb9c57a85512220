from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted_store import OPENED_MS, sample, samples, wide_sample
from mlflow_sysmetrics.delivery.outbox import Outbox
from mlflow_sysmetrics.sampling.sink import Point, Record


def outbox_of(*waiting: Record) -> Outbox:
    outbox = Outbox()
    for each in waiting:
        outbox.add(each)
    return outbox


def steps_in(outbox: Outbox) -> list[int]:
    return [each.step for each in outbox.peek(10**9)]


# Samples


def test_a_samples_points_have_its_time_and_their_steps_go_on_from_the_first() -> None:
    points = list(sample(2, cpu=50.0, disk=1.5).points(first_step=40))

    assert points == [
        Point("cpu", 50.0, OPENED_MS + 2000, 42),
        Point("disk", 1.5, OPENED_MS + 2000, 42),
    ]


def test_a_sample_takes_more_memory_the_more_it_has() -> None:
    assert wide_sample(0, 100).size_bytes > 100 * 24
    assert wide_sample(0, 200).size_bytes > wide_sample(0, 100).size_bytes


# Order and size


def test_samples_wait_in_order() -> None:
    outbox = outbox_of(*samples(range(3)))

    assert steps_in(outbox) == [0, 1, 2]
    assert len(outbox) == 3


def test_an_outbox_knows_how_much_memory_it_takes() -> None:
    outbox = outbox_of(sample(0), wide_sample(1, 50), sample(2))
    assert outbox.size_bytes == 2 * sample(0).size_bytes + wide_sample(1, 50).size_bytes

    outbox.remove_before(2)
    assert outbox.size_bytes == sample(2).size_bytes

    outbox.remove_before(3)
    assert outbox.size_bytes == 0


@pytest.mark.parametrize(
    ("max_points", "taken"),
    [(1, [0]), (9, [0]), (10, [0]), (19, [0]), (20, [0, 1]), (29, [0, 1]), (1000, [0, 1, 2])],
)
def test_a_batch_has_whole_samples_and_at_least_one(max_points: int, taken: list[int]) -> None:
    outbox = outbox_of(*(wide_sample(step, 10) for step in range(3)))

    assert [each.step for each in outbox.peek(max_points)] == taken


def test_nothing_waits_in_an_empty_outbox() -> None:
    outbox = Outbox()

    assert outbox.peek(10) == outbox.since(0) == []
    assert outbox.remove_before(10) == outbox.thin() == outbox.size_bytes == 0


# Taking out


def test_what_was_sent_is_taken_out_and_what_came_meanwhile_stays() -> None:
    outbox = outbox_of(*samples(range(3)))
    batch = outbox.peek(2)
    outbox.add(sample(3))

    assert outbox.remove_before(batch[-1].step + 1) == 2
    assert steps_in(outbox) == [2, 3]


def test_taking_out_what_is_out_already_takes_nothing() -> None:
    outbox = outbox_of(*samples([5, 6]))

    assert outbox.remove_before(5) == 0
    assert steps_in(outbox) == [5, 6]


@pytest.mark.parametrize(
    ("step", "found"), [(0, [2, 4, 6]), (2, [2, 4, 6]), (3, [4, 6]), (6, [6]), (7, [])]
)
def test_the_samples_since_a_step(step: int, found: list[int]) -> None:
    outbox = outbox_of(*samples([2, 4, 6]))

    assert [each.step for each in outbox.since(step)] == found


# Thinning


@pytest.mark.parametrize(
    ("waiting", "kept"),
    [
        ([0], [0]),
        ([0, 1], [1]),
        ([0, 1, 2], [1, 2]),
        ([*range(7)], [1, 3, 5, 6]),
        ([3, 7, 8, 9, 10, 11, 12], [3, 7, 11, 12]),
        ([63, 127, 191, 192], [127, 192]),
    ],
)
def test_thinning_takes_half_and_keeps_a_grid_and_the_newest(
    waiting: list[int], kept: list[int]
) -> None:
    outbox = outbox_of(*samples(waiting))

    assert outbox.thin() == len(waiting) - len(kept)
    assert steps_in(outbox) == kept
    assert outbox.size_bytes == len(kept) * sample(0).size_bytes


def test_what_is_thinned_whenever_room_is_needed_is_thinned_evenly() -> None:
    outbox = Outbox()
    for each in samples(range(20_000)):
        outbox.add(each)
        if len(outbox) > 400:
            outbox.thin()

    *before, last = (
        sum(n * 4000 <= step < (n + 1) * 4000 for step in steps_in(outbox)) for n in range(5)
    )
    assert min(before) > 30
    assert max(before) - min(before) <= 1
    assert last >= max(before)  # the newest are not thinned yet


@given(st.lists(st.sampled_from(["add", "add", "add", "thin"]), max_size=200))
def test_however_often_it_is_thinned_none_is_lost_uncounted(actions: list[str]) -> None:
    outbox, added, dropped = Outbox(), 0, 0
    for action in actions:
        if action == "add":
            outbox.add(sample(added))
            added += 1
        else:
            dropped += outbox.thin()

    steps = steps_in(outbox)
    assert len(steps) == len(outbox) == added - dropped
    assert steps == sorted(set(steps))
    assert steps[-1:] == [added - 1] * bool(added)
    assert outbox.size_bytes == len(steps) * sample(0).size_bytes
