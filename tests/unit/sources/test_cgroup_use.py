from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cgroup import Bound
from mlflow_sysmetrics.sources.cgroup_use import CgroupUse, parse_single

if TYPE_CHECKING:
    from pathlib import Path


def test_more_page_cache_than_memory_is_no_use_at_all(tmp_path: Path) -> None:
    """The two files are read one after the other."""
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text("inactive_file 120\n")

    assert CgroupUse(Bound(1000, 2, tmp_path, tmp_path)).memory_bytes() == 0


@pytest.mark.parametrize("content", [None, "low 0\n"])
def test_kills_that_are_not_told_are_unavailable(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "memory.events").write_text(content)

    with pytest.raises(Unavailable, match=r"memory\.events"):
        CgroupUse(Bound(1000, 2, tmp_path, tmp_path)).oom_kills()


@pytest.mark.parametrize("text", ["anon\n", "anon x\n", "anon 1 2\n"])
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        parse_single(text)
