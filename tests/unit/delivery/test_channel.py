from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.queue import Queue
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.schedule import Task
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.uploader import Uploader
from mlflow_sysmetrics.host.backoff import Backoff

if TYPE_CHECKING:
    from unittest.mock import Mock

    from pytest_mock import MockerFixture


@pytest.fixture
def stream(mocker: MockerFixture) -> Mock:
    """What waits of run 1."""
    stream: Mock = mocker.create_autospec(Stream, instance=True)
    stream.address = RunAddress("1", "http://somewhere", "system/")
    stream.queue = mocker.create_autospec(Queue, instance=True)
    stream.unsent = 0
    return stream


@pytest.fixture
def channel(mocker: MockerFixture, stream: Mock) -> Channel:
    """The handle of that run; its uploader only notes what it is asked."""
    uploader = mocker.create_autospec(Uploader, instance=True)
    uploader.backlog = mocker.create_autospec(Backlog, instance=True)
    uploader.open.return_value = Task(stream, 0.0, Backoff())
    return Channel(uploader, stream)


_LATER = "; `mlflow-sysmetrics upload` sends the rest later (from /left/1.spool)"


@pytest.mark.parametrize(
    ("at_risk", "fate"),
    [
        (0, f"until the process exits{_LATER}"),
        (12, "exits; 12 samples are in memory only, and lost at its exit"),
        (5, f"exits{_LATER}; 5 samples are in memory only, and lost at its exit"),
    ],
)
def test_what_was_not_sent_in_time_is_said(
    channel: Channel, stream: Mock, caplog: pytest.LogCaptureFixture, at_risk: int, fate: str
) -> None:
    stream.unsent = 12
    stream.spool_path = Path("/left/1.spool")
    stream.queue.unpersisted = at_risk

    channel.close(1.0)

    (message,) = caplog.messages
    assert message.startswith("mlflow-sysmetrics: 12 samples of run 1 are not uploaded yet; ")
    assert message.endswith(fate)


def test_what_was_all_sent_is_not_worth_a_word(
    channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    channel.close(1.0)

    assert caplog.messages == []
