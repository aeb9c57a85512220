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
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
"""Text by path in the repository."""

LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
CODE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SYSTEM_KEY = re.compile(r"`system/([\w/<>]+)`")
SYS_TAG = re.compile(r"\b(?<!mlflow[_.-])(?:sys|sysmetrics)\.[a-z]\w*(?:<n>)?(?![\w*<])")
VARIABLE = re.compile(r"\bMLFLOW_(?:SYSMETRICS|SYSTEM_METRICS)_\w+")

SUMMARY_NAMES = {each.name for each in SUMMARY}
PYTHONS = {"sys.exit"}


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("generate_tables")


def test_tables_are_what_the_code_gives(generator: ModuleType) -> None:
    stale = [name for name, text in DOCUMENTS.items() if text != generator.with_tables(text)]
    assert stale == []


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


def test_links_lead_somewhere() -> None:
    for name, text in DOCUMENTS.items():
        for inline, defined in LINK.findall(_prose(text)):
            target = inline or defined
            if not re.match(r"https?:|#", target):
                path, _, anchor = target.partition("#")
                there = (ROOT / name).parent / path
                assert there.exists(), f"{name}: {target}"
                assert not anchor or anchor in _anchors(there), f"{name}: {target}"


def test_what_the_readme_links_by_name_is_defined() -> None:
    prose = re.sub(r"`[^`\n]*`", "", _prose(DOCUMENTS["README.md"]))
    defined = {name.lower() for name in re.findall(r"^\[([^\]]+)\]: ", prose, re.MULTILINE)}
    used = re.findall(r"(?<!\])\[([^\]\[]+)\](?![(:\[])|\]\[([^\]]+)\]", prose)
    assert {(alone or named).replace("\n", " ").lower() for alone, named in used} == defined


def test_keys_variables_and_commands_that_are_named_are_there() -> None:
    tags = {*PYTHONS, *(tag.key.format(index="<n>") for tag in TAGS)}
    variables = {variable.name for variable in VARIABLES}
    for name, text in DOCUMENTS.items():
        for key in SYSTEM_KEY.findall(text):
            if key.startswith(SUMMARY_PREFIX):
                assert key == SUMMARY_PREFIX or key.removeprefix(SUMMARY_PREFIX) in SUMMARY_NAMES
            elif not key.endswith("/") and not key.startswith("<node"):
                metric_of(re.sub(r"<\w+>", "0", key))
        assert set(SYS_TAG.findall(text)) <= tags, name
        assert set(VARIABLE.findall(text)) <= variables, name
        commands = set(re.findall(r"\bmlflow-sysmetrics ([a-z]+)\b", _code(text)))
        assert commands <= main.commands.keys(), name


def test_scripts_and_benchmarks_that_are_named_are_there() -> None:
    for name, text in DOCUMENTS.items():
        for path in re.findall(r"\b(?:scripts|benchmarks)/\w+\.py\b", text):
            assert (ROOT / path).is_file(), f"{name}: {path}"


def test_every_command_is_documented() -> None:
    text = DOCUMENTS["docs/reference/command-line.md"]
    assert set(re.findall(r"`mlflow-sysmetrics (\w+)", text)) == main.commands.keys()


def test_examples_in_python_can_be_compiled_and_import_what_there_is() -> None:
    for name, text in DOCUMENTS.items():
        examples = [code for language, code in CODE.findall(text) if language == "python"]
        for node in (node for code in examples for node in ast.walk(ast.parse(code, name))):
            if isinstance(node, ast.ImportFrom) and node.module == "mlflow_sysmetrics":
                assert {alias.name for alias in node.names} <= {*mlflow_sysmetrics.__all__}, name


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


def _prose(text: str) -> str:
    return CODE.sub("", text)


def _code(text: str) -> str:
    """What stands in code, inline or in blocks."""
    return "\n".join([*re.findall(r"`([^`\n]+)`", text), *(code for _, code in CODE.findall(text))])


def _anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
