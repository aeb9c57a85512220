from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from fakes.scripted_store import ScriptedStore, sample
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.claim import Claim
from mlflow_sysmetrics.distributed.standby import Standby
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.runs.registry import RunRequest, open_run
from mlflow_sysmetrics.sampling.recorder import Recorder
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.delivery.stream import Stream

URI = "http://somewhere"
OTHER_URI = "http://elsewhere"

opening = partial(RunRequest, "1234", URI, Settings(), resumed=False)


@pytest.fixture(autouse=True)
def recorders(mocker: MockerFixture) -> list[Mock]:
    """The recorders that are made, in a process that has no open runs yet."""
    made: list[Mock] = []

    def make(*_args: object) -> Mock:
        recorder: Mock = mocker.create_autospec(Recorder, instance=True)
        recorder.store_timeout_s = 5.0
        made.append(recorder)
        return recorder

    mocker.patch.object(registry, "Recorder", side_effect=make)
    mocker.patch.object(registry, "Channel")
    mocker.patch.object(registry, "_this_process", registry._ThisProcess())
    mocker.patch.object(registry, "atexit")
    return made


def channel_arguments() -> Any:  # noqa: ANN401 - of a mock
    """Uploader, stream and `on_end` of the channel that was opened last."""
    return registry.Channel.call_args.args  # type: ignore[attr-defined] # a mock


# Opening and closing


def test_a_run_is_recorded_from_its_opening_to_its_close(recorders: list[Mock]) -> None:
    run = open_run(opening())
    (recorder,) = recorders
    recorder.open.assert_called_once_with()
    assert channel_arguments()[2] is None
    recorder.close.assert_not_called()

    run.close()

    recorder.close.assert_called_once_with()


def test_a_run_that_is_opened_twice_is_recorded_once_until_the_last_close(
    recorders: list[Mock],
) -> None:
    first, second = open_run(opening()), open_run(opening())
    (recorder,) = recorders

    first.close()
    recorder.close.assert_not_called()
    second.close()

    recorder.close.assert_called_once_with()


def test_a_run_may_be_opened_again_after_its_close(recorders: list[Mock]) -> None:
    open_run(opening()).close()
    open_run(opening()).close()

    assert [recorder.close.call_count for recorder in recorders] == [1, 1]


def test_closing_too_often_leaves_a_later_opening_alone(recorders: list[Mock]) -> None:
    first = open_run(opening())
    first.close()
    open_run(opening())

    first.close()

    assert [recorder.close.call_count for recorder in recorders] == [1, 0]


def test_one_server_may_be_written_in_several_ways(recorders: list[Mock]) -> None:
    for uri in (URI, f"{URI}/", URI.replace("//", "//me:secret@")):
        open_run(RunRequest("1234", uri, Settings(), resumed=False))

    assert len(recorders) == 1


@pytest.mark.parametrize(
    "other",
    [
        RunRequest("5678", URI, Settings(), resumed=False),
        RunRequest("1234", "sqlite:///other.db", Settings(), resumed=False),
        opening(collectors=CollectorSet(Host()), prefix="server/"),
    ],
    ids=["run", "store", "tree"],
)
def test_another_run_is_recorded_by_itself(recorders: list[Mock], other: RunRequest) -> None:
    open_run(opening())
    open_run(other).close()

    assert [recorder.close.call_count for recorder in recorders] == [0, 1]


def test_a_run_that_could_not_be_opened_is_not_held(
    recorders: list[Mock], mocker: MockerFixture
) -> None:
    failing = mocker.create_autospec(Recorder, instance=True)
    failing.open.side_effect = RuntimeError("at interpreter shutdown")
    make = mocker.patch.object(registry, "Recorder", return_value=failing)
    with pytest.raises(RuntimeError, match="shutdown"):
        open_run(opening())
    mocker.stop(make)

    open_run(opening()).close()

    (recorder,) = recorders
    recorder.close.assert_called_once_with()


