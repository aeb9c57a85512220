"""Why GPUs report nothing, or not all, in words short enough for a tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ONLY_ZEROS = (
    "reports 0 for everything, even for its memory and temperature, so none of it is logged; "
    "update its driver"
)


def check_silent(reasons: Mapping[int, str | None], gpus_of_host: int) -> tuple[str, ...]:
    """Which of the run's GPUs report nothing, and why, where others report something.

        GPU 1 of 2 reports nothing (GPU is lost: …)

    Args:
        reasons: Why each GPU of the run reports nothing, by its number; None where it reports.
        gpus_of_host: How many GPUs the host has.

    Raises:
        Unavailable: None of them reports anything.
    """
    silent = {index: reason for index, reason in reasons.items() if reason is not None}
    if silent and len(silent) == len(reasons) and len(set(silent.values())) == 1:
        who = "the GPU" if len(reasons) == 1 else f"each of the {len(reasons)} GPUs"
        raise Unavailable(f"{who} {next(iter(silent.values()))}")
    sentences = group_by_reason(silent.items(), gpus_of_host)
    if silent and len(silent) == len(reasons):
        raise Unavailable("; ".join(sentences))
    return sentences


def group_by_reason(reasons: Iterable[tuple[int, str]], gpus_of_host: int) -> tuple[str, ...]:
    """One sentence a reason, with the numbers of the GPUs that it holds for."""
    by_reason: dict[str, list[int]] = {}
    for index, reason in reasons:
        by_reason.setdefault(reason, []).append(index)
    return tuple(
        f"{_name(indices)} of {gpus_of_host} {reason}" for reason, indices in by_reason.items()
    )


def _name(indices: list[int]) -> str:
    if len(indices) == 1:
        return f"GPU {indices[0]}"
    return f"each of GPU {', '.join(map(str, indices))}"


def group_names(device: str, missing: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One sentence a reason, with the names that a device does not report for it."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing:
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"{device} does not report {', '.join(names)}: {reason}"
