"""The alert rules for Prometheus, by its own checker."""

from __future__ import annotations

import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def promtool(*arguments: str | Path) -> str:
    """What it says; it fails on whatever it finds."""
    done = subprocess.run(
        ["promtool", *arguments],  # noqa: S607 - of Debian's package prometheus
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_prometheus_loads_the_alert_rules() -> None:
    assert "6 rules found" in promtool("check", "rules", _ROOT / "grafana/alerts.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", _ROOT / "tests/data/alerts/alerts_test.yml")