def test_all_runs_share_one_sampler_and_each_store_has_one_uploader() -> None:
    for run_id, uri in [("1", URI), ("2", URI), ("3", OTHER_URI)]:
        open_run(RunRequest(run_id, uri, Settings(), resumed=False))

    made = [call.args for call in registry.Recorder.call_args_list]  # type: ignore[attr-defined] # a mock
    collectors, samplers = ([args[at] for args in made] for at in (1, 3))
    channels = registry.Channel.call_args_list  # type: ignore[attr-defined] # a mock
    uploaders = [call.args[0] for call in channels]
    assert collectors[0] is collectors[1] is collectors[2]
    assert samplers[0] is samplers[1] is samplers[2]
    assert uploaders[0] is uploaders[1] is not uploaders[2]


# At exit


def test_what_is_open_at_exit_is_closed_once(recorders: list[Mock]) -> None:
    runs = [open_run(opening()), open_run(RunRequest("5678", URI, Settings(), resumed=False))]

    registry._this_process.close_all()
    for run in runs:
        run.close()

    assert [recorder.stop.call_count for recorder in recorders] == [1, 1]
    assert [recorder.deliver.call_count for recorder in recorders] == [1, 1]
    assert [recorder.close.call_count for recorder in recorders] == [0, 0]


def test_at_exit_all_runs_are_sent_at_once_and_share_the_longest_flush_timeout(
    recorders: list[Mock], mocker: MockerFixture
) -> None:
    mocker.patch.object(registry, "time").monotonic.return_value = 100.0
    calls = mocker.Mock()
    for run_id, timeout_s in [("1", 3.0), ("2", 5.0), ("3", 1.0)]:
        open_run(RunRequest(run_id, URI, Settings(), resumed=False))
        recorders[-1].store_timeout_s = timeout_s
        calls.attach_mock(recorders[-1].stop, f"stop_{run_id}")
        calls.attach_mock(recorders[-1].deliver, f"deliver_{run_id}")

    registry._this_process.close_all()

    names = [name for name, _, _ in calls.method_calls]
    assert names == [f"{what}_{run_id}" for what in ("stop", "deliver") for run_id in "123"]
    assert [args for _, args, _ in calls.method_calls] == [(102.5,)] * 3 + [(105.0,)] * 3


# A run that others end


def test_a_run_that_others_may_end_is_asked_about(recorders: list[Mock]) -> None:
    run = open_run(opening(poll_status=True))
    (recorder,) = recorders
    on_end = channel_arguments()[2]

    on_end()
    recorder.end.assert_called_once_with()

    assert not registry.is_open(opening())
    run.close()
    recorder.close.assert_not_called()


def test_who_opened_a_run_learns_that_others_have_ended_it(
    recorders: list[Mock], mocker: MockerFixture
) -> None:
    learns = mocker.Mock()
    open_run(RunRequest("1", URI, Settings(), resumed=True, on_end=learns, poll_status=True))
    (_recorder,) = recorders
    on_end = channel_arguments()[2]

    on_end()
    on_end()

    learns.assert_called_once_with()


def test_a_run_that_closes_as_others_end_it_ends_once(recorders: list[Mock]) -> None:
    run = open_run(opening(poll_status=True))
    (recorder,) = recorders
    on_end = channel_arguments()[2]
    run.close()

    on_end()

    recorder.end.assert_not_called()


def test_a_run_that_others_have_ended_may_be_opened_again(recorders: list[Mock]) -> None:
    open_run(opening(poll_status=True))
    on_end = channel_arguments()[2]
    on_end()

    again = open_run(opening(poll_status=True))
    on_end()  # of the first
    again.close()

    assert [recorder.close.call_count for recorder in recorders] == [0, 1]


def test_a_process_that_never_opened_a_run_has_nothing_to_close(recorders: list[Mock]) -> None:
    registry._this_process.close_all()

    assert recorders == []


# Where points go


