"""What each metric is exported as.

OpenTelemetry's names (semantic conventions 1.44) where they mean the same, else names below
`mlflow.sysmetrics.`; base units; of what can be computed from one another, the base alone. No name
ends in `count`, which Prometheus keeps for histograms. The figures under `process.` are sums over
the process tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog.exported import Exported, Instrument, Kind, NotExported

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS = "mlflow.sysmetrics."

RUN_INFO = Instrument(
    f"{_OURS}run.info",
    "",
    Kind.GAUGE,
    "An open run, whose names the labels have; series_run_id is the run_id that its series carry.",
)
"""Always 1; says by its attributes what the other series would else have to repeat."""

LAST_UPDATE = Instrument(
    f"{_OURS}run.last_update_timestamp",
    "s",
    Kind.GAUGE,
    "When the run was last sampled (Unix time).",
)


def _gauge(name: str, unit: str = "1", description: str = "") -> Instrument:
    return Instrument(name, unit, Kind.GAUGE, description)


def _up_down(name: str, unit: str = "By", description: str = "") -> Instrument:
    return Instrument(name, unit, Kind.UP_DOWN, description)


def _counter(name: str, unit: str = "By", description: str = "") -> Instrument:
    return Instrument(name, unit, Kind.COUNTER, description)


def _percent(instrument: Instrument, **attributes: str) -> Exported:
    """A gauge in percent, as a ratio."""
    return _scaled(instrument, 0.01, attributes)


def _megabytes(instrument: Instrument, **attributes: str) -> Exported:
    """Megabytes, as bytes."""
    return _scaled(instrument, 1e6, attributes)


def _as_is(instrument: Instrument, **attributes: str) -> Exported:
    """A reading that is in the instrument's unit."""
    return _scaled(instrument, 1.0, attributes)


def _scaled(instrument: Instrument, factor: float, attributes: Mapping[str, str]) -> Exported:
    """An attribute's name has `__` for the dots of OpenTelemetry's."""
    named = tuple((name.replace("__", "."), value) for name, value in attributes.items())
    return Exported(instrument, factor, named)


_USED_MEMORY = {"system__memory__state": "used"}
_USED_SWAP = {"system__paging__state": "used"}
_FILESYSTEM_USAGE = _up_down(
    "system.filesystem.usage",
    description="Space of the file systems of / and of the working directory, in use and free for "
    "users.",
)
_FILESYSTEM_UTILIZATION = _gauge(
    "system.filesystem.utilization",
    description="Space in use on the file systems of / and of the working directory, as a share of "
    "what users may use.",
)
_DISK_IO = _counter("system.disk.io", description="Data read from and written to the host's disks.")
_NETWORK_IO = _counter(
    "system.network.io",
    description="Data received and sent over all interfaces, loopback included.",
)
_EXTERNAL_IO = _counter(
    f"{_OURS}network.external.io",
    description="Data received from and sent to other machines.",
)


def _used(filesystem: str) -> dict[str, str]:
    return {"filesystem": filesystem, "system__filesystem__state": "used"}


def _free(filesystem: str) -> dict[str, str]:
    return {"filesystem": filesystem, "system__filesystem__state": "free"}


_HOST: dict[str, Exported | NotExported] = {
    "cpu_utilization_percentage": _as_is(_gauge("system.cpu.utilization")),
    "cpu/load_average_1m": _as_is(_gauge(f"{_OURS}cpu.load_1m", "{process}")),
    "system_memory_usage_megabytes": _megabytes(_up_down("system.memory.usage"), **_USED_MEMORY),
    "system_memory_usage_percentage": _percent(_gauge("system.memory.utilization"), **_USED_MEMORY),
    "memory/swap_usage_megabytes": _megabytes(_up_down("system.paging.usage"), **_USED_SWAP),
    "memory/swap_usage_percentage": _percent(_gauge("system.paging.utilization"), **_USED_SWAP),
    "disk_usage_percentage": _percent(_FILESYSTEM_UTILIZATION, **_used("root")),
    "disk_usage_megabytes": _megabytes(_FILESYSTEM_USAGE, **_used("root")),
    "disk_available_megabytes": _megabytes(_FILESYSTEM_USAGE, **_free("root")),
    "disk/working_directory_usage_percentage": _percent(
        _FILESYSTEM_UTILIZATION, **_used("working_directory")
    ),
    "disk/working_directory_usage_megabytes": _megabytes(
        _FILESYSTEM_USAGE, **_used("working_directory")
    ),
    "disk/working_directory_available_megabytes": _megabytes(
        _FILESYSTEM_USAGE, **_free("working_directory")
    ),
    "disk/read_megabytes_per_second": _as_is(_DISK_IO, disk__io__direction="read"),
    "disk/write_megabytes_per_second": _as_is(_DISK_IO, disk__io__direction="write"),
    "network_receive_megabytes": _as_is(_NETWORK_IO, network__io__direction="receive"),
    "network_transmit_megabytes": _as_is(_NETWORK_IO, network__io__direction="transmit"),
    "network/receive_megabytes_per_second": _as_is(_EXTERNAL_IO, network__io__direction="receive"),
    "network/transmit_megabytes_per_second": _as_is(
        _EXTERNAL_IO, network__io__direction="transmit"
    ),
}

