from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_sysmetrics.settings import VARIABLES, Settings

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
SAMPLES = "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING"
NODE_ID = "MLFLOW_SYSTEM_METRICS_NODE_ID"
INCLUDE = "MLFLOW_SYSMETRICS_INCLUDE"
EXCLUDE = "MLFLOW_SYSMETRICS_EXCLUDE"
EXCLUDE_TAGS = "MLFLOW_SYSMETRICS_EXCLUDE_TAGS"
GPUS = "MLFLOW_SYSMETRICS_GPUS"
PROFILING = "MLFLOW_SYSMETRICS_GPU_PROFILING"
FLUSH_TIMEOUT = "MLFLOW_SYSMETRICS_FLUSH_TIMEOUT"
SPOOL_DIR = "MLFLOW_SYSMETRICS_SPOOL_DIR"

GOOD = [
    (INTERVAL, "0.01", "sampling_interval_s", 0.01),
    (INTERVAL, " 2.5 ", "sampling_interval_s", 2.5),
    (INTERVAL, "86400", "sampling_interval_s", 86_400.0),
    (SAMPLES, "1", "samples_before_logging", 1),
    (SAMPLES, "12", "samples_before_logging", 12),
    (NODE_ID, "node-3.rack_1 a", "node_id", "node-3.rack_1 a"),
    (NODE_ID, "", "node_id", None),
    (INCLUDE, "process/*, gpu_*,,", "include", ("process/*", "gpu_*")),
    (INCLUDE, "", "include", ()),
    (EXCLUDE, "disk_*", "exclude", ("disk_*",)),
    (EXCLUDE_TAGS, "sys.hostname,sys.k8s_*", "exclude_tags", ("sys.hostname", "sys.k8s_*")),
    ("MLFLOW_SYSMETRICS_DISTRIBUTED", "All", "distributed", "all"),
    (GPUS, "used", "gpus", "used"),
    (GPUS, " ALL ", "gpus", "all"),
    (GPUS, "visible", "gpus", "visible"),
    (PROFILING, "True", "gpu_profiling", True),
    (PROFILING, "1", "gpu_profiling", True),
    (PROFILING, "false", "gpu_profiling", False),
    (PROFILING, "0", "gpu_profiling", False),
    (FLUSH_TIMEOUT, "0", "flush_timeout_s", 0.0),
    (FLUSH_TIMEOUT, "3600", "flush_timeout_s", 3600.0),
    (SPOOL_DIR, " /scratch/me ", "spool_dir", Path("/scratch/me")),
    (SPOOL_DIR, "left", "spool_dir", Path.cwd() / "left"),
    (SPOOL_DIR, "~/left", "spool_dir", Path.home() / "left"),
    (SPOOL_DIR, "", "spool_dir", None),
]

BAD = [
    (INTERVAL, "0"),
    (INTERVAL, "-1"),
    (INTERVAL, "86401"),
    (INTERVAL, "nan"),
    (INTERVAL, "inf"),
    (INTERVAL, "ten"),
    (INTERVAL, ""),
    (SAMPLES, "0"),
    (SAMPLES, "-3"),
    (SAMPLES, "1.5"),
    (SAMPLES, "many"),
    (SAMPLES, "9" * 5000),
    (NODE_ID, "a/b"),
    (NODE_ID, ".."),
    (NODE_ID, "n" * 101),
    (NODE_ID, "node:3"),
    (GPUS, "0,1"),
    (GPUS, ""),
    (PROFILING, "yes, please"),
    (PROFILING, ""),
    (FLUSH_TIMEOUT, "-0.1"),
    (FLUSH_TIMEOUT, "3601"),
    (FLUSH_TIMEOUT, "nan"),
    (FLUSH_TIMEOUT, "soon"),
    (SPOOL_DIR, "~nobody-of-this-name/left"),
]


