"""What is said of a run once all is sent: asked for once, and sent as surely as a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakes.scripted_store import ScriptedStore
from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.uploader import Uploader
from mlflow_sysmetrics.sampling.sink import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

URI = "http://store"
NODE_TAG = "sysmetrics.node_0"


class LastWord:
    """Keeps what it was asked with."""

    def __init__(self, record: Record | None) -> None:
        self.record = record
        self.asked: list[dict[str, str]] = []

    def __call__(self, tags: Mapping[str, str]) -> Record | None:
        self.asked.append(dict(tags))
        return self.record


def ended(store: ScriptedStore, last_word: LastWord) -> None:
    """A run of one sample and a tag, opened and ended."""
    uploader = Uploader(URI, Backlog(), lambda *_, **__: store)
    stream = Stream(RunAddress("1", URI, "system/node_0/"), last_word=last_word)
    channel = Channel(uploader, stream)
    channel.put(Record(0, 1000, {"cpu": 1.0}, tags={NODE_TAG: "final"}))
    channel.close(5.0)


SUMMARY = Record(0, 5000, {}, 0, {"sysmetrics.summary": "final"}, {"summary/samples": 7.0})


def test_it_is_asked_once_all_is_sent_and_sees_what_this_process_sent_last() -> None:
    store, last_word = ScriptedStore(*[lambda: None] * 9), LastWord(SUMMARY)

    ended(store, last_word)

    assert store.calls == ["log", "read", "log"]
    assert last_word.asked == [{NODE_TAG: "final"}]
    assert store.tags["sysmetrics.summary"] == "final"
    (point,) = store.batches[-1]
    assert (point.key, point.value, point.timestamp_ms, point.step) == (
        "summary/samples",
        7.0,
        5000,
        0,
    )


def test_where_there_is_nothing_to_say_nothing_is_sent() -> None:
    store = ScriptedStore(*[lambda: None] * 9)

    ended(store, LastWord(None))

    assert store.calls == ["log", "read"]


def test_a_store_that_fails_meanwhile_is_asked_again() -> None:
    nothing = lambda: None  # noqa: E731 - an answer of the store
    refused = ConnectionError("refused")
    store = ScriptedStore(nothing, refused, nothing, refused, nothing, nothing)
    last_word = LastWord(SUMMARY)

    ended(store, last_word)

    assert store.calls == ["log", "read", "read", "log", "read", "log"]
    assert store.tags["sysmetrics.summary"] == "final"


def test_a_run_that_goes_on_is_not_asked_about() -> None:
    store, last_word = ScriptedStore(*[lambda: None] * 9), LastWord(SUMMARY)
    uploader = Uploader(URI, Backlog(), lambda *_, **__: store)
    stream = Stream(RunAddress("1", URI, "system/"), last_word=last_word)
    channel = Channel(uploader, stream)
    channel.put(Record(0, 1000, {"cpu": 1.0}))

    assert not channel.task.is_last_word_due
    channel.close(5.0)
    assert channel.task.is_settled
