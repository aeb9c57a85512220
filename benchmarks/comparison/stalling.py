"""What a loop of the training's own Python code loses to sampling."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from comparison.lab import Row, in_turns, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comparison.lab import Lab

_CONTENDERS = ("bare", "mlflow", "wandb", "ours")
_CHILDREN = 4
_SETTLE_S = 1.0

_STAY_AWAKE = """\
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    pass
"""
"""Runs on one CPU while nothing else wants it, and ends with the benchmark."""


def measure(lab: Lab) -> list[Row]:
    """Milliseconds lost a second, at two intervals; the contenders take turns in each round.

    A contender's run is open only in its turn. CPUs that sleep wake up late, which would count as
    lost: they are kept awake.
    """
    rounds, seconds = (1, 1.0) if lab.quick else (5, 3.0)
    contenders = [each for each in lab.contenders if each.name in _CONTENDERS]
    rows = []
    with cpus_awake(), lab.players(contenders) as players, lab.relays_for(players) as relays:
        for player in players:
            player.ask("burden", children=_CHILDREN)
        addresses = {
            player.contender.name: relay.address
            for player, relay in zip(players, relays, strict=True)
        }
        for interval_s in (0.1,) if lab.quick else (0.1, 1.0):
            say(f"a loop at an interval of {interval_s:g} s")
            lost_ms: dict[str, list[float]] = {}
            for number in range(rounds):
                for player in in_turns(players, number):
                    name = player.contender.name
                    player.ask("open", uri=addresses[name], interval_s=interval_s)
                    time.sleep(_SETTLE_S)
                    lost_s = sum(player.ask("stalls", seconds=seconds))
                    player.ask("close")
                    lost_ms.setdefault(name, []).append(lost_s * 1e3 / seconds)
            title = f"1 ms loop, a sample every {interval_s:g} s: lost a second"
            rows.append(Row(title, "ms", lost_ms, "bare", ranges=True))
    return rows


@contextmanager
def cpus_awake() -> Iterator[None]:
    """Keep each CPU of ours busy at the lowest priority, which gives way to everything."""
    with ExitStack() as stack:
        for cpu in os.sched_getaffinity(0):
            process = subprocess.Popen([sys.executable, "-c", _STAY_AWAKE, str(cpu)])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
