"""What is read of an NVIDIA GPU: `READINGS` is the whole list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, Field
from mlflow_sysmetrics.accelerators.nvidia.silence import (
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
    from collections.abc import Callable, Iterator, Sequence

    from mlflow_sysmetrics.accelerators.nvidia.device import NvmlDevice


class Kind(Enum):
    """What a reading's value is."""

    GAUGE = auto()
    TOTAL = auto()  # rises, and begins anew where the driver is loaded anew
    RATE = auto()  # of something each second; handed over added up, as a total


@dataclass(frozen=True)
class Reading:
    """One reading of a GPU.

    Attributes:
        name: Its name after `gpu_<index>`.
        asks: What NVML is asked for it; what several readings need is asked once a tick.
        value: From the answers, in this order, to the value; None where they do not hold it.
        kind: What the value is.
        instead_of: Read only where the GPU will never report this.
        in_mig_mode: Whether it has a meaning for a GPU in MIG mode.
    """

    name: str
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


def _first(values: Sequence[float]) -> float:
    return values[0]


def _from_thousandths(value: float) -> float:
    return value / 1e3


def _from_billionths(value: float) -> float:
    return value / 1e9


def _from_kib(value: float) -> float:
    return value * 1024.0


def _is_slowed(reasons: int) -> float:
    return float(bool(reasons & _HARDWARE_SLOWDOWN))


_ALL_LINKS = 0xFFFFFFFF

# Calls
_FAN = Call("nvmlDeviceGetFanSpeed")  # percent of the full speed
_ENCODER = Call("nvmlDeviceGetEncoderUtilization")  # percent, and over how many microseconds
_DECODER = Call("nvmlDeviceGetDecoderUtilization")
_SLOWDOWN_REASONS = Call("nvmlDeviceGetCurrentClocksEventReasons")  # a bit each
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

_whole_gpu = partial(Reading, in_mig_mode=False)
"""Of a GPU in MIG mode, these would be other people's, too."""

READINGS = (
    _whole_gpu("utilization_percentage", (UTILIZATION,), lambda rates: rates.gpu),
    _whole_gpu(
        "memory_controller_utilization_percentage", (UTILIZATION,), lambda rates: rates.memory
    ),
    _whole_gpu("memory_usage_megabytes", (MEMORY,), _used_megabytes),
    _whole_gpu(
        "memory_usage_percentage", (MEMORY,), lambda memory: _percentage(memory.used, memory.total)
    ),
    Reading("power_usage_watts", (POWER,), _from_thousandths),
    Reading("power_usage_percentage", (POWER, POWER_LIMIT), _percentage),
    Reading("power_limit_watts", (POWER_LIMIT,), lambda milliwatts: milliwatts / 1e3 or None),
    Reading("energy_joules", (_ENERGY,), _from_thousandths, Kind.TOTAL),
    Reading("energy_estimated_joules", (POWER,), _from_thousandths, Kind.RATE, instead_of=_ENERGY),
    Reading("temperature_celsius", (TEMPERATURE,), _above_zero),
    Reading(
        "temperature_celsius", (TEMPERATURE_FROM_CUDA_14,), _above_zero, instead_of=TEMPERATURE
    ),
    # A memory without a sensor may say 0 instead of "not supported".
    Reading("memory_temperature_celsius", (_MEMORY_TEMPERATURE,), _above_zero),
    Reading("fan_speed_percentage", (_FAN,)),
    Reading("sm_clock_megahertz", (SM_CLOCK,), _above_zero),
    Reading("memory_clock_megahertz", (MEMORY_CLOCK,), _above_zero),
    Reading("throttled_power_seconds", (_HELD_BY_POWER,), _from_billionths, Kind.TOTAL),
    Reading("throttled_thermal_seconds", (_HELD_BY_TEMPERATURE,), _from_billionths, Kind.TOTAL),
    # The fields that count these have had different numbers in different drivers.
    Reading("throttled_hardware_seconds", (_SLOWDOWN_REASONS,), _is_slowed, Kind.RATE),
    _whole_gpu("encoder_utilization_percentage", (_ENCODER,), _first),
    _whole_gpu("decoder_utilization_percentage", (_DECODER,), _first),
    Reading("nvlink_receive_bytes", (_NVLINK_RECEIVED,), _from_kib, Kind.TOTAL),
    Reading("nvlink_transmit_bytes", (_NVLINK_SENT,), _from_kib, Kind.TOTAL),
    Reading("ecc_corrected_errors", (_ECC_CORRECTED,), kind=Kind.TOTAL),
    Reading("ecc_uncorrected_errors", (_ECC_UNCORRECTED,), kind=Kind.TOTAL),
    Reading(
        "remapped_rows",
        (_REMAPPED_CORRECTABLE, _REMAPPED_UNCORRECTABLE),
        lambda correctable, uncorrectable: correctable + uncorrectable,
        Kind.TOTAL,
    ),
    # Last, since they wait.
    Reading("pcie_receive_megabytes_per_second", (_PCIE_RECEIVED,), _from_thousandths),
    Reading("pcie_transmit_megabytes_per_second", (_PCIE_SENT,), _from_thousandths),
)


