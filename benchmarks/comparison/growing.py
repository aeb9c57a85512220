"""How much memory grows over 5000 samples that are taken and sent as fast as is of use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from comparison.lab import Row, ask_all, latest_metrics, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comparison.lab import Lab, Player

_SAMPLES = 5000
_INTERVAL_S = 0.02
_WANDB_INTERVAL_S = 0.1  # it takes no samples faster


def measure(lab: Lab) -> list[Row]:
    """Private memory, of helper processes too, at the end less that after a tenth of the time.

    Who samples more slowly, as those do that wait for the server each time, is reckoned up.
    """
    seconds = 5.0 if lab.quick else 60.0
    say(f"memory over {seconds:g} s")
    with lab.players(lab.samplers) as players:
        run_ids = [
            player.ask("open", uri=lab.server, interval_s=_interval_s(player))["run_id"]
            for player in players
        ]
        time.sleep(seconds / 10)
        before = _states(lab, players, run_ids)
        time.sleep(seconds * 0.9)
        after = _states(lab, players, run_ids)
        ask_all(players, "close")
    growth: dict[str, list[float]] = {}
    for player, (private, samples), (private_then, samples_then) in zip(
        players, after, before, strict=True
    ):
        if samples > samples_then:
            each_bytes = (private - private_then) / (samples - samples_then)
            growth[player.contender.name] = [each_bytes * _SAMPLES / 1e6]
    return [Row(f"memory growth over {_SAMPLES} samples", "MB", growth)]


def _interval_s(player: Player) -> float:
    return _INTERVAL_S if player.contender.uses_server else _WANDB_INTERVAL_S


def _states(lab: Lab, players: Sequence[Player], run_ids: list[str]) -> list[tuple[float, float]]:
    """Private bytes, and how many samples were taken."""
    now_s = time.monotonic()
    return [
        (
            player.ask("private_bytes"),
            max((each["step"] for each in latest_metrics(lab.server, run_id)), default=0)
            if player.contender.uses_server
            else now_s / _WANDB_INTERVAL_S,
        )
        for player, run_id in zip(players, run_ids, strict=True)
    ]
