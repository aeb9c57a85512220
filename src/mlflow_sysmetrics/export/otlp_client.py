"""One OTLP receiver, through OpenTelemetry's exporter."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult

from mlflow_sysmetrics.delivery.quiet import quiet_libraries
from mlflow_sysmetrics.export.otlp_data import MetricsBuilder
from mlflow_sysmetrics.export.otlp_failure import NotSent
from mlflow_sysmetrics.log.addresses import shown_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.export.contract import Sample
    from mlflow_sysmetrics.host.forks import CallLock

_TRY_LATER: Final = frozenset((408, 429, 502, 503, 504))
"""Answers after which the same data may be taken later; all others are final."""

_DRAWING: Final = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",  # in versions before that
)
"""Modules that draw random numbers."""


class OtlpClient:
    """Sends to the receiver that the standard variables (`OTEL_EXPORTER_OTLP_…`) name.

    Args:
        busy: Held while a request is under way.
        is_delta: Whether counters are sent as what they rose by.
    """

    def __init__(self, busy: CallLock, *, is_delta: bool) -> None:
        self._session = _Session(busy)
        self._exporter = OTLPMetricExporter(session=self._session)
        _leave_random_numbers_alone()
        self._builder = MetricsBuilder(is_delta=is_delta)

    def send(self, samples: Sequence[Sample]) -> None:
        """Send, and retry for as long as `OTEL_EXPORTER_OTLP_TIMEOUT` allows.

        Raises:
            NotSent: The receiver did not take it.
        """
        data = self._builder.build(samples)
        self._session.forget()
        with quiet_libraries():
            try:
                result = self._exporter.export(data)
            except requests.RequestException:  # older versions let it through
                result = MetricExportResult.FAILURE
        if result is not MetricExportResult.SUCCESS:
            raise self._session.failure()
        self._builder.confirm()


class _Session(requests.Session):
    """Notes how the last request ended, which the exporter does not tell.

    Args:
        busy: Held while a request is under way.
    """

    def __init__(self, busy: CallLock) -> None:
        super().__init__()
        self._busy = busy
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._url = ""
        self._status: int | None = None
        self._reason = ""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401 - as the base's
        """Send; see the base class."""
        self.forget()
        self._url = request.url or ""
        try:
            with self._busy:
                response = super().send(request, **options)
        except requests.RequestException as error:
            self._reason = _innermost(error)
            raise
        self._status = response.status_code
        self._reason = f"{response.status_code} {response.reason} {response.text}".strip()
        return response

    def failure(self) -> NotSent:
        """Why the last request failed; without one, the data could not be encoded."""
        is_refused = self._status is not None and self._status not in _TRY_LATER
        return NotSent(
            shown_text(self._reason, self._url) or "it could not be encoded",
            is_final=is_refused or not self._url,
        )


def _leave_random_numbers_alone() -> None:
    """Let OpenTelemetry draw its pauses, one for each request, from a generator of its own.

    From Python's shared one a training that seeds it would get other numbers.
    """
    for name in _DRAWING:
        module = sys.modules.get(name)
        if getattr(module, "random", None) is random:
            vars(module)["random"] = random.Random()  # noqa: S311 - no secret


def _innermost(error: BaseException) -> str:
    """What went wrong, without what requests and urllib3 have put around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
