from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.uploader import Uploader

if TYPE_CHECKING:
    from unittest.mock import Mock

    from pytest_mock import MockerFixture


@pytest.fixture
def stream(mocker: MockerFixture) -> Mock:
    """What waits of run 1."""
    stream: Mock = mocker.create_autospec(Stream, instance=True)
    stream.address = RunAddress("1", "http://somewhere", "system/")
    return stream


@pytest.fixture
def uploader(mocker: MockerFixture) -> Mock:
    """It sends everything in time."""
    uploader: Mock = mocker.create_autospec(Uploader, instance=True)
    uploader.close.return_value = 0
    return uploader


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
    uploader: Mock, stream: Mock, caplog: pytest.LogCaptureFixture, at_risk: int, fate: str
) -> None:
    uploader.close.return_value = 12
    stream.spool_path = Path("/left/1.spool")
    stream.unpersisted = at_risk

    Channel(stream, uploader).close(1.0)

    (message,) = caplog.messages
    assert message.startswith("mlflow-sysmetrics: 12 samples of run 1 are not uploaded yet; ")
    assert message.endswith(fate)


def test_what_was_all_sent_is_not_worth_a_word(
    uploader: Mock, stream: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    Channel(stream, uploader).close(1.0)

    assert caplog.messages == []
