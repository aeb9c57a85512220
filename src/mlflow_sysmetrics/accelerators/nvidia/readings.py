"""What is read of an NVIDIA GPU: `COUNTERS` is the whole list, a further reading a further row."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, Field
from mlflow_sysmetrics.accelerators.nvidia.probe import (
    MEMORY,
    MEMORY_CLOCK,
    POWER,
    POWER_LIMIT,
    SM_CLOCK,
    TEMPERATURE,
    TEMPERATURE_FROM_CUDA_14,
    UTILIZATION,
    are_only_zeros,
)
from mlflow_sysmetrics.collectors.counters import Integral, RisingTotal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_sysmetrics.accelerators.nvidia.device import GuardedDevice


class Kind(Enum):
    """What a counter's value is."""

    GAUGE = auto()
    TOTAL = auto()  # rises, and begins anew where the driver is loaded anew
    RATE = auto()  # of something each second; handed over added up, as a total


@dataclass(frozen=True)
class Counter:
    """One reading of a GPU.

    Attributes:
        reading: Its name after `gpu_<index>`.
        asks: What NVML is asked for it; what several counters need is asked once a tick.
        value: From the answers, in this order, to the reading; None where they do not hold it.
        kind: What the value is.
        instead_of: Read only where the GPU will never report this.
        in_mig_mode: Whether it means something for a GPU that is cut into instances.
    """

    reading: str
    asks: tuple[Call | Field, ...]
    value: Callable[..., float | None] = float
    kind: Kind = Kind.GAUGE
    instead_of: Call | Field | None = None
    in_mig_mode: bool = True


def _percentage(part: float, whole: float) -> float | None:
    return 100.0 * part / whole if whole > 0 else None


def _used_megabytes(memory: Any) -> float | None:  # noqa: ANN401 - a struct of pynvml
    return memory.used / 1e6 if memory.total else None


def _above_zero(value: float) -> float | None:
    return value if value > 0 else None


def _is_slowed(reasons: int) -> float:
    return float(bool(reasons & _HARDWARE_SLOWDOWN))


_ALL_LINKS = 0xFFFFFFFF

# Calls
_FAN = Call("nvmlDeviceGetFanSpeed")  # percent of the full speed
_ENCODER = Call("nvmlDeviceGetEncoderUtilization")  # percent, and over how many microseconds
_DECODER = Call("nvmlDeviceGetDecoderUtilization")
_SLOWDOWN_REASONS = Call("nvmlDeviceGetCurrentClocksEventReasons")  # a bit each
_SLOWDOWN_REASONS_BEFORE_535 = Call("nvmlDeviceGetCurrentClocksThrottleReasons")
_HARDWARE_SLOWDOWN = 0x08 | 0x40 | 0x80  # HwSlowdown, HwThermalSlowdown, HwPowerBrakeSlowdown
# Kilobytes a second, over 20 ms for which it waits. The fields that count PCIe's bytes (197, 198)
# are no way round that: they wrap at 32 bits, so within a second of much traffic.
_PCIE_SENT = Call("nvmlDeviceGetPcieThroughput", (0,), lasts_s=5)  # NVML_PCIE_UTIL_TX_BYTES
_PCIE_RECEIVED = Call("nvmlDeviceGetPcieThroughput", (1,), lasts_s=5)  # NVML_PCIE_UTIL_RX_BYTES

# Fields: NVML_FI_DEV_…
_ECC_CORRECTED = Field(3)  # ECC_SBE_VOL_TOTAL: since the driver was loaded
_ECC_UNCORRECTED = Field(4)  # ECC_DBE_VOL_TOTAL
_HELD_BY_POWER = Field(74)  # PERF_POLICY_POWER; nanoseconds
_HELD_BY_TEMPERATURE = Field(75)  # PERF_POLICY_THERMAL; nanoseconds
_MEMORY_TEMPERATURE = Field(82)  # MEMORY_TEMP; degrees Celsius
_ENERGY = Field(83)  # TOTAL_ENERGY_CONSUMPTION; millijoules since the driver was loaded
_NVLINK_SENT = Field(138, _ALL_LINKS)  # NVLINK_THROUGHPUT_DATA_TX; KiB
_NVLINK_RECEIVED = Field(139, _ALL_LINKS)  # NVLINK_THROUGHPUT_DATA_RX
_REMAPPED_CORRECTABLE = Field(142)  # REMAPPED_COR; over the GPU's life
_REMAPPED_UNCORRECTABLE = Field(143)  # REMAPPED_UNC

