"""Values, times and names of metrics as a person reads them."""

from __future__ import annotations

from datetime import datetime, timezone

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400
_THOUSAND = 1000.0
_JOULES_A_KWH = 3.6e6

_STATISTICS = {
    "mean": "mean",
    "p95": "95th percentile",
    "max": "maximum",
    "total": "total",
}

_UNITS = {
    "percentage": "%",
    "megabytes_per_second": "MB/s",
    "megabytes": "MB",
    "megahertz": "MHz",
    "milliseconds": "ms",
    "seconds": "s",
    "watts": "W",
    "joules": "J",
    "kwh": "kWh",
    "kg": "kg",
    "celsius": "°C",
    "cores": "cores",
}
"""How the unit is written that a key ends with."""

_CAPITALS = {
    **{word: word.upper() for word in ("cpu", "gpu", "gpus", "pss", "rss", "uss", "vms", "oom")},
    **{word: word.upper() for word in ("sm", "ecc", "dram", "pcie", "rapl")},
    "gpus": "GPUs",
    "fds": "file descriptors",
    "io": "I/O",
    "nvlink": "NVLink",
    "num": "number of",
}


_LABELS = {
    "gpu_hours": "GPU-hours",
    "gpu_hours_wasted": "GPU-hours not used",
    "process_cpu_seconds_total": "Process CPU, core-hours",
    "energy_kwh": "Energy",
}
"""Of keys whose own words say it less well."""


def quantity(key: str, value: float) -> str:
    """A value with its unit, which the key of a metric or of a summary ends with: `6.2 GB`."""
    if key == "process_cpu_seconds_total":
        return number(value / _HOUR_S)
    unit = _unit_of(_split_statistic(key)[0])
    if unit == "s":
        return duration(value)
    if unit in {"MB", "MB/s"} and abs(value) >= _THOUSAND:
        value, unit = value / _THOUSAND, unit.replace("MB", "GB")
    elif unit == "J" and abs(value) >= _JOULES_A_KWH / 100:
        value, unit = value / _JOULES_A_KWH, "kWh"
    return f"{number(value)} {unit}".rstrip()


def number(value: float) -> str:
    """Three digits or so: `0.25`, `9.1`, `41.2`, `312`, `60,480`."""
    if value == int(value) or abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Two units at most: `2 h 14 min`, `3 d 4 h`, `45 s`, `0.6 s`."""
    if seconds < _MINUTE_S:
        return f"{number(round(seconds, 1))} s"
    for larger_s, smaller_s, larger, smaller in (
        (_DAY_S, _HOUR_S, "d", "h"),
        (_HOUR_S, _MINUTE_S, "h", "min"),
        (_MINUTE_S, 1, "min", "s"),
    ):
        if seconds >= larger_s:
            whole, rest = divmod(round(seconds / smaller_s), larger_s // smaller_s)
            return f"{whole} {larger}" + (f" {rest} {smaller}" if rest else "")
    return ""


def point_in_time(seconds: float) -> str:
    """`2026-12-01 09:30:12 UTC`."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def label(key: str) -> str:
    """A key in words, without its unit: `GPU utilization, mean`."""
    if key in _LABELS:
        return _LABELS[key]
    name, statistic = _split_statistic(key)
    for ending in _UNITS:
        if name.endswith(f"_{ending}"):
            name = name.removesuffix(f"_{ending}")
            break
    words = [_CAPITALS.get(word, word) for word in name.replace("/", "_").split("_") if word]
    text = " ".join(words)
    text = text[:1].upper() + text[1:]
    return f"{text}, {_STATISTICS[statistic]}" if statistic else text


def is_share(key: str) -> bool:
    """Whether a value is a percentage that 100 is the most of."""
    name, _ = _split_statistic(key)
    return name.endswith("_percentage") and not name.endswith("process/cpu_usage_percentage")


def counted(count: int, noun: str) -> str:
    """`1 warning`, `2 warnings`."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def sentence(text: str) -> str:
    """With a full stop at its end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _split_statistic(key: str) -> tuple[str, str]:
    name, _, ending = key.rpartition("_")
    return (name, ending) if ending in _STATISTICS and name else (key, "")


def _unit_of(name: str) -> str:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(f"_{ending}")), "")
