"""Which Intel GPUs Level Zero and SYCL show a process, by its environment variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_AFFINITY = re.compile(r"(\d{1,9})(\.\d{1,9})?", re.ASCII)
_TERM = re.compile(r"(!?)(?:level_zero|\*):([0-9.,*]+|gpu)", re.ASCII | re.IGNORECASE)


def visible_devices(environ: Mapping[str, str], tiles: Sequence[int]) -> tuple[int, ...]:
    """Positions of the GPUs that a process sees.

    ZE_AFFINITY_MASK (`0,1.0`) chooses among Level Zero's devices: the tiles of all GPUs in turn,
    or whole GPUs where ZE_FLAT_DEVICE_HIERARCHY is COMPOSITE. ONEAPI_DEVICE_SELECTOR
    (`level_zero:0,1`) chooses among those that are left; terms on other backends are ignored.
    Unparsable values are ignored; all GPUs are kept.

    Args:
        environ: The process's environment.
        tiles: Tiles of each GPU of the host.
    """
    is_flat = environ.get("ZE_FLAT_DEVICE_HIERARCHY", "FLAT").upper() != "COMPOSITE"
    devices = [
        position for position, count in enumerate(tiles) for _ in range(count if is_flat else 1)
    ]
    if mask := environ.get("ZE_AFFINITY_MASK", "").strip():
        devices = _masked(mask, devices)
    if selector := environ.get("ONEAPI_DEVICE_SELECTOR", "").strip():
        devices = _selected(selector, devices)
    return tuple(sorted(set(devices)))


def _masked(mask: str, devices: list[int]) -> list[int]:
    matches = [_AFFINITY.fullmatch(token.strip()) for token in mask.split(",")]
    numbers = [int(match[1]) for match in matches if match is not None]
    return _at(numbers, devices) if len(numbers) == len(matches) else devices


def _selected(selector: str, devices: list[int]) -> list[int]:
    """What the terms on Level Zero choose, less what those with an exclamation mark do."""
    chosen: set[int] = set()
    excluded: set[int] = set()
    are_named = False
    for term in selector.split(";"):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            continue
        numbers = _numbers(match[2], len(devices))
        if match[1]:
            excluded.update(numbers)
        else:
            are_named = True
            chosen.update(numbers)
    wanted = chosen if are_named else set(range(len(devices)))
    return _at(sorted(wanted - excluded), devices)


def _numbers(text: str, count: int) -> list[int]:
    """`0,2` or `1.0` by number; `*` and `gpu` stand for all."""
    tokens = text.split(",")
    if "*" in tokens or text.lower() == "gpu":
        return list(range(count))
    matches = [_AFFINITY.fullmatch(token) for token in tokens]
    return [int(match[1]) for match in matches if match is not None]


def _at(numbers: list[int], devices: list[int]) -> list[int]:
    return [devices[number] for number in numbers if number < len(devices)]