_TREE_IO = _counter(
    "process.disk.io", description="Data read from and written to storage by the process tree."
)

_PROCESS = {
    "process/cpu_usage_percentage": _as_is(
        _counter("process.cpu.time", "s", "CPU time of the process tree.")
    ),
    "process/cpu_utilization_percentage": _as_is(_gauge("process.cpu.utilization")),
    "process/memory_rss_megabytes": _megabytes(_up_down("process.memory.usage")),
    "process/memory_vms_megabytes": _megabytes(_up_down("process.memory.virtual")),
    "process/memory_uss_megabytes": _megabytes(_up_down(f"{_OURS}process.memory.uss")),
    "process/memory_pss_megabytes": _megabytes(_up_down(f"{_OURS}process.memory.pss")),
    "process/memory_swap_megabytes": _megabytes(_up_down(f"{_OURS}process.memory.swap")),
    "process/memory_usage_percentage": _percent(_gauge("process.memory.utilization")),
    "process/sampler_cpu_milliseconds": _scaled(_gauge(f"{_OURS}sample.cpu_time", "s"), 1e-3, {}),
    "process/num_processes": _as_is(_up_down(f"{_OURS}process.processes", "{process}")),
    "process/num_threads": _as_is(_up_down(f"{_OURS}process.threads", "{thread}")),
    "process/num_fds": _as_is(_up_down(f"{_OURS}process.file_descriptors", "{file_descriptor}")),
    "process/fds_usage_percentage": _percent(
        _gauge(f"{_OURS}process.file_descriptors.utilization")
    ),
    "process/io_read_megabytes": _as_is(_TREE_IO, disk__io__direction="read"),
    "process/io_write_megabytes": _as_is(_TREE_IO, disk__io__direction="write"),
}

_CONTAINER = {
    "container/memory_usage_megabytes": _megabytes(_up_down("container.memory.working_set")),
    "container/memory_usage_percentage": _percent(_gauge(f"{_OURS}container.memory.utilization")),
    "container/oom_kills": _as_is(_counter(f"{_OURS}container.oom_kills", "{process}")),
    "container/cpu_throttled_percentage": _as_is(_gauge(f"{_OURS}container.cpu.throttled_periods")),
    "container/cpu_throttled_cores": _as_is(
        _counter(
            f"{_OURS}container.cpu.throttled_time",
            "s",
            "CPU time that the cgroup's CPU quota held back from tasks that had something to run.",
        )
    ),
}


def _stalled(prefix: str, name: str, of: str) -> dict[str, Exported]:
    """Pressure: from shares of time to the stalled time itself."""
    instrument = _counter(
        name,
        "s",
        f"Time in which some task, or all tasks at once (full), waited for a resource, {of}.",
    )
    return {
        f"{prefix}{resource}_{tasks}_percentage": _scaled(
            instrument, 1e-6, {"resource": resource, "tasks": tasks}
        )
        for resource, tasks in (
            ("cpu", "some"),
            ("memory", "some"),
            ("memory", "full"),
            ("io", "some"),
            ("io", "full"),
        )
    }


_PRESSURE = {
    **_stalled("pressure/", f"{_OURS}pressure.stalled_time", "on the host"),
    **_stalled(
        "container/pressure_",
        f"{_OURS}container.pressure.stalled_time",
        "in the process's own cgroup",
    ),
}

