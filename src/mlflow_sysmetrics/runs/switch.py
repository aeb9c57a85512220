"""Which providers are on: those that MLFLOW_RUN_CONTEXT_PROVIDER lists at this moment."""

from __future__ import annotations

import difflib
import os
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDERS_VARIABLE = "MLFLOW_RUN_CONTEXT_PROVIDER"
PROVIDERS_GROUP = "mlflow.run_context_provider"
SYSMETRICS = "sysmetrics"
SYSMONITOR = "sysmonitor"


def switched_on(provider: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether `MLFLOW_RUN_CONTEXT_PROVIDER` lists this provider at this moment."""
    environ = os.environ if environ is None else environ
    return provider in _names(environ.get(PROVIDERS_VARIABLE, ""))


def unknown_providers(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """A sentence about each listed name without an installed entry point."""
    environ = os.environ if environ is None else environ
    return _unknown(environ.get(PROVIDERS_VARIABLE, ""))


@lru_cache(maxsize=16)
def _names(listed: str) -> frozenset[str]:
    return frozenset(name for part in listed.split(",") if (name := part.strip()))


@lru_cache(maxsize=16)
def _unknown(listed: str) -> tuple[str, ...]:
    names = _names(listed) - {SYSMETRICS, SYSMONITOR}
    if not names:  # the usual case: spares the search through all installed distributions
        return ()
    installed = {entry.name for entry in entry_points(group=PROVIDERS_GROUP)}
    known = sorted(installed | {SYSMETRICS, SYSMONITOR})
    sentences = []
    for name in sorted(names - set(known)):
        nearest = difflib.get_close_matches(name, known, n=1)
        sentences.append(
            f"{PROVIDERS_VARIABLE} names {name!r}, which no installed plugin provides"
            + (f"; did you mean {nearest[0]!r}?" if nearest else "")
        )
    return tuple(sentences)
