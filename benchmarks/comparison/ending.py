"""How long the end of a run takes while the server is well, just back, and gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from comparison.lab import Row, ask_all, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comparison.lab import Lab, Player
    from comparison.relay import Relay

_INTERVAL_S = 1.0
_APART_S = 0.2
_ROUNDS = {"well": 7, "just back": 1, "gone": 1}
_RETRIES = 3
"""Else MLflow itself tries for minutes to close a run whose server has gone."""


def measure(lab: Lab) -> list[Row]:
    """Runs of some seconds; while the server is there, one is closed after the other."""
    contenders = [
        each
        for each in lab.contenders
        if each.uses_server and (each.samples or each.name == "bare")
    ]
    retries = 1 if lab.quick else _RETRIES
    variables = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries)}
    took: dict[str, dict[str, list[float]]] = {"well": {}, "just back": {}, "gone": {}}
    with lab.players(contenders, variables) as players, lab.relays_for(players) as relays:
        for state, found in took.items():
            for _ in range(1 if lab.quick else _ROUNDS[state]):
                say(f"end of a run, server {state}")
                ends = _ends(players, relays, state, quick=lab.quick)
                for player, end_s in zip(players, ends, strict=True):
                    found.setdefault(player.contender.name, []).append(end_s)
    well = took["well"]
    beyond_ms = {
        name: [(took_s - bare_s) * 1e3 for took_s, bare_s in zip(found, well["bare"], strict=True)]
        for name, found in well.items()
        if name != "bare"
    }
    return [
        Row("end_run, server well: beyond MLflow alone", "ms", beyond_ms, ranges=True),
        *(Row(f"end_run, server {state}", "s", found, "bare") for state, found in took.items()),
    ]


def _ends(
    players: Sequence[Player], relays: Sequence[Relay], state: str, *, quick: bool
) -> list[float]:
    """How long each took to close its run."""
    run_s, outage_s = (1.5, 1.5) if quick else (4.0, 8.0)
    for player, relay in zip(players, relays, strict=True):
        player.ask("open", uri=relay.address, interval_s=_INTERVAL_S)
    time.sleep(run_s)
    if state != "well":
        for relay in relays:
            relay.cut()
        time.sleep(outage_s)
    if state == "gone":
        return ask_all(players, "close")
    ends = []
    for player, relay in zip(players, relays, strict=True):
        if state == "just back":
            relay.connect()
        time.sleep(_APART_S)
        ends.append(player.ask("close"))
    return ends