COUNTERS = (
    Counter("utilization_percentage", (UTILIZATION,), lambda rates: rates.gpu, in_mig_mode=False),
    Counter(
        "memory_controller_utilization_percentage",
        (UTILIZATION,),
        lambda rates: rates.memory,
        in_mig_mode=False,
    ),
    Counter("memory_usage_megabytes", (MEMORY,), _used_megabytes, in_mig_mode=False),
    Counter(
        "memory_usage_percentage",
        (MEMORY,),
        lambda memory: _percentage(memory.used, memory.total),
        in_mig_mode=False,
    ),
    Counter("power_usage_watts", (POWER,), lambda milliwatts: milliwatts / 1e3),
    Counter("power_usage_percentage", (POWER, POWER_LIMIT), _percentage),
    Counter("power_limit_watts", (POWER_LIMIT,), lambda milliwatts: milliwatts / 1e3 or None),
    Counter("energy_joules", (_ENERGY,), lambda millijoules: millijoules / 1e3, Kind.TOTAL),
    Counter(
        "energy_estimated_joules",
        (POWER,),
        lambda milliwatts: milliwatts / 1e3,
        Kind.RATE,
        instead_of=_ENERGY,
    ),
    Counter("temperature_celsius", (TEMPERATURE,), _above_zero),
    Counter(
        "temperature_celsius", (TEMPERATURE_FROM_CUDA_14,), _above_zero, instead_of=TEMPERATURE
    ),
    # A memory without a sensor may say 0 instead of "not supported".
    Counter("memory_temperature_celsius", (_MEMORY_TEMPERATURE,), _above_zero),
    Counter("fan_speed_percentage", (_FAN,)),
    Counter("sm_clock_megahertz", (SM_CLOCK,), _above_zero),
    Counter("memory_clock_megahertz", (MEMORY_CLOCK,), _above_zero),
    Counter("throttled_power_seconds", (_HELD_BY_POWER,), lambda nanos: nanos / 1e9, Kind.TOTAL),
    Counter(
        "throttled_thermal_seconds", (_HELD_BY_TEMPERATURE,), lambda nanos: nanos / 1e9, Kind.TOTAL
    ),
    # The fields that count these have had different numbers in different drivers.
    Counter("throttled_hardware_seconds", (_SLOWDOWN_REASONS,), _is_slowed, Kind.RATE),
    Counter(
        "throttled_hardware_seconds",
        (_SLOWDOWN_REASONS_BEFORE_535,),
        _is_slowed,
        Kind.RATE,
        instead_of=_SLOWDOWN_REASONS,
    ),
    Counter("encoder_utilization_percentage", (_ENCODER,), lambda told: told[0], in_mig_mode=False),
    Counter("decoder_utilization_percentage", (_DECODER,), lambda told: told[0], in_mig_mode=False),
    Counter("nvlink_receive_bytes", (_NVLINK_RECEIVED,), lambda kib: kib * 1024, Kind.TOTAL),
    Counter("nvlink_transmit_bytes", (_NVLINK_SENT,), lambda kib: kib * 1024, Kind.TOTAL),
    Counter("ecc_corrected_errors", (_ECC_CORRECTED,), kind=Kind.TOTAL),
    Counter("ecc_uncorrected_errors", (_ECC_UNCORRECTED,), kind=Kind.TOTAL),
    Counter(
        "remapped_rows",
        (_REMAPPED_CORRECTABLE, _REMAPPED_UNCORRECTABLE),
        lambda correctable, uncorrectable: correctable + uncorrectable,
        Kind.TOTAL,
    ),
    # Last, since they wait.
    Counter("pcie_receive_megabytes_per_second", (_PCIE_RECEIVED,), lambda kb: kb / 1e3),
    Counter("pcie_transmit_megabytes_per_second", (_PCIE_SENT,), lambda kb: kb / 1e3),
)


class CounterReadings:
    """The counters of one GPU.

    Args:
        device: The GPU.
        in_mig_mode: Whether it is cut into instances.

    Attributes:
        are_only_zeros: Whether the last look found nothing but answers of 0.
    """

    def __init__(self, device: GuardedDevice, *, in_mig_mode: bool) -> None:
        self.are_only_zeros = False
        self._device = device
        self._counters = [each for each in COUNTERS if each.in_mig_mode or not in_mig_mode]
        self._zeros: set[str] = (
            set()
        )  # readings whose 0, at the last look, meant that there is none
        asks = [ask for counter in self._counters for ask in counter.asks]
        self._fields = list(dict.fromkeys(ask for ask in asks if isinstance(ask, Field)))
        self._totals = {
            counter: Integral() if counter.kind is Kind.RATE else RisingTotal()
            for counter in self._counters
            if counter.kind is not Kind.GAUGE
        }

    def read(self, now_s: float) -> dict[str, float]:
        """Readings by name after `gpu_<index>`: gauges, and totals since the first reading."""
        answers: dict[Any, Any] = dict(self._device.ask_fields(self._fields, now_s))
        asked = list(self._active())
        for ask in (ask for counter in asked for ask in counter.asks):
            if ask not in answers and isinstance(ask, Call):
                answers[ask] = self._device.ask(ask, now_s)
        self.are_only_zeros = are_only_zeros(answers)
        if self.are_only_zeros:
            return {}
        readings: dict[str, float] = {}
        for counter in asked:
            arguments = [answers.get(ask) for ask in counter.asks]
            if None in arguments:
                continue
            value = counter.value(*arguments)
            if value is None:
                self._zeros.add(counter.reading)
            else:
                self._zeros.discard(counter.reading)
                readings[counter.reading] = self._total(counter, value, now_s)
        return readings

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Each reading that the last look did not have, and why."""
        for counter in self._active():
            reasons = [reason for ask in counter.asks if (reason := self._device.why_not(ask))]
            if reasons:
                yield counter.reading, reasons[0]
            elif counter.reading in self._zeros:
                yield counter.reading, "the driver reports 0, as it does where there is none"

    @property
    def has_no_own_memory(self) -> bool:
        """Whether the GPU has said that it reports no memory, as one does that uses the host's."""
        return self._device.has_given_up(MEMORY)

    def _active(self) -> Iterator[Counter]:
        replaced = {
            counter.instead_of
            for counter in self._counters
            if counter.instead_of and self._device.has_given_up(counter.instead_of)
        }
        for counter in self._counters:
            if counter.instead_of is None:
                if replaced.isdisjoint(counter.asks):
                    yield counter
            elif counter.instead_of in replaced:
                yield counter

    def _total(self, counter: Counter, value: float, now_s: float) -> float:
        total = self._totals.get(counter)
        return float(value) if total is None else total.update(value, now_s)
