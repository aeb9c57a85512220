"""Whatever becomes of a spool file, what is whole in it is read, and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted_store import sample, samples
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool, SpoolError
from mlflow_sysmetrics.sampling.sink import Record

ADDRESS = RunAddress("1234", "http://somewhere", "system/")
ALL = 10**9


def _written() -> bytes:
    """A file with a header, samples 0 to 4, a mark, samples 5 and 6."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool.create(Path(folder), ADDRESS, None, {"sys.cpu": "EPYC"})
        spool.append(samples(range(5)))
        spool.mark(first_step=40)
        spool.append(samples([5, 6]))
        spool.release()
        return spool.path.read_bytes()


WHOLE = _written()
LINES = WHOLE.splitlines(keepends=True)
STEPS = [None, 0, 1, 2, 3, 4, None, 5, 6]  # of each line
ENDS = [len(b"".join(LINES[: number + 1])) for number in range(len(LINES))]


def steps_in(content: bytes) -> list[int]:
    """What a later process reads, also after it has added to the file.

    Raises:
        SpoolError: It cannot take up the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.spool"
        path.write_bytes(content)
        spool = Spool.adopt(path)
        steps = [each.step for each in spool.read(0, ALL)]
        assert spool.left == len(steps)
        spool.append([sample(100)])
        spool.release()
        again = Spool.adopt(path)
        assert [each.step for each in again.read(0, ALL)] == [*steps, 100]
        again.delete()
        return steps


def test_a_file_torn_at_any_byte_has_all_its_whole_samples() -> None:
    for length in range(len(WHOLE) + 1):
        if length < ENDS[0]:
            with pytest.raises(SpoolError):
                steps_in(WHOLE[:length])
            continue
        whole = [
            step
            for end, step in zip(ENDS, STEPS, strict=True)
            if end <= length and step is not None
        ]
        assert steps_in(WHOLE[:length]) == whole, length


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_byte_that_is_damaged_costs_its_line(position: int, change: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[position] ^= change
    line = next(number for number, end in enumerate(ENDS) if position < end)
    # A line whose end is not seen takes the next one with it.
    lost = {line, line + 1} if position == ENDS[line] - 1 else {line}

    if 0 in lost:
        with pytest.raises(SpoolError):
            steps_in(bytes(damaged))
    else:
        assert steps_in(bytes(damaged)) == [
            step for number, step in enumerate(STEPS) if number not in lost and step is not None
        ]


@given(st.binary(max_size=300), st.integers(0, len(LINES)))
def test_whatever_stands_between_the_lines_is_skipped(rubbish: bytes, number: int) -> None:
    content = b"".join([*LINES[:number], rubbish, b"\n", *LINES[number:]])
    if number == 0:
        if rubbish:
            assert_no_exception_but_ours(content)
        return
    assert steps_in(content) == [0, 1, 2, 3, 4, 5, 6]


@given(st.binary(max_size=3000))
def test_any_file_is_taken_up_or_left_alone(content: bytes) -> None:
    assert_no_exception_but_ours(content)


def assert_no_exception_but_ours(content: bytes) -> None:
    try:
        steps_in(content)
    except SpoolError:
        return


values = st.dictionaries(
    st.from_regex(r"[a-z_]{1,20}(/[a-z0-9_]{1,20}){0,2}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False),
    min_size=1,
    max_size=5,
)


@given(st.lists(st.tuples(st.integers(0, 2**47), values), max_size=10))
def test_samples_are_read_as_they_were_written(content: list[tuple[int, dict[str, float]]]) -> None:
    written = [
        Record(step, timestamp_ms, each) for step, (timestamp_ms, each) in enumerate(content)
    ]
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool.create(Path(folder), ADDRESS, 0, {})
        spool.append(written)
        assert spool.read(0, ALL, ALL) == written
        spool.delete()
