from __future__ import annotations

import logging

import pytest

from mlflow_sysmetrics.log.isolation import Isolated, contained

pytestmark = pytest.mark.usefixtures("nothing_said")


def read_tags() -> dict[str, str]:
    with contained("runs get no host tags", tracking_uri="http://me:opensesame@here"):
        raise RuntimeError("no answer from http://me:opensesame@here")
    return {}


def test_a_failure_costs_what_the_warning_says_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert read_tags() == read_tags() == {}

    (warning,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert "runs get no host tags: RuntimeError('no answer from http" in warning
    assert "opensesame" not in warning


def test_one_warning_of_a_subject_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        with contained("runs go unnoticed", subject="runs"):
            raise RuntimeError(number)

    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_user_may_end_the_program_at_any_time(kind: type[BaseException]) -> None:
    with pytest.raises(kind), contained("runs get no host tags"):
        raise kind


def test_the_caller_learns_what_has_failed() -> None:
    with Isolated() as attempt:
        raise ValueError("soon")

    assert str(attempt.error) == "soon"


def test_nothing_is_said_of_what_goes_well(caplog: pytest.LogCaptureFixture) -> None:
    with contained("runs get no host tags") as attempt:
        pass

    assert attempt.error is None
    assert caplog.records == []
