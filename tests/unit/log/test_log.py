from __future__ import annotations

import pytest

from fakes.logging_handlers import FailingHandler
from mlflow_sysmetrics.log import logger, warn_once

pytestmark = pytest.mark.usefixtures("nothing_said")


def test_each_thing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for message in ("one thing", "another 100 %", "one thing"):
        warn_once(message)

    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("mlflow_sysmetrics", "WARNING", "mlflow-sysmetrics: one thing"),
        ("mlflow_sysmetrics", "WARNING", "mlflow-sysmetrics: another 100 %"),
    ]


def test_a_handler_that_fails_costs_the_message_alone(request: pytest.FixtureRequest) -> None:
    handler = FailingHandler.installed(request)

    warn_once("one thing")
    logger.error("another: %r", ValueError("broken"))

    assert handler.messages == [
        "mlflow-sysmetrics: one thing",
        "mlflow-sysmetrics: another: ValueError('broken')",
    ]
