"""Which hosts log to a run, and under which number each.

Each host says so of itself, in a tag of its own (`sysmetrics.host_1f3a9c`), so that none overwrites
what another says. The tag `sys.nodes` is made of these, for people: whoever finds itself missing
there writes it anew.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

NODES_TAG = "sys.nodes"
HOST_TAG = "sysmetrics.host_"
"""Then follow some digits of the host."""

Nodes: TypeAlias = "dict[int, dict[str, Any]]"

_ALL = "all"
_ID = "id"
_NUMBER = "node"
_LONGEST_HOST_NAME = 64


def describe_node(tags: Mapping[str, str], here: str) -> dict[str, Any]:
    """A host as it stands in the tag.

    Args:
        tags: The host's own, without those that the user excludes.
        here: Its sampling domain, of which some digits tell it from the others.
    """
    node: dict[str, Any] = {}
    if name := tags.get("sys.hostname"):
        node["host"] = name[:_LONGEST_HOST_NAME]
    if cpus := tags.get("sys.cpu_cores"):
        node["cpus"] = int(cpus)
    if (gpus := tags.get("sys.gpu")) and gpus != "None":
        node["gpus"] = gpus
    return {**node, _ID: short_id(here)}


def short_id(here: str) -> str:
    """Some digits of a sampling domain."""
    return here[:6]


def tags_of_node(number: int, node: dict[str, Any], others: Mapping[str, str]) -> dict[str, str]:
    """What a host that joins a run says of itself, and the list of all with it.

    Args:
        number: The host's.
        node: As `describe_node` gives it.
        others: The tags that the run has.
    """
    said = {_NUMBER: number, **{key: node[key] for key in node if key != _ID}}
    own = {f"{HOST_TAG}{node[_ID]}": json.dumps(said, separators=(",", ":"))}
    return {**own, NODES_TAG: format_nodes(nodes_of({**others, **own}))}


def list_of_nodes(tags: Mapping[str, str], here: str) -> dict[str, str]:
    """The tag that lists all hosts, if this one has said of itself, but is missing there.

    Another host may have written it that had not read of this one yet.

    Args:
        tags: The tags that the run has.
        here: This host's sampling domain.
    """
    ours = short_id(here)
    listed = tags.get(NODES_TAG, "")
    if f"{HOST_TAG}{ours}" not in tags or ours in _ids(parse_nodes(listed)):
        return {}
    text = format_nodes(nodes_of(tags))
    return {NODES_TAG: text} if text != listed else {}  # as where there is no room for all


def nodes_of(tags: Mapping[str, str]) -> Nodes:
    """The hosts that have said of themselves that they log to a run with these tags."""
    nodes: Nodes = {}
    for key in sorted(tags):
        if key.startswith(HOST_TAG):
            with suppress(ValueError, TypeError, AttributeError, KeyError):  # not ours
                node = json.loads(tags[key])
                nodes.setdefault(int(node.pop(_NUMBER)), {**node, _ID: key[len(HOST_TAG) :]})
    return nodes


def _ids(nodes: Nodes) -> set[str]:
    return {node[_ID] for node in nodes.values()}


def parse_nodes(text: str) -> Nodes:
    """The hosts of the tag that lists all; none where it is not as expected.

    `{"all":{"cpus":64},"0":{"host":"node-17","id":"1f3a9c"},"1":{"host":"node-18","id":"77b0de"}}`
    """
    try:
        content = json.loads(text)
        shared = content.pop(_ALL, {})
        nodes = {int(number): {**shared, **node} for number, node in content.items()}
        return {number: {**node, _ID: node[_ID]} for number, node in nodes.items()}
    except (ValueError, TypeError, AttributeError, KeyError):
        return {}


def format_nodes(nodes: Nodes) -> str:
    """The tag's text; where it would be too long, the last hosts are left out."""
    numbers = sorted(nodes)
    while True:
        text = _text_of({number: nodes[number] for number in numbers})
        if len(text.encode()) <= MAX_TAG_LENGTH or not numbers:
            return text
        numbers.pop()


def _text_of(nodes: Nodes) -> str:
    first = next(iter(nodes.values()), {})
    shared = {
        key: value
        for key, value in first.items()
        if len(nodes) > 1 and all(node.get(key) == value for node in nodes.values())
    }
    content: dict[str, dict[str, Any]] = {_ALL: shared} if shared else {}
    for number, node in nodes.items():
        content[str(number)] = {key: node[key] for key in node if key not in shared}
    return json.dumps(content, separators=(",", ":"))


def number_of(nodes: Nodes, here: str, proposed: int | None, leader: str) -> int:
    """The number of a host that is not rank 0's, whose number is 0.

    It is the one it has, so that a restart in which the launcher numbers hosts otherwise does not
    change it; else the launcher's; else one that is free.

    Args:
        nodes: The hosts that the run has.
        here: This host's sampling domain.
        proposed: The launcher's.
        leader: Digits of rank 0's host.
    """
    others = {number: node[_ID] for number, node in nodes.items() if node.get(_ID) != leader}
    ours = short_id(here)
    known = next((number for number, other in others.items() if other == ours), None)
    for number in (known, proposed):
        if number and others.get(number, ours) == ours:
            return number
    return next(number for number in range(1, len(others) + 2) if number not in others)
