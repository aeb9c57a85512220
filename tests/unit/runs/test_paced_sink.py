from __future__ import annotations

from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.runs.paced_sink import PacedSink
from mlflow_sysmetrics.sampling.sink import Record


class Taken(Channel):
    """Notes what it is given."""

    def __init__(self) -> None:
        self.parts: list[list[int]] = []
        self.said: list[str] = []

    def put(self, *records: Record) -> None:
        self.parts.append([record.step for record in records])

    @property
    def steps(self) -> list[int]:
        return [step for part in self.parts for step in part]

    def end(self) -> None:
        self.said.append("end")

    def close(self, timeout_s: float) -> None:
        self.said.append(f"close {timeout_s}")


def record(step: int, time_s: float) -> Record:
    return Record(step, 1_700_000_000_000 + round(1000 * time_s), {"a": 1.0})


def test_the_first_record_goes_at_once_the_others_in_parts() -> None:
    taken = Taken()
    paced = PacedSink(taken, 15_000)
    after = []
    for step in range(5):
        paced.put(record(step, 10.0 * step))
        after.append(list(taken.steps))

    assert after == [[0], [0], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3, 4]]


def test_what_was_held_back_goes_in_one_part_and_tags_with_the_values_that_follow() -> None:
    taken = Taken()
    paced = PacedSink(taken, 15_000)
    paced.put(Record(0, 1_700_000_000_000, {}, 0, {"a": "tag"}))
    for step in range(1, 4):
        paced.put(record(step, 10.0 * step))

    assert taken.parts == [[0, 1], [2, 3]]


def test_points_that_are_far_apart_are_not_held_back() -> None:
    taken = Taken()
    paced = PacedSink(taken, 15_000)
    for step in range(3):
        paced.put(record(step, 60.0 * step))

    assert taken.steps == [0, 1, 2]


def test_nothing_is_held_back_when_the_run_ends() -> None:
    taken = Taken()
    paced = PacedSink(taken, 15_000)
    paced.put(record(0, 0.0))
    paced.put(record(1, 1.0))
    paced.end()
    assert taken.steps == [0, 1]

    paced.put(record(2, 2.0))
    paced.close(5.0)

    assert taken.steps == [0, 1, 2]
    assert taken.said == ["end", "close 5.0"]
