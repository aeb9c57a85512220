from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.proc_pid import (
    PAGE_BYTES,
    Stat,
    ignores_sigchld,
    parse_io,
    parse_open_files_limit,
    parse_smaps_rollup,
    parse_stat,
    parse_statm,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STAT = (
    b"4798 (%s) S 4788 4788 3366 0 -1 4194304 100 31 7 2 12 3 250 40 20 0 8 0 107205 3133440 360 "
    b"18446744073709551615 93888854921216 93888854941097 140730208729152 0 0 0 0 0 0 0\n"
)
ROLLUP = b"""\
55d1c8a3e000-7ffd35bf2000 ---p 00000000 00:00 0                  [rollup]
Rss:                1440 kB
Pss:                 180 kB
Pss_Dirty:           124 kB
Pss_Anon:            108 kB
Shared_Clean:       1312 kB
Private_Clean:         8 kB
Private_Dirty:       120 kB
Private_Hugetlb:    2048 kB
SwapPss:              64 kB
"""


@pytest.mark.parametrize("name", [b"cat", b"my (app) S 1 2", b") R 1 (", b"", b"\xff\xfe"])
def test_stat_whatever_the_name(name: bytes) -> None:
    assert parse_stat(STAT % name) == Stat(
        parent_pid=4788,
        group=4788,
        session=3366,
        waited_faults=33,
        own_ticks=15,
        waited_ticks=290,
        threads=8,
        start_ticks=107205,
    )


def test_statm_is_in_pages() -> None:
    assert parse_statm(b"765 360 347 5 0 110 0\n") == (765 * PAGE_BYTES, 360 * PAGE_BYTES)


def test_io_is_what_reached_storage() -> None:
    content = (
        b"rchar: 3012\nwchar: 5\nsyscr: 7\nsyscw: 9\nread_bytes: 12288\nwrite_bytes: 4096\n"
        b"cancelled_write_bytes: 1024\n"
    )

    assert parse_io(content) == (12288, 4096, 1024)


@pytest.mark.parametrize(
    ("status", "ignores"),
    [
        ("SigBlk:\t0000000000000000\nSigIgn:\t0000000001001000\n", False),
        (f"SigIgn:\t{1 << (signal.SIGCHLD - 1):016x}\n", True),
        ("Name:\tcat\n", True),
        (None, True),
    ],
)
def test_a_process_ignores_sigchld_or_is_taken_to_do_so(
    tmp_path: Path, status: str | None, *, ignores: bool
) -> None:
    if status is not None:
        (tmp_path / "status").write_text(status)

    assert ignores_sigchld(str(tmp_path)) is ignores


def test_private_memory_is_all_that_is_private() -> None:
    assert parse_smaps_rollup(ROLLUP) == ((8 + 120 + 2048) * 1024, 180 * 1024, 64 * 1024)


def test_how_many_files_a_process_may_open() -> None:
    line = b"Max open files            1024                 1048576              files     \n"

    assert parse_open_files_limit(b"Max processes 5 9 processes\n" + line) == 1024
    assert parse_open_files_limit(line.replace(b"1024 ", b"unlimited ")) is None


@pytest.mark.parametrize(
    ("parse", "content"),
    [
        (parse_stat, b""),
        (parse_stat, b"1 (a) S 1 2\n"),
        (parse_stat, (STAT % b"a").replace(b"107205", b"x")),
        (parse_statm, b""),
        (parse_statm, b"765 x 347\n"),
        (parse_io, b"read_bytes: 12288\n"),
        (parse_smaps_rollup, b""),
    ],
)
def test_other_content_is_an_error(parse: Callable[[bytes], object], content: bytes) -> None:
    with pytest.raises(ParseError):
        parse(content)
