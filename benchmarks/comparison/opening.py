"""RunRequest and closing a run that does nothing, when others were opened before it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from comparison.lab import Row, in_turns, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from comparison.lab import Lab, Player

_SMI = """\
#!/bin/sh
sleep 0.8
echo "NVIDIA H100 80GB HBM3"
"""


def measure(lab: Lab) -> list[Row]:
    """On each kind of store, and with a slow `nvidia-smi`."""
    contenders = [each for each in lab.contenders if each.uses_server]
    if lab.quick:
        rounds, slow_rounds = 1, 1
    else:
        rounds, slow_rounds = 60, 3
    rows = []
    with lab.players(contenders) as players:
        for title in ("file store", "SQLite", "HTTP"):
            say(title)
            rows += _rows(f"open + close, {title}", _took(players, _stores(lab, title), rounds))
    say("an nvidia-smi that takes 0.8 s")
    with lab.players(contenders, _with_slow_smi(lab)) as players:
        took = _took(players, _stores(lab, "SQLite"), slow_rounds)
    rows += _rows("open + close, SQLite, nvidia-smi takes 0.8 s", took)
    return rows


def _stores(lab: Lab, kind: str) -> Mapping[str, str]:
    """A store for each contender: nobody waits for another's lock."""
    if kind == "HTTP":
        return {each.name: lab.server for each in lab.contenders}
    scheme = "sqlite://" if kind == "SQLite" else "file://"
    suffix = ".db" if kind == "SQLite" else ""
    folder = lab.folder / f"stores-{kind.replace(' ', '-')}"
    folder.mkdir(exist_ok=True)
    return {
        each.name: f"{scheme}{'/' if suffix else ''}{folder}/{each.name}{suffix}"
        for each in lab.contenders
    }


def _took(
    players: Sequence[Player], stores: Mapping[str, str], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and seconds of CPU time, by contender; the first run is not counted."""
    took: dict[str, list[tuple[float, float]]] = {}
    for number in range(-1, rounds):
        for player in in_turns(players, number):
            name = player.contender.name
            found = player.ask("open_and_close", uri=stores[name])
            if number >= 0:
                took.setdefault(name, []).append((found[0], found[1]))
    return took


def _rows(title: str, took: Mapping[str, Sequence[tuple[float, float]]]) -> list[Row]:
    wall_ms = {name: [each[0] * 1e3 for each in found] for name, found in took.items()}
    cpu_ms = {name: [each[1] * 1e3 for each in found] for name, found in took.items()}
    return [Row(title, "ms", wall_ms, "bare"), Row(f"{title}: CPU", "ms", cpu_ms, "bare")]


def _with_slow_smi(lab: Lab) -> dict[str, str]:
    folder = lab.folder / "bin"
    folder.mkdir()
    script = folder / "nvidia-smi"
    script.write_text(_SMI, encoding="ascii")
    script.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
