from __future__ import annotations

import pytest

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.meminfo import Memory, parse_meminfo_bytes, parse_memory, parse_swap


def test_the_kernels_kilobytes_are_binary() -> None:
    text = "MemTotal:       16384256 kB\nMemFree:         1024 kB\n"

    assert parse_meminfo_bytes(text, "MemTotal") == 16_384_256 * 1024


def test_without_a_total_it_is_no_meminfo() -> None:
    with pytest.raises(ParseError, match="meminfo"):
        parse_meminfo_bytes("MemFree:         1024 kB\n", "MemTotal")


def test_a_meminfo_that_tells_no_swap() -> None:
    with pytest.raises(ParseError, match="swap"):
        parse_swap("MemFree:         1024 kB\nSwapTotal:  1 kB\n")


def test_memory_in_use_is_what_is_not_available() -> None:
    text = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\nCached:  300 kB\n"

    assert parse_memory(text) == Memory(1000 * 1024, 400 * 1024)


def test_before_linux_3_14_what_is_cached_is_available() -> None:
    text = "MemTotal:  1000 kB\nMemFree:  100 kB\nBuffers:  50 kB\nCached:  250 kB\n"

    assert parse_memory(text) == Memory(1000 * 1024, 600 * 1024)


def test_in_a_container_that_shows_more_available_than_there_is_what_is_free_counts() -> None:
    text = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  64000 kB\n"

    assert parse_memory(text) == Memory(1000 * 1024, 900 * 1024)


def test_a_line_that_only_ends_like_the_one_is_another() -> None:
    with pytest.raises(ParseError):
        parse_meminfo_bytes("DirectMemTotal:   1 kB\n", "MemTotal")