def stream_of(an_opening: RunRequest) -> Stream:
    open_run(an_opening)
    stream: Stream = channel_arguments()[1]
    return stream


@pytest.mark.parametrize(("node_id", "prefix"), [(None, "system/"), ("node-3", "system/node-3/")])
def test_keys_begin_with_the_node(node_id: str | None, prefix: str) -> None:
    settings = Settings(node_id=node_id)

    stream = stream_of(RunRequest("1234", URI, settings, resumed=False))

    assert stream.address == RunAddress("1234", URI, prefix)


def test_a_run_is_sent_to_the_workspace_that_it_was_opened_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mlflow.utils.workspace_context", reason="this MLflow has no workspaces")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")

    assert stream_of(opening()).address.workspace == "team-a"


def test_a_new_run_has_got_its_tags_from_mlflow() -> None:
    stream = stream_of(opening())
    store = ScriptedStore()
    assert stream.is_known

    stream.queue.add(sample(0))
    stream.send(store)

    assert store.calls == ["log"]
    assert store.tags == {}


@pytest.mark.parametrize("is_set", [True, False])
def test_what_cannot_be_sent_is_kept_in_the_folder_of_the_settings_or_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_set: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings = Settings(spool_dir=tmp_path / "scratch" if is_set else None)

    stream = stream_of(RunRequest("1234", URI, settings, resumed=False))
    stream.queue.add(sample(0))
    stream.persist()

    assert stream.spool_path is not None
    assert stream.spool_path.parent == (
        tmp_path / "scratch" if is_set else tmp_path / "state/mlflow-sysmetrics/spool"
    )
    stream.forget()


@pytest.mark.parametrize(
    ("switch", "tags"),
    [("sysmetrics,sysmonitor", {"sys.cpu": "EPYC"}), ("sysmonitor", {}), ("", {})],
)
def test_a_resumed_run_gets_tags_while_they_are_switched_on(
    monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, switch: str, tags: dict[str, str]
) -> None:
    mocker.patch.object(registry, "host_tags", return_value={"sys.cpu": "EPYC"})
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT_PROVIDER", switch)

    stream = stream_of(RunRequest("1234", URI, Settings(), resumed=True))
    store = ScriptedStore()
    assert not stream.is_known

    stream.send(store)

    assert store.tags == tags


# Forking


def test_a_forked_child_does_not_close_its_parents_runs(recorders: list[Mock]) -> None:
    run = open_run(opening())

    registry._this_process.after_fork()
    run.close()
    registry._this_process.close_all()

    (recorder,) = recorders
    recorder.close.assert_not_called()


def test_a_forked_child_leaves_its_parents_runs_to_the_parent(recorders: list[Mock]) -> None:
    open_run(opening())
    registry._this_process.after_fork()

    open_run(opening()).close()

    assert [recorder.close.call_count for recorder in recorders] == [0]


# Several processes


def test_what_another_process_samples_is_sampled_from_its_end_on(
    recorders: list[Mock], mocker: MockerFixture
) -> None:
    elsewhere = Claim(domain.sampling_domain(Host()), opening().series)
    assert elsewhere.acquire()
    run = open_run(opening())
    standby = run.recorder
    assert isinstance(standby, Standby)
    standby.take([])
    assert recorders == []

    elsewhere.release()
    standby.take([])
    run.close()

    (recorder,) = recorders
    recorder.close.assert_called_once_with()
    stream = channel_arguments()[1]
    assert not stream.is_known  # steps go on
    assert elsewhere.acquire()
    elsewhere.release()


def test_a_run_that_was_closed_meanwhile_is_not_taken_over(recorders: list[Mock]) -> None:
    elsewhere = Claim(domain.sampling_domain(Host()), opening().series)
    elsewhere.acquire()
    run = open_run(opening())
    standby = run.recorder
    assert isinstance(standby, Standby)
    run.close()
    elsewhere.release()

    standby.take([])

    assert recorders == []
    assert elsewhere.acquire()
    elsewhere.release()