_GPU = {"gpu": "{index}"}
_HARDWARE = {**_GPU, "hw__id": "{index}", "hw__type": "gpu"}
"""What the conventions require of `hw.` metrics."""

_MIG = {**_GPU, "mig": "{instance}"}

_GPU_UTILIZATION = _gauge(
    "hw.gpu.utilization",
    description="Share of time in which the GPU was busy: with kernels (general), as a video "
    "encoder, as a video decoder.",
)
_TEMPERATURE = _gauge(
    "hw.temperature", "Cel", description="Temperature of the GPU and of its memory."
)
_CLOCK = _gauge(
    f"{_OURS}gpu.clock", "Hz", description="Clocks of the GPU's processors (sm) and of its memory."
)
_THROTTLED = _counter(
    f"{_OURS}gpu.throttled_time",
    "s",
    "Time in which the GPU's clocks were held down, by reason: power limit, temperature limit "
    "(thermal), or the hardware itself.",
)
_PCIE = _gauge(
    f"{_OURS}gpu.pcie.io_rate",
    "By/s",
    "Data received and sent over PCIe: the rate over 20 ms, measured at most every 5 s.",
)
_NVLINK = _counter(
    f"{_OURS}gpu.nvlink.io",
    description="Data received and sent over all NVLinks, without protocol overhead.",
)
_ERRORS = _counter(
    "hw.errors",
    "{error}",
    "Memory errors that ECC corrected, and that it found but could not correct.",
)


def _of_gpus(what: str) -> NotExported:
    return NotExported(f"{what} over the label gpu")


