"""Which AMD GPUs ROCm shows a process, by its environment variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def visible_devices(environ: Mapping[str, str], ids: Sequence[str | None]) -> tuple[int, ...]:
    """Positions of the GPUs that a process sees, in its own order.

    ROCR_VISIBLE_DEVICES chooses among all, and shows none where it is empty.
    HIP_VISIBLE_DEVICES, or else CUDA_VISIBLE_DEVICES, chooses by number among those that are
    left, and says nothing where it is empty.

    Args:
        environ: The process's environment.
        ids: The id of each GPU of the host, `GPU-0123456789abcdef`; None where it has none.
    """
    visible = tuple(range(len(ids)))
    by_rocr = environ.get("ROCR_VISIBLE_DEVICES")
    if by_rocr is not None:
        visible = _chosen(by_rocr, visible, ids)
    by_hip = environ.get("HIP_VISIBLE_DEVICES") or environ.get("CUDA_VISIBLE_DEVICES")
    return _chosen(by_hip, visible, ids) if by_hip else visible


def _chosen(text: str, among: Sequence[int], ids: Sequence[str | None]) -> tuple[int, ...]:
    """What a list of numbers and ids chooses; the first that names no GPU ends the list."""
    chosen: list[int] = []
    for token in text.split(","):
        position = _position(token.strip(), among, ids)
        if position is None:
            break
        if position not in chosen:
            chosen.append(position)
    return tuple(chosen)


def _position(token: str, among: Sequence[int], ids: Sequence[str | None]) -> int | None:
    if token.isascii() and token.isdigit():
        number = int(token[:9])
        return among[number] if number < len(among) else None
    wanted = token.lower()
    if not wanted.startswith("gpu-") or wanted == "gpu-":
        return None
    matches = [position for position in among if (ids[position] or "").lower().startswith(wanted)]
    return matches[0] if len(matches) == 1 else None
