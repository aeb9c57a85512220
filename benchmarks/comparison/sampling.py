"""CPU time, requests and bytes of a sample, sending included, at a sample a second over HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from comparison.lab import Row, ask_all, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comparison.contenders import Contender
    from comparison.lab import Lab, Player
    from comparison.relay import Relay

_INTERVAL_S = 1.0
_WARM_UP_S = 4.0


@dataclass(frozen=True)
class Scenario:
    """What is sampled.

    Attributes:
        title: As it stands in the table.
        children: Processes below the contender's.
        apart: Whether each contender has the machine to itself. Where all are measured at the
            same time, the children of the others are processes that have nothing to do with it.
        blocks: How often the costs of some seconds are taken.
    """

    title: str
    children: int
    apart: bool = False
    blocks: int = 3


class Cost(NamedTuple):
    """What a sample cost, over one block."""

    cpu_ms: float
    requests: float
    kilobytes: float


FULL = (
    Scenario("1 child", 1),
    Scenario("64 children", 64, apart=True, blocks=2),
)
QUICK = (Scenario("1 child", 1, blocks=1),)


def measure(lab: Lab) -> list[Row]:
    """All scenarios; requests and bytes of the first one."""
    rows = []
    for scenario in QUICK if lab.quick else FULL:
        say(scenario.title)
        costs = _costs(lab, scenario)
        cpu = {name: [each.cpu_ms for each in found] for name, found in costs.items()}
        rows.append(Row(f"CPU a sample, {scenario.title}", "ms", cpu, "mlflow"))
        if len(rows) == 1:
            sending = [each.name for each in lab.samplers if each.uses_server]
            requests = {name: [each.requests for each in costs[name]] for name in sending}
            kilobytes = {name: [each.kilobytes for each in costs[name]] for name in sending}
            rows.append(Row("HTTP requests a sample", "", requests, "ours"))
            rows.append(Row("bytes a sample, both ways", "kB", kilobytes, "ours"))
    return rows


def _costs(lab: Lab, scenario: Scenario) -> dict[str, list[Cost]]:
    """The costs of each block, by contender."""
    groups: Sequence[Sequence[Contender]] = (
        [[each] for each in lab.samplers] if scenario.apart else [lab.samplers]
    )
    costs: dict[str, list[Cost]] = {}
    for group in groups:
        with lab.players(group) as players, lab.relays_for(players) as relays:
            ask_all(players, "burden", children=scenario.children)
            for player, relay in zip(players, relays, strict=True):
                player.ask("open", uri=relay.address, interval_s=_INTERVAL_S)
            time.sleep(_WARM_UP_S)
            block_s = 3.0 if lab.quick else 10.0
            for _ in range(scenario.blocks):
                for name, cost in _block(players, relays, block_s).items():
                    costs.setdefault(name, []).append(cost)
            ask_all(players, "close")
    return costs


def _block(players: Sequence[Player], relays: Sequence[Relay], block_s: float) -> dict[str, Cost]:
    before = [
        (player.ask("cpu_s"), relay.requests, relay.transferred_bytes)
        for player, relay in zip(players, relays, strict=True)
    ]
    time.sleep(block_s)
    samples = block_s / _INTERVAL_S
    costs = {}
    for player, relay, (cpu_s, requests, transferred) in zip(players, relays, before, strict=True):
        costs[player.contender.name] = Cost(
            (player.ask("cpu_s") - cpu_s) * 1e3 / samples,
            (relay.requests - requests) / samples,
            (relay.transferred_bytes - transferred) / 1e3 / samples,
        )
    return costs