_GPUS: dict[str, Exported | NotExported] = {
    "gpu_{index}_utilization_percentage": _percent(
        _GPU_UTILIZATION, **_HARDWARE, hw__gpu__task="general"
    ),
    "gpu_{index}/encoder_utilization_percentage": _percent(
        _GPU_UTILIZATION, **_HARDWARE, hw__gpu__task="encoder"
    ),
    "gpu_{index}/decoder_utilization_percentage": _percent(
        _GPU_UTILIZATION, **_HARDWARE, hw__gpu__task="decoder"
    ),
    "gpu_{index}/memory_controller_utilization_percentage": _percent(
        _gauge(f"{_OURS}gpu.memory_controller.utilization"), **_GPU
    ),
    "gpu_{index}_memory_usage_megabytes": _megabytes(_up_down("hw.gpu.memory.usage"), **_HARDWARE),
    "gpu_{index}_memory_usage_percentage": _percent(
        _gauge("hw.gpu.memory.utilization"), **_HARDWARE
    ),
    "gpu_{index}/host_memory_usage_megabytes": _megabytes(
        _up_down(f"{_OURS}gpu.host_memory.usage"), **_GPU
    ),
    "gpu_{index}_power_usage_watts": _as_is(_gauge("hw.power", "W"), **_HARDWARE),
    "gpu_{index}_power_usage_percentage": NotExported("`hw.power` by its limit"),
    "gpu_{index}/power_limit_watts": _as_is(_gauge(f"{_OURS}gpu.power.limit", "W"), **_GPU),
    "gpu_{index}/energy_joules": _as_is(_counter("hw.energy", "J"), **_HARDWARE),
    "gpu_{index}/energy_estimated_joules": _as_is(
        _counter(f"{_OURS}gpu.energy.estimated", "J"), **_GPU
    ),
    "gpu_{index}/temperature_celsius": _as_is(_TEMPERATURE, **_HARDWARE, hw__sensor_location="gpu"),
    "gpu_{index}/memory_temperature_celsius": _as_is(
        _TEMPERATURE, **_HARDWARE, hw__sensor_location="memory"
    ),
    "gpu_{index}/fan_speed_percentage": _percent(_gauge(f"{_OURS}gpu.fan.speed"), **_GPU),
    "gpu_{index}/sm_clock_megahertz": _scaled(_CLOCK, 1e6, {**_GPU, "clock": "sm"}),
    "gpu_{index}/memory_clock_megahertz": _scaled(_CLOCK, 1e6, {**_GPU, "clock": "memory"}),
    "gpu_{index}/process_memory_megabytes": _megabytes(
        _up_down(f"{_OURS}gpu.process.memory.usage"), **_GPU
    ),
    "gpu_{index}/process_utilization_percentage": _percent(
        _gauge(f"{_OURS}gpu.process.utilization"), **_GPU
    ),
    "gpu_{index}/throttled_power_percentage": _as_is(_THROTTLED, **_GPU, reason="power"),
    "gpu_{index}/throttled_thermal_percentage": _as_is(_THROTTLED, **_GPU, reason="thermal"),
    "gpu_{index}/throttled_hardware_percentage": _as_is(_THROTTLED, **_GPU, reason="hardware"),
    "gpu_{index}/pcie_receive_megabytes_per_second": _megabytes(
        _PCIE, **_GPU, network__io__direction="receive"
    ),
    "gpu_{index}/pcie_transmit_megabytes_per_second": _megabytes(
        _PCIE, **_GPU, network__io__direction="transmit"
    ),
    "gpu_{index}/nvlink_receive_megabytes_per_second": _as_is(
        _NVLINK, **_GPU, network__io__direction="receive"
    ),
    "gpu_{index}/nvlink_transmit_megabytes_per_second": _as_is(
        _NVLINK, **_GPU, network__io__direction="transmit"
    ),
    "gpu_{index}/ecc_corrected_errors": _as_is(_ERRORS, **_HARDWARE, error__type="corrected"),
    "gpu_{index}/ecc_uncorrected_errors": _as_is(_ERRORS, **_HARDWARE, error__type="uncorrected"),
    "gpu_{index}/remapped_rows": _as_is(_counter(f"{_OURS}gpu.remapped_rows", "{row}"), **_GPU),
    "gpu_{index}/sm_active_percentage": _percent(_gauge(f"{_OURS}gpu.sm.active"), **_GPU),
    "gpu_{index}/sm_occupancy_percentage": _percent(_gauge(f"{_OURS}gpu.sm.occupancy"), **_GPU),
    "gpu_{index}/tensor_active_percentage": _percent(_gauge(f"{_OURS}gpu.tensor.active"), **_GPU),
    "gpu_{index}/dram_active_percentage": _percent(_gauge(f"{_OURS}gpu.dram.active"), **_GPU),
    "gpu_{index}/mig_{instance}_memory_usage_megabytes": _megabytes(
        _up_down(f"{_OURS}gpu.mig.memory.usage"), **_MIG
    ),
    "gpu_{index}/mig_{instance}_memory_usage_percentage": _percent(
        _gauge(f"{_OURS}gpu.mig.memory.utilization"), **_MIG
    ),
    "gpu/utilization_percentage": _of_gpus("mean of `hw.gpu.utilization`"),
    "gpu/memory_usage_megabytes": _of_gpus("sum of `hw.gpu.memory.usage`"),
    "gpu/power_usage_watts": _of_gpus("sum of `hw.power`"),
    "gpu/energy_joules": _of_gpus("sum of `hw.energy`"),
    "gpu/energy_estimated_joules": _of_gpus("sum of `mlflow.sysmetrics.gpu.energy.estimated`"),
}

_TPU = {"tpu": "{index}"}
_NEURON = {"neuron": "{index}"}

_ACCELERATORS = {
    "tpu_{index}/duty_cycle_percentage": _percent(_gauge(f"{_OURS}tpu.duty_cycle"), **_TPU),
    "tpu_{index}/memory_usage_megabytes": _megabytes(_up_down(f"{_OURS}tpu.memory.usage"), **_TPU),
    "tpu_{index}/memory_usage_percentage": _percent(
        _gauge(f"{_OURS}tpu.memory.utilization"), **_TPU
    ),
    "neuron_{index}/utilization_percentage": _percent(
        _gauge(f"{_OURS}neuron.utilization"), **_NEURON
    ),
    "neuron_{index}/memory_usage_megabytes": _megabytes(
        _up_down(f"{_OURS}neuron.memory.usage"), **_NEURON
    ),
}

EXPORTS: Mapping[str, Exported | NotExported] = {
    **_HOST,
    **_PROCESS,
    **_CONTAINER,
    **_PRESSURE,
    **_GPUS,
    **_ACCELERATORS,
}
"""By a metric's key."""
