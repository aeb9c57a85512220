from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_sysmetrics.catalog import METRICS, TAGS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generate_tables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import generate_tables

    return generate_tables


def test_the_readme_has_the_tables_that_the_catalog_gives(generate_tables):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == generate_tables.with_tables(text)


def test_every_tag_and_metric_has_a_row(generate_tables):
    tables = generate_tables.tables()
    assert tables["tags"].count("\n") == len(TAGS) + 2
    assert tables["metrics"].count("\n") == len(METRICS) + 2


def test_what_stood_in_a_table_is_replaced(generate_tables):
    names = ("tags", "metrics", "settings")
    text = "".join(f"<!-- {n}:begin -->\nold\n<!-- {n}:end -->\n" for n in names)
    assert "old" not in re.split(r"\W+", generate_tables.with_tables(text))


def test_a_document_without_a_place_for_a_table_is_refused(generate_tables):
    with pytest.raises(ValueError, match="no place for the table tags"):
        generate_tables.with_tables("no markers here")
