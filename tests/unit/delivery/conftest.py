"""Fixtures for all tests of delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fakes.simulation import join_threads
from fakes.streams import ADDRESS
from fakes.uploader_bench import UPLOADER_THREAD, UploaderBench
from mlflow_sysmetrics.delivery.spool import owned_files
from mlflow_sysmetrics.delivery.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_nothing() -> Iterator[None]:
    """Let go of the spool files that a test leaves, as the end of its process would."""
    yield
    owned_files.disown_all()


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """The samples of a new run."""
    return Stream(ADDRESS, tmp_path)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[UploaderBench]:
    """An uploader that tries again at once, and whose thread must end with its test."""
    bench = UploaderBench(tmp_path)
    yield bench
    join_threads(UPLOADER_THREAD)
