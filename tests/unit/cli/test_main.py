from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mlflow_sysmetrics.cli import main as cli
from mlflow_sysmetrics.cli.diagnosis import Report
from mlflow_sysmetrics.cli.main import main

if TYPE_CHECKING:
    from click.testing import Result
    from pytest_mock import MockerFixture


COMMANDS = ("doctor", "tags", "metrics", "watch", "upload")


class Scripted:
    """A collector with one gauge, and a counter that rises by 5 MB each time."""

    def __init__(self) -> None:
        self.closed = False
        self._received = 0.0

    def collect(self) -> dict[str, float]:
        self._received += 5e6
        return {"disk_available_megabytes": 12345.678, "network_receive_bytes": self._received}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def collector(mocker: MockerFixture) -> Scripted:
    """The only collector of this host."""
    collector = Scripted()
    openers = [("scripted", lambda _host: collector)]
    mocker.patch("mlflow_sysmetrics.sampling.collectors.COLLECTORS", openers)
    return collector


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="mlflow-sysmetrics")


@pytest.mark.parametrize("arguments", [("--help",), ("-h",)])
def test_help_names_the_commands_and_the_switch(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 0
    assert all(command in result.output for command in COMMANDS)
    assert "MLFLOW_RUN_CONTEXT_PROVIDER=sysmetrics,sysmonitor" in result.output


@pytest.mark.parametrize("command", ["doctor", "tags", "metrics"])
def test_each_command_has_help_and_json(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "--json" in result.output


def test_the_help_of_upload_tells_of_its_options_and_the_folder() -> None:
    result = run("upload", "--help")

    assert result.exit_code == 0
    for word in ("--list", "--dry-run", "--run-id", "MLFLOW_SYSMETRICS_SPOOL_DIR", "Exit status 1"):
        assert word in result.output


def test_the_version_is_that_of_the_distribution() -> None:
    result = run("--version")

    assert result.exit_code == 0
    assert result.output == f"mlflow-sysmetrics, version {version('mlflow-sysmetrics')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("diagnose",),
        ("tags", "--xml"),
        ("metrics", "--interval", "0"),
        ("metrics", "extra"),
        ("upload", "extra"),
        ("upload", "--list", "--dry-run"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert "Usage:" in result.output


# doctor


def _report(*problems: str) -> Report:
    return Report(
        {"MLflow": "3.0"}, {}, {"cpu": None}, {}, is_vetoed=False, notes=(), problems=problems
    )


@pytest.mark.parametrize(("problems", "exit_code"), [((), 0), (("it is broken",), 1)])
def test_the_doctors_exit_status_tells_of_problems(
    mocker: MockerFixture, problems: tuple[str, ...], exit_code: int
) -> None:
    mocker.patch("mlflow_sysmetrics.cli.diagnosis.diagnose", return_value=_report(*problems))

    text, as_json = run("doctor"), run("doctor", "--json")

    assert text.exit_code == as_json.exit_code == exit_code
    assert text.output.rstrip().endswith(problems[0] if problems else "No problem found.")
    assert json.loads(as_json.output)["problems"] == list(problems)


# tags


def test_tags_are_printed(mocker: MockerFixture) -> None:
    found = {"sys.cpu": "AMD EPYC", "sys.cpu_cores": "64"}
    mocker.patch.object(cli, "host_tags", return_value=found)

    assert run("tags").output == "sys.cpu        AMD EPYC\nsys.cpu_cores  64\n"
    assert json.loads(run("tags", "--json").output) == found


# metrics


def test_metrics_are_printed_with_unit_and_meaning(collector: Scripted) -> None:
    result = run("metrics", "--interval", "0.1")

    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert rows.keys() == {
        "system/disk_available_megabytes",
        "system/network_receive_megabytes",
        "system/process/sampler_cpu_milliseconds",
    }
    assert "12,345.678  megabytes" in rows["system/disk_available_megabytes"]
    assert "5.000" in rows["system/network_receive_megabytes"]
    assert rows["system/network_receive_megabytes"].endswith("since the run opened.")
    assert collector.closed


def test_metrics_are_printed_as_json(collector: Scripted) -> None:
    values = json.loads(run("metrics", "--interval", "0.1", "--json").output)

    assert values["system/disk_available_megabytes"] == 12345.678
    assert values["system/network_receive_megabytes"] == 5.0


def test_watching_goes_on_until_it_is_interrupted(
    collector: Scripted, mocker: MockerFixture
) -> None:
    sleep = mocker.patch("time.sleep", side_effect=[None, None, KeyboardInterrupt])

    result = run("metrics", "--watch", "--json", "--interval", "2")

    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.output.splitlines() if line]
    assert [line["system/network_receive_megabytes"] for line in lines] == [5.0, 10.0]
    assert {call.args for call in sleep.call_args_list} == {(2.0,)}
    assert collector.closed
