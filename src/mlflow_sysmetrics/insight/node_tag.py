"""The tag of one node of several: what it did, and what was found there.

`final; !gpu-idle 1:eJy… 1:eJx…`: its state and findings, to be read by people; then what a program
needs to make the summary and findings of the whole run of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.insight.finding import Finding, Judgement, Waste
from mlflow_sysmetrics.insight.packed import packed, unpacked
from mlflow_sysmetrics.insight.part import Part
from mlflow_sysmetrics.insight.run import NodeGpus
from mlflow_sysmetrics.insight.texts import tag_text
from mlflow_sysmetrics.insight.whole import FINAL, NodeResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEY_PREFIX = "sysmetrics."
_NODE_PREFIX = "sysmetrics.node_"

_ALL_NODES_LENGTH = 64_000
"""Of all nodes' tags together: whoever lists runs gets them all."""

_SHORTEST = 2000
"""Room for each metric that the usual summary has."""

_HEAD_SHARE = 0.4


@dataclass(frozen=True)
class NodeTag:
    """What a node says of itself.

    Attributes:
        state: `final…`, `provisional…`.
        nodes: How many nodes the job has, as far as this one knows.
        result: What it did.
    """

    state: str
    nodes: int
    result: NodeResult

    @property
    def is_final(self) -> bool:
        """Whether the node will say no more."""
        return self.state.startswith(FINAL)

    def to_text(self) -> str:
        """As the tag has it."""
        limit = max(_SHORTEST, min(MAX_TAG_LENGTH, _ALL_NODES_LENGTH // self.nodes))
        judgement = self.result.judgement
        words = self.state
        if judgement is not None and judgement.judged:
            words += f"; {tag_text(judgement.findings)}"
        for texts_of in _TEXTS:
            head = f"{words[: limit // 4]} {packed(self._head(texts_of))}"
            if len(head) <= limit * _HEAD_SHARE:
                break
        return f"{head} {self.result.part.to_text(limit - len(head) - 1)}"

    def _head(self, texts_of: frozenset[str]) -> dict[str, Any]:
        result, judgement = self.result, self.result.judgement
        return {
            "state": self.state,
            "nodes": self.nodes,
            "since": result.since,
            "gpus": None if result.gpus is None else asdict(result.gpus),
            "judged": None if judgement is None else judgement.judged,
            "too_short": None if judgement is None else judgement.too_short,
            "findings": []
            if judgement is None
            else [_row(each, texts_of) for each in judgement.findings],
        }

    @classmethod
    def from_text(cls, node: str, text: str) -> NodeTag | None:
        """What a tag says; None for what is no such tag.

        Args:
            node: Name of the node that it is of.
            text: The tag.
        """
        try:
            _, packed_head, packed_part = text.rsplit(" ", 2)
            head, part = unpacked(packed_head), Part.from_text(packed_part)
            if part is None:
                return None
            gpus = None if head["gpus"] is None else NodeGpus(**head["gpus"])
            result = NodeResult(node, part, _judgement(head), gpus, str(head["since"]))
            return cls(str(head["state"]), int(head["nodes"]), result)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def key_of(node: str) -> str:
    """Key of a node's tag: `sysmetrics.node_1` for `node_1`."""
    return _KEY_PREFIX + node


def node_tags(tags: Mapping[str, str]) -> list[NodeTag]:
    """What the nodes of a run say, by their numbers."""
    found = [
        tag
        for key in sorted((key for key in tags if key.startswith(_NODE_PREFIX)), key=_number)
        if (tag := NodeTag.from_text(key.removeprefix(_KEY_PREFIX), tags[key])) is not None
    ]
    return [replace(tag, nodes=max(each.nodes for each in found)) for tag in found]


def _number(key: str) -> tuple[int, str]:
    number = key.removeprefix(_NODE_PREFIX)
    return (int(number) if number.isdecimal() and number.isascii() else 0, key)


_ALL = frozenset(("critical", "warning", "info"))
_TEXTS = (_ALL, _ALL - {"info"}, frozenset[str]())
"""Severities of the findings whose texts are kept, where there is no room for all."""


def _row(each: Finding, texts_of: frozenset[str]) -> list[Any]:
    texts = [each.title, dict(each.evidence), each.advice] if each.severity in texts_of else []
    waste = None
    if each.waste is not None:
        waste = [each.waste.gpu_hours, each.waste.core_hours, each.waste.gpus]
    return [each.id, each.severity, round(each.share, 4), waste, each.start_s, each.end_s, texts]


def _judgement(head: Mapping[str, Any]) -> Judgement | None:
    if head["judged"] is None:
        return None
    findings = tuple(map(_finding, head["findings"]))
    return Judgement(findings, {}, tuple(head["judged"]), tuple(head["too_short"]))


def _finding(row: Sequence[Any]) -> Finding:
    rule, severity, share, waste, start_s, end_s, texts = row
    title, evidence, advice = texts or (rule, {}, "")
    return Finding(
        id=rule,
        severity=severity,
        title=title,
        evidence=evidence,
        advice=advice,
        share=share,
        waste=None if waste is None else Waste(waste[0], waste[1], tuple(waste[2])),
        start_s=start_s,
        end_s=end_s,
    )
