from __future__ import annotations

import pytest

from mlflow_sysmetrics.notices import warn_once

pytestmark = pytest.mark.usefixtures("nothing_said")


def test_each_thing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for message in ("one thing", "another 100 %", "one thing"):
        warn_once(message)

    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("mlflow_sysmetrics", "WARNING", "mlflow-sysmetrics: one thing"),
        ("mlflow_sysmetrics", "WARNING", "mlflow-sysmetrics: another 100 %"),
    ]
