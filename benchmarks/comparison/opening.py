"""Opening and closing a run that does nothing, when others were opened before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comparison.lab import Row, get_json, in_turns, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from comparison.lab import Lab, Player

_KINDS = ("file store", "SQLite", "HTTP")


def measure(lab: Lab) -> list[Row]:
    """On each kind of store; MLflow that is given our tags by hand is the floor."""
    contenders = [each for each in lab.contenders if each.uses_server]
    rounds = 1 if lab.quick else 100
    rows = []
    with lab.players(contenders) as players:
        by_name = {player.contender.name: player for player in players}
        by_name["tags"].ask("use_tags", tags=_tags_of(by_name["ours"], lab.server))
        for kind in _KINDS:
            say(kind)
            took = _took(players, _stores(lab, kind), rounds)
            rows.append(Row(f"open + close, {kind}", "ms", took, "tags"))
    return rows


def _tags_of(player: Player, server: str) -> dict[str, str]:
    """The tags that a run of the plugin has beyond MLflow's own."""
    run_id = player.ask("open", uri=server, interval_s=10.0)["run_id"]
    found = get_json(server, f"runs/get?run_id={run_id}")["run"]["data"]["tags"]
    player.ask("close")
    return {each["key"]: each["value"] for each in found if not each["key"].startswith("mlflow.")}


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
) -> dict[str, list[float]]:
    """Milliseconds, by contender; the first run is not counted."""
    took: dict[str, list[float]] = {}
    for number in range(-1, rounds):
        for player in in_turns(players, number):
            name = player.contender.name
            took_s, _cpu_s = player.ask("open_and_close", uri=stores[name])
            if number >= 0:
                took.setdefault(name, []).append(took_s * 1e3)
    return took