class DeviceReadings:
    """The readings of one GPU.

    Attributes:
        are_only_zeros: Whether all answers at the last sample were 0.
    """

    def __init__(self, device: NvmlDevice, *, in_mig_mode: bool) -> None:
        self.are_only_zeros = False
        self._device = device
        self._table = [row for row in READINGS if row.in_mig_mode or not in_mig_mode]
        self._zeros: set[str] = set()  # readings that are missing since the driver reported 0
        asks = [ask for row in self._table for ask in row.asks]
        self._fields = list(dict.fromkeys(ask for ask in asks if isinstance(ask, Field)))
        self._totals = {
            row: Integral() if row.kind is Kind.RATE else RisingTotal()
            for row in self._table
            if row.kind is not Kind.GAUGE
        }

    def read(self, now_s: float) -> dict[str, float]:
        """Readings by name after `gpu_<index>`: gauges, and totals since the first reading."""
        answers: dict[Any, Any] = dict(self._device.ask_fields(self._fields, now_s))
        asked = list(self._active())
        for ask in (ask for row in asked for ask in row.asks):
            if ask not in answers and isinstance(ask, Call):
                answers[ask] = self._device.ask(ask, now_s)
        self.are_only_zeros = are_only_zeros(answers)
        if self.are_only_zeros:
            return {}
        readings: dict[str, float] = {}
        for row in asked:
            arguments = [answers.get(ask) for ask in row.asks]
            if None in arguments:
                continue
            value = row.value(*arguments)
            if value is None:
                self._zeros.add(row.name)
            else:
                self._zeros.discard(row.name)
                readings[row.name] = self._total(row, value, now_s)
        return readings

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Readings that the last sample lacks, and why."""
        for row in self._active():
            reasons = [reason for ask in row.asks if (reason := self._device.why_not(ask))]
            if reasons:
                yield row.name, reasons[0]
            elif row.name in self._zeros:
                yield row.name, "the driver reports 0, as it does where there is none"

    @property
    def has_no_own_memory(self) -> bool:
        """Whether the GPU reports no memory at all, as one that uses the host's."""
        return self._device.has_given_up(MEMORY)

    def _active(self) -> Iterator[Reading]:
        replaced = {
            row.instead_of
            for row in self._table
            if row.instead_of and self._device.has_given_up(row.instead_of)
        }
        for row in self._table:
            if row.instead_of is None:
                if replaced.isdisjoint(row.asks):
                    yield row
            elif row.instead_of in replaced:
                yield row

    def _total(self, row: Reading, value: float, now_s: float) -> float:
        total = self._totals.get(row)
        return float(value) if total is None else total.update(value, now_s)
