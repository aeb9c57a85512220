"""The documentation says what the code does: tables, keys, variables, links, examples."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mlflow_sysmetrics
from mlflow_sysmetrics.catalog import METRICS, SUMMARY, TAGS, metric_of
from mlflow_sysmetrics.cli.main import main
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX
from mlflow_sysmetrics.settings import VARIABLES

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)

LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
CODE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SYSTEM_KEY = re.compile(r"`system/([\w/<>]+)`")
SYS_TAG = re.compile(r"\b(?<!mlflow_)(?:sys|sysmetrics)\.[a-z]\w*(?![\w*])")
VARIABLE = re.compile(r"\bMLFLOW_(?:SYSMETRICS|SYSTEM_METRICS)_\w+")

SUMMARY_NAMES = {each.name for each in SUMMARY}
PYTHONS = {"sys.exit"}

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("generate_tables")


@each_document
def test_tables_are_what_the_code_gives(generator: ModuleType, document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert text == generator.with_tables(text)


def test_every_table_has_a_place(generator: ModuleType) -> None:
    places = [
        name
        for document in generator.documents()
        for name in generator.places(document.read_text(encoding="utf-8"))
    ]
    assert generator.tables().keys() <= set(places)


def test_what_is_printed_by_a_benchmark_has_a_place(generator: ModuleType) -> None:
    kept = {f"result-{file.stem}" for file in generator.RESULTS.glob("*")}
    texts = [document.read_text(encoding="utf-8") for document in generator.documents()]
    assert kept <= {name for text in texts for name in generator.places(text)}


def test_every_tag_and_metric_has_a_row(generator: ModuleType) -> None:
    header_lines = 2
    tables = generator.tables()
    rows = {name: table.count("\n") - header_lines for name, table in tables.items()}
    assert rows["tags"] == len(TAGS)
    assert sum(rows[name] for name in rows if name.startswith("metrics-")) == len(METRICS)


def test_what_stood_in_a_table_is_replaced(generator: ModuleType) -> None:
    text = "".join(f"<!-- {name}:begin -->\nstale\n<!-- {name}:end -->\n" for name in ("tags",))
    assert "stale" not in generator.with_tables(text)


def test_a_place_for_a_table_that_there_is_not_is_refused(generator: ModuleType) -> None:
    with pytest.raises(KeyError, match="unheard-of"):
        generator.with_tables("<!-- unheard-of:begin -->\n<!-- unheard-of:end -->\n")


def test_of_what_a_benchmark_printed_only_the_table_is_one(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generator, "RESULTS", tmp_path)
    (tmp_path / "speed.txt").write_text("| a |\n| - |\n| 1 |\n\nmedians of\n  many\n")

    assert generator.result("speed") == "| a |\n| - |\n| 1 |\n\n```text\nmedians of\n  many\n```\n"
    assert "not been kept" in generator.result("never_run")


def test_the_readme_has_the_rows_of_the_comparison_that_say_most(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generator, "RESULTS", tmp_path)
    assert "not been kept" in generator.costs()
    kept = "|   | ours |\n| - | ---: |\n| CPU a sample, 1 child (ms) | 1.2 |\n"
    (tmp_path / "compare.txt").write_text(f"{kept}| own import time (ms) | 3 |\n\nMedians.\n")

    assert generator.costs() == kept


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    targets = [inline or defined for inline, defined in LINK.findall(_prose(document))]
    for target in targets:
        if not re.match(r"https?:|#", target):
            path, _, anchor = target.partition("#")
            there = document.parent / path
            assert there.exists(), target
            assert not anchor or anchor in _anchors(there), target


def test_what_the_readme_links_by_name_is_defined() -> None:
    prose = re.sub(r"`[^`\n]*`", "", _prose(ROOT / "README.md"))
    defined = {name.lower() for name in re.findall(r"^\[([^\]]+)\]: ", prose, re.MULTILINE)}
    used = re.findall(r"(?<!\])\[([^\]\[]+)\](?![(:\[])|\]\[([^\]]+)\]", prose)
    assert {(alone or named).replace("\n", " ").lower() for alone, named in used} == defined


@each_document
def test_keys_variables_and_commands_that_are_named_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for key in SYSTEM_KEY.findall(text):
        if key.startswith(SUMMARY_PREFIX):
            assert key == SUMMARY_PREFIX or key.removeprefix(SUMMARY_PREFIX) in SUMMARY_NAMES
        elif not key.endswith("/") and not key.startswith("<node"):
            metric_of(re.sub(r"<\w+>", "0", key))
    assert set(SYS_TAG.findall(text)) <= {*PYTHONS, *(tag.key for tag in TAGS)}
    assert set(VARIABLE.findall(text)) <= {variable.name for variable in VARIABLES}
    assert set(re.findall(r"\bmlflow-sysmetrics ([a-z]+)\b", _code(text))) <= main.commands.keys()


@each_document
def test_scripts_and_benchmarks_that_are_named_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:scripts|benchmarks)/\w+\.py\b", text):
        assert (ROOT / path).is_file(), path


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`mlflow-sysmetrics (\w+)", text)) == main.commands.keys()


@each_document
def test_examples_in_python_can_be_compiled_and_import_what_there_is(document: Path) -> None:
    for language, code in CODE.findall(document.read_text(encoding="utf-8")):
        if language == "python":
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and node.module == "mlflow_sysmetrics":
                    assert {name.name for name in node.names} <= {*mlflow_sysmetrics.__all__}


def test_the_example_of_a_collector_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "development"))
    example = importlib.import_module("tcp_connections")
    openers = [("tcp", example.open_tcp_connections)]
    sockstat = tmp_path / example.SOCKSTAT
    sockstat.parent.mkdir(parents=True)
    sockstat.write_text("sockets: used 290\nTCP: inuse 27 orphan 0 tw 3 alloc 42 mem 9\n")
    host = Host(root=tmp_path, system="Linux")

    collectors = CollectorSet(host, lambda: openers)
    readings, _ = collectors.collect()

    assert collectors.states == {"tcp": None}
    assert readings.values == {"tcp/num_connections": 27}
    sockstat.unlink()
    elsewhere = CollectorSet(host, lambda: openers)
    elsewhere.open()
    assert "sockstat" in (elsewhere.states["tcp"] or "")


def test_the_example_of_a_collector_is_short() -> None:
    code = (ROOT / "docs" / "development" / "tcp_connections.py").read_text(encoding="utf-8")
    assert code.count("\n") < 40


def _prose(document: Path) -> str:
    return CODE.sub("", document.read_text(encoding="utf-8"))


def _code(text: str) -> str:
    """What stands in code, inline or in blocks."""
    return "\n".join([*re.findall(r"`([^`\n]+)`", text), *(code for _, code in CODE.findall(text))])


def _anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
