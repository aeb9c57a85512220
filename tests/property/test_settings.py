"""Whatever stands in a variable, there are settings, and keys that MLflow accepts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name

from mlflow_sysmetrics.catalog import METRICS, PREFIX
from mlflow_sysmetrics.runs.switch import PROVIDERS_VARIABLE, switched_on, unknown_providers
from mlflow_sysmetrics.settings import (
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    PROMETHEUS,
    VARIABLES,
    Settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.settings import Variable

NODE_ID = "MLFLOW_SYSTEM_METRICS_NODE_ID"

RANGES: dict[str, Callable[..., bool]] = {
    "sampling_interval_s": lambda value: MIN_INTERVAL_S <= value <= MAX_INTERVAL_S,
    "samples_before_logging": lambda value: isinstance(value, int) and value >= 1,
    "node_id": lambda value: value is None or 0 < len(value) <= 100,
    "include": all,
    "exclude": all,
    "exclude_tags": all,
    "gpus": lambda value: value in {"visible", "used", "all"},
    "gpu_profiling": lambda value: isinstance(value, bool),
    "distributed": lambda value: value in {"auto", "all", "off"},
    "summary": lambda value: value == ("off",) or all(value),
    "findings": lambda value: value in {"on", "off", "describe"},
    "findings_exclude": all,
    "export": lambda value: all(
        each == "otlp" or each.startswith("textfile:/") or PROMETHEUS.fullmatch(each)
        for each in value
    ),
    "flush_timeout_s": lambda value: math.isfinite(value) and 0 <= value <= 3600,
    "spool_dir": lambda value: value is None or value.is_absolute(),
}

texts = st.text() | st.floats().map(str) | st.integers().map(str)
node_ids = st.text() | st.from_regex(r"[\w.\- ]{1,100}", fullmatch=True)


@given(st.sampled_from(VARIABLES), texts)
def test_any_text_gives_a_problem_or_a_value_in_its_range(variable: Variable, text: str) -> None:
    settings = Settings.from_env({variable.name: text})

    value = getattr(settings, variable.field)
    assert RANGES[variable.field](value)
    if settings.problems:
        assert value == variable.default
        assert settings.origins == {}
    else:
        assert settings.origins == {variable.field: variable.name}


@given(st.dictionaries(st.sampled_from([each.name for each in VARIABLES]), texts))
def test_problems_are_as_many_as_refused_variables(environ: dict[str, str]) -> None:
    settings = Settings.from_env(environ)

    assert len(settings.problems) + len(settings.origins) == len(environ)


@given(texts)
def test_any_text_may_stand_where_providers_are_listed(text: str) -> None:
    environ = {PROVIDERS_VARIABLE: text}

    assert switched_on("sysmetrics", environ) == ("sysmetrics" in map(str.strip, text.split(",")))
    assert all(PROVIDERS_VARIABLE in sentence for sentence in unknown_providers(environ))


@given(node_ids)
@example("...")
@example(". .")
@example("a\n")
@example("\N{SUPERSCRIPT TWO}")
def test_metric_keys_with_any_accepted_node_id_are_valid(text: str) -> None:
    node_id = Settings.from_env({NODE_ID: text}).node_id
    prefix = PREFIX + (f"{node_id}/" if node_id else "")

    for metric in METRICS:
        key = prefix + metric.key.format(index=127, instance=6)
        _validate_metric_name(key)
        assert len(key) <= MAX_ENTITY_KEY_LENGTH
