"""What the last node to end says of the whole run, from what all nodes have said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.node_tag import node_tags
from mlflow_sysmetrics.insight.texts import description
from mlflow_sysmetrics.insight.whole import FINAL, PROVISIONAL, answers_of, judged_since
from mlflow_sysmetrics.sampling.sink import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.insight.node_tag import NodeTag
    from mlflow_sysmetrics.insight.whole import Answers
    from mlflow_sysmetrics.settings import Settings

DESCRIPTION_TAG = "mlflow.note.content"

_SINCE = " since "


@dataclass(frozen=True)
class LastWord:
    """Makes summary and findings of a run on several nodes.

    Two nodes that end at once find the same, and give it the same time: it is then stored once.

    Attributes:
        settings: Which values and findings are wanted.
        nodes: How many the job has.
        is_leader: Whether this node says something although others have not said all.
        outer_run_id: The run within which this one is; None where it is within none.
    """

    settings: Settings
    nodes: int
    is_leader: bool
    outer_run_id: str | None = None

    def __call__(self, tags: Mapping[str, str]) -> Record | None:
        """What is to be logged; None where there is nothing.

        Args:
            tags: The run's, those of its nodes among them.
        """
        found = node_tags(tags)
        said_all = [each for each in found if each.is_final]
        nodes = max(self.nodes, len(found), *(each.nodes for each in found), 0)
        is_final = len(said_all) == nodes
        if not found or not (is_final or self.is_leader):
            return None
        state = FINAL if is_final else f"{PROVISIONAL}, {len(said_all)} of {nodes} nodes"
        results = [each.result for each in found]
        said = answers_of(results, self.settings, self._state(state, found))
        if is_final:
            said.tags.update(self._description(said, tags, judged_since(results)))
        # Later than what was said when fewer had said all, whatever the hosts' clocks are.
        ended_ms = round(max(each.result.part.ended_s for each in found) * 1000) + len(said_all)
        return Record(0, ended_ms, {}, 0, said.tags, said.summary)

    def _state(self, state: str, found: Sequence[NodeTag]) -> str:
        since = max(each.state.partition(_SINCE)[2] for each in found)
        state += f"{_SINCE}{since}" if since else ""
        return state + (f", within run {self.outer_run_id}" if self.outer_run_id else "")

    def _description(self, said: Answers, tags: Mapping[str, str], since: str) -> dict[str, str]:
        """The findings as the run's description, if that is wanted and it has none."""
        judgement = said.judgement
        if self.settings.findings != "describe" or tags.get(DESCRIPTION_TAG):
            return {}
        if judgement is None or not judgement.judged:
            return {}
        is_short = bool(judgement.too_short)
        return {DESCRIPTION_TAG: description(judgement.findings, is_short=is_short, since=since)}
