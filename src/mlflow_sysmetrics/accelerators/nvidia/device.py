"""A device whose calls fail one by one.

What is not supported is asked once; what fails otherwise is asked again at growing intervals.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.nvidia.nvml import NoDataError, NotSupportedError, NvmlError
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.log import logger, warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from mlflow_sysmetrics.accelerators.inventory import Address
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, Field, Nvml


class NvmlDevice:
    """A GPU or a MIG instance.

    Attributes:
        answers: How often it answered so far.
        failures: How often it failed, unsupported calls left out.
    """

    def __init__(self, nvml: Nvml, address: Address) -> None:
        self.nvml = nvml
        self.address = address
        self.answers = 0
        self.failures = 0
        self._backoffs: dict[Hashable, Backoff] = defaultdict(Backoff)
        self._kept: dict[Call, tuple[float, Any]] = {}  # until when, and the answer
        self._withheld: set[Hashable] = set()

    def __str__(self) -> str:
        index, instance = self.address
        return f"GPU {index}" if instance is None else f"GPU {index} MIG {instance}"

    def ask(self, call: Call, now_s: float) -> Any:  # noqa: ANN401 - an int or a struct of pynvml
        """What a call returns; None where it failed or is in a pause."""
        until_s, kept = self._kept.get(call, (-math.inf, None))
        if now_s < until_s:
            return kept
        answer = self.attempt(call, lambda: self.nvml.call(call, self.address), now_s)
        if call.lasts_s:
            self._kept[call] = (now_s + call.lasts_s if answer is not None else -math.inf, answer)
        return answer

    def ask_fields(self, fields: Iterable[Field], now_s: float) -> dict[Field, float]:
        """The values of those fields that it reports now, by one call."""
        asked = [field for field in fields if self._backoffs[field].allows(now_s)]
        if not asked:
            return {}
        values: list[float | NvmlError]
        try:
            values = self.nvml.fields(asked, self.address)
        except NvmlError as error:
            values = [error] * len(asked)
        known = {}
        for field, value in zip(asked, values, strict=True):
            if isinstance(value, NvmlError):
                self._fail(field, value, now_s)
            else:
                self._succeed(field)
                known[field] = value
        return known

    def attempt(self, what: Hashable, function: Callable[[], Any], now_s: float) -> Any:  # noqa: ANN401 - as the function
        """What a function that asks the device returns; None where it failed or is in a pause."""
        if not self._backoffs[what].allows(now_s):
            return None
        try:
            answer = function()
        except NvmlError as error:
            self._fail(what, error, now_s)
            return None
        self._succeed(what)
        return answer

    def has_given_up(self, what: Hashable) -> bool:
        """Whether the device will never report this."""
        return self._backoffs[what].has_given_up

    def withholds(self, what: Hashable) -> bool:
        """Whether the device, though healthy, did not report this when last asked."""
        return what in self._withheld or self.has_given_up(what)

    def why_not(self, what: Hashable) -> str | None:
        """Why this was not reported when last asked; None where it was."""
        return self._backoffs[what].reason

    def _succeed(self, what: Hashable) -> None:
        self.answers += 1
        self._withheld.discard(what)
        self._backoffs[what].succeed()

    def _fail(self, what: Hashable, error: NvmlError, now_s: float) -> None:
        if isinstance(error, NotSupportedError):
            self._backoffs[what].give_up(error)
        else:
            self.failures += 1
            self._backoffs[what].fail(error, now_s)
            if isinstance(error, NoDataError):
                self._withheld.add(what)
            else:
                self._kept.clear()
                # Without the call: a lost GPU fails in all calls, and is reported once.
                warn_once(
                    f"{self}: {error}; what fails is left out and tried again at growing intervals"
                )
        logger.debug("%s: %s: %s", self, what, error)
