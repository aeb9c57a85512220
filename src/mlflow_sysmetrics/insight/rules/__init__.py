"""The rules, one subject a file; `RULES` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_sysmetrics.insight.finding import Rule

RULES: tuple[Rule, ...] = ()
"""All rules, in the order in which the reference shows them."""
