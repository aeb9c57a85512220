from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.catalog import METRICS, TAGS

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("generate_tables")


def test_the_readme_has_the_tables_that_the_catalog_gives(generator: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == generator.with_tables(text)


def test_every_tag_and_metric_has_a_row(generator: ModuleType) -> None:
    header_lines = 2
    tables = generator.tables()
    assert tables["tags"].count("\n") == header_lines + len(TAGS)
    assert tables["metrics"].count("\n") == header_lines + len(METRICS)


def test_what_stood_in_a_table_is_replaced(generator: ModuleType) -> None:
    names = ("tags", "metrics", "settings")
    text = "".join(f"<!-- {name}:begin -->\nstale\n<!-- {name}:end -->\n" for name in names)
    assert "stale" not in generator.with_tables(text)


def test_a_document_without_a_place_for_a_table_is_refused(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match="no place for the table tags"):
        generator.with_tables("no markers here")
