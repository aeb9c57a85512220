"""Tags and summary values reach the run as points do, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.tracking import MlflowClient

from fakes.scripted_store import OPENED_MS, LostAnswer, ScriptedStore, sample
from fakes.streams import ADDRESS, left_by, send_all
from mlflow_sysmetrics.delivery.checked_lines import checked_line
from mlflow_sysmetrics.delivery.kept_apart import KeptApartStore
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import InvalidPoints
from mlflow_sysmetrics.delivery.spool import Spool, SpoolRefused
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.sampling.sink import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.sampling.sink import Point

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

MEAN = "summary/cpu_utilization_percentage_mean"


@pytest.fixture(params=["file", "sqlite"])
def tracking_uri(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    if request.param == "file":
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        return str(tmp_path / "mlruns")
    shutil.copy(request.getfixturevalue("empty_database"), tmp_path / "runs.db")
    return f"sqlite:///{tmp_path}/runs.db"


def last_words(step: int, mean: float = 41.5, **tags: str) -> Record:
    """A record of tags and a summary alone."""
    tags = {f"sys.{key}": value for key, value in tags.items()}
    return Record(step, OPENED_MS + 1000 * step, {}, 0, tags, {MEAN: mean})


def added(stream: Stream, *records: Record) -> Stream:
    for each in records:
        stream.add(each)
    return stream


def refuse_tags(store: ScriptedStore) -> None:
    """Let a store take points, but no tag of ours."""
    log = store.log

    def log_points(points: Sequence[Point], tags: Mapping[str, str]) -> None:
        if tags:
            raise InvalidPoints("the tag is too long")
        log(points, tags)

    store.log = log_points  # type: ignore[method-assign]  # one method of a fake


def test_a_run_gets_them_with_the_points_in_one_batch(stream: Stream) -> None:
    store = ScriptedStore()
    added(stream, sample(0), last_words(1, findings="none"))

    send_all(stream, store)

    assert store.calls == ["log"]
    assert store.tags == {"sys.findings": "none"}
    assert [(point.key, point.value, point.step) for point in store.stored] == [
        ("key", 0.0, 0), (MEAN, 41.5, 0),
    ]  # fmt: skip


def test_a_real_run_gets_the_last_of_each_outside_of_any_node(
    tracking_uri: str, tmp_path: Path
) -> None:
    client = MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    address = RunAddress(run_id, tracking_uri, "system/node_1/")
    stream = Stream(address, tmp_path / "spool")
    added(stream, sample(0), last_words(1, 3.0, findings="one"), sample(2), last_words(3, 4.0))
    added(stream, last_words(4, 5.0, findings="two"))
    stream.persist()
    path = stream.spool_path
    assert path is not None
    stream.release()
    left = Stream.of_spool(Spool.adopt(path), address)

    while left.unsent:
        left.send(open_store(address))

    run = client.get_run(run_id)
    assert run.data.metrics == {"system/node_1/key": 2.0, f"system/{MEAN}": 5.0}
    assert run.data.tags["sys.findings"] == "two"
    assert {each.step for each in client.get_metric_history(run_id, f"system/{MEAN}")} == {0}
    assert not path.exists()


def test_what_is_on_disk_is_all_there_for_a_later_process(stream: Stream) -> None:
    added(stream, last_words(0, findings="a leak"))
    stream.persist()
    store = ScriptedStore()

    send_all(left_by(stream), store)

    assert store.tags == {"sys.findings": "a leak"}
    assert [(point.key, point.step) for point in store.stored] == [(MEAN, 0)]


@pytest.mark.parametrize("stored", [0, 1, 2, None])
def test_a_lost_answer_costs_and_doubles_no_point(stream: Stream, stored: int | None) -> None:
    store = ScriptedStore(LostAnswer(stored))
    added(stream, last_words(0, findings="x"), sample(1), sample(2))
    with pytest.raises(ConnectionError):
        stream.send(store)
    added(stream, last_words(3, 50.0), sample(4))

    send_all(stream, store)

    assert sorted(point.step for point in store.stored if point.key == "key") == [1, 2, 4]
    assert [point.value for point in store.stored if point.key == MEAN][-1] == 50.0


def test_tags_alone_that_are_sent_again_let_no_point_be_sent_twice(stream: Stream) -> None:
    store = ScriptedStore(stored=sample(1).points(0))
    store.limits.batch_points = 2
    added(stream, last_words(0, findings="x"), sample(1))
    stream.persist()
    left = left_by(stream)

    send_all(left, store)

    assert [point.key for point in store.stored] == ["key", MEAN]


def test_tags_that_the_store_does_not_take_cost_no_point(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    store = ScriptedStore()
    refuse_tags(store)
    added(stream, sample(0, a=1.0, b=2.0), last_words(1, findings="x", gpu="y"), sample(2, a=3.0))

    send_all(stream, store)

    assert sorted(point.key for point in store.stored) == ["a", "a", "b", MEAN]
    assert "does not take the tag sys.findings" in caplog.text


def test_more_tags_than_a_batch_may_have_all_arrive(stream: Stream) -> None:
    sent: list[int] = []
    store = ScriptedStore()
    log = store.log

    def log_some(points: Sequence[Point], tags: Mapping[str, str]) -> None:
        sent.append(len(tags))
        log(points, tags)

    store.log = log_some  # type: ignore[method-assign]  # one method of a fake
    added(stream, *(last_words(n, 1.0, **{f"a{n}_{k}": "v" for k in range(80)}) for n in range(2)))

    send_all(stream, store)

    assert len(store.tags) == 160
    assert max(sent) <= 100


def test_another_nodes_summary_is_no_other_host() -> None:
    store = ScriptedStore(stored=last_words(9).summary_points())
    opened: list[str] = []

    def opener(address: RunAddress) -> ScriptedStore:
        opened.append(address.prefix)
        return store

    apart = KeptApartStore(ADDRESS, "system/me/", opener)
    apart.log([*sample(1).points(0), *last_words(1).summary_points()], {})

    assert opened == ["system/"]


@pytest.mark.parametrize(
    "more",
    [
        {"tags": {"mlflow.user": "root"}, "summary": {}},
        {"tags": {}, "summary": {"accuracy": 1.0}},
        {"tags": {}, "summary": {"summary/../../x": 1.0}},
        {"tags": {}, "summary": {MEAN: "1"}},
        {"tags": {"sys.findings": 1}, "summary": {}},
        {"tags": {}},
        [],
    ],
    ids=json.dumps,
)
def test_a_file_that_would_set_what_we_never_set_is_refused(
    stream: Stream,
    more: Any,  # noqa: ANN401 - any JSON
) -> None:
    added(stream, sample(0))
    stream.persist()
    path = stream.spool_path
    assert path is not None
    stream.release()
    with path.open("ab") as file:
        file.write(checked_line([1, OPENED_MS, {}, 0, more]))

    with pytest.raises(SpoolRefused):
        Spool.adopt(path)