def test_without_variables_all_is_as_documented() -> None:
    assert Settings.from_env({}) == Settings()
    of_the_run = {each.name for each in fields(Settings)} - {"origins", "problems"}
    assert {each.field for each in VARIABLES} == of_the_run


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SAMPLES, "7")

    assert Settings.from_env().samples_before_logging == 7


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_a_good_value_is_taken(name: str, text: str, field: str, value: object) -> None:
    found = Settings.from_env({name: text})

    assert getattr(found, field) == value
    assert found.origins == {field: name}
    assert found.problems == ()


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value_is_said_and_the_default_taken(name: str, text: str) -> None:
    variable = next(each for each in VARIABLES if each.name == name)

    found = Settings.from_env({name: text})

    assert getattr(found, variable.field) == variable.default
    assert found.origins == {}
    assert found.problems == (
        f"{name}={text!r} is not {variable.allowed}; using the default, {variable.default_text}",
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (INTERVAL, "10"),
        (NODE_ID, "none"),
        ("MLFLOW_SYSMETRICS_SUMMARY", "the usual values"),
        ("MLFLOW_SYSMETRICS_GPU_PROFILING", "false"),
    ],
)
def test_the_default_is_said_as_a_user_would_write_it(name: str, shown: str) -> None:
    (problem,) = Settings.from_env({name: "?"}).problems

    assert problem.endswith(f"; using the default, {shown}")


def test_one_bad_value_costs_the_others_nothing() -> None:
    found = Settings.from_env({INTERVAL: "often", SAMPLES: "3", NODE_ID: "../x"})

    assert found.samples_before_logging == 3
    assert len(found.problems) == 2


def test_arguments_win_over_what_was_set() -> None:
    found = Settings.from_env({INTERVAL: "3", SAMPLES: "2"})

    assert found.overridden(sampling_interval_s=0.5, node_id=7) == Settings(
        sampling_interval_s=0.5, samples_before_logging=2, node_id="7"
    )


def test_an_argument_that_is_none_changes_nothing() -> None:
    found = Settings.from_env({INTERVAL: "3"})

    assert found.overridden(sampling_interval_s=None, node_id=None) == found


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampling_interval_s": 0},
        {"sampling_interval_s": "often"},
        {"samples_before_logging": 2.5},
        {"node_id": "a/b"},
        {"spool_dir": "~nobody-of-this-name/left"},
    ],
)
def test_a_bad_argument_is_said_and_what_was_set_stays(arguments: dict[str, Any]) -> None:
    before = Settings.from_env({INTERVAL: "3", SAMPLES: "none"})

    after = before.overridden(**arguments)

    (name,) = arguments
    assert getattr(after, name) == getattr(before, name)
    assert after.problems[:-1] == before.problems
    assert re.match(f"{name}=.* is not .*; using {getattr(before, name)}$", after.problems[-1])


# Which metrics


@pytest.mark.parametrize(
    ("include", "exclude", "is_logged"),
    [
        ((), (), True),
        (("gpu_*",), (), True),
        (("system/gpu_0_*",), (), True),
        (("process/*",), (), False),
        (("process/*", "*watts"), (), True),
        (("GPU_*",), (), False),
        ((), ("gpu_[1-9]*",), True),
        ((), ("*",), False),
        (("*",), ("*_power_*",), False),
        ((), ("system/*",), False),
    ],
)
def test_globs_tell_what_is_logged(
    include: tuple[str, ...], exclude: tuple[str, ...], *, is_logged: bool
) -> None:
    assert Settings(include=include, exclude=exclude).wants("gpu_0_power_usage_watts") is is_logged


# The spool


def test_a_folder_that_is_set_is_the_spools() -> None:
    assert Settings(spool_dir=Path("/scratch/me")).spool_folder == Path("/scratch/me")


@pytest.mark.parametrize(("state", "parent"), [("/state", "/state"), (None, "~/.local/state")])
def test_the_users_state_folder_is_the_default(
    monkeypatch: pytest.MonkeyPatch, state: str | None, parent: str
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)

    assert Settings().spool_folder == Path(parent).expanduser() / "mlflow-sysmetrics/spool"


def test_a_user_without_a_home_has_no_default(
    monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    mocker.patch("pwd.getpwuid", side_effect=KeyError)

    assert Settings().spool_folder is None
