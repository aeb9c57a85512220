from __future__ import annotations

import json

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.distributed.nodes import (
    NODES_TAG,
    describe_node,
    format_nodes,
    list_of_nodes,
    nodes_of,
    number_of,
    parse_nodes,
    tags_of_node,
)

HERE = "aaaaaa" + "0" * 58
LEADER = "bbbbbb"
TAGS = {"sys.hostname": "node-17", "sys.cpu_cores": "64", "sys.gpu": "8 x H100"}


def test_a_host_is_shown_with_its_name_cpus_and_gpus() -> None:
    assert describe_node(TAGS, HERE) == {
        "host": "node-17",
        "cpus": 64,
        "gpus": "8 x H100",
        "id": "aaaaaa",
    }


def test_a_name_that_is_excluded_and_gpus_that_are_absent_are_not_shown() -> None:
    assert describe_node({"sys.cpu_cores": "2", "sys.gpu": "None"}, HERE) == {
        "cpus": 2,
        "id": "aaaaaa",
    }


def test_what_all_hosts_have_in_common_stands_once() -> None:
    nodes = {
        0: describe_node(TAGS, HERE),
        1: describe_node(TAGS | {"sys.hostname": "node-18"}, LEADER),
    }

    text = format_nodes(nodes)

    assert json.loads(text) == {
        "all": {"cpus": 64, "gpus": "8 x H100"},
        "0": {"host": "node-17", "id": "aaaaaa"},
        "1": {"host": "node-18", "id": "bbbbbb"},
    }
    assert parse_nodes(text) == nodes


def test_hundreds_of_hosts_fit_into_the_tag() -> None:
    text = format_nodes(
        {n: describe_node(TAGS | {"sys.hostname": f"node-{n}"}, f"{n:06x}") for n in range(500)}
    )

    assert len(text.encode()) <= MAX_TAG_LENGTH
    assert list(parse_nodes(text)) == list(range(len(parse_nodes(text))))
    assert len(parse_nodes(text)) > 100


def test_a_tag_that_is_not_as_expected_lists_no_host() -> None:
    for text in ("", "node-17", "[]", '{"0":1}', '{"zero":{"id":"aaaaaa"}}', '{"0":{"host":"a"}}'):
        assert parse_nodes(text) == {}


def test_a_host_has_the_launchers_number() -> None:
    assert number_of({0: {"id": LEADER}}, HERE, 3, LEADER) == 3


def test_a_host_keeps_its_number_when_the_launcher_gives_it_another() -> None:
    nodes = {0: {"id": LEADER}, 2: {"id": "aaaaaa"}}

    assert number_of(nodes, HERE, 1, LEADER) == 2


def test_a_number_that_another_host_has_is_not_given_again() -> None:
    nodes = {0: {"id": LEADER}, 1: {"id": "cccccc"}}

    assert number_of(nodes, HERE, 1, LEADER) == 2
    assert number_of(nodes, HERE, None, LEADER) == 2


def test_number_0_is_the_leaders_also_when_it_was_another_hosts() -> None:
    nodes = {0: {"id": "aaaaaa"}, 1: {"id": LEADER}}

    assert number_of(nodes, HERE, 1, LEADER) == 1


def said_by(number: int, name: str, others: dict[str, str]) -> dict[str, str]:
    """What a host says as it joins, whose sampling domain begins with this name."""
    return tags_of_node(number, describe_node({"sys.hostname": name}, name), others)


def test_a_host_that_joins_is_listed_with_those_that_it_finds() -> None:
    tags = said_by(0, "aaaaaa", {})
    tags |= said_by(1, "bbbbbb", tags)

    assert parse_nodes(tags[NODES_TAG]) == nodes_of(tags)
    assert nodes_of(tags) == {
        0: {"host": "aaaaaa", "id": "aaaaaa"},
        1: {"host": "bbbbbb", "id": "bbbbbb"},
    }
    assert list_of_nodes(tags, "bbbbbb") == {}


def test_of_hosts_that_join_at_the_same_time_none_is_missing_in_the_end() -> None:
    leader = said_by(0, "aaaaaa", {})
    joined = [said_by(number, f"{number:06x}", leader) for number in range(1, 65)]
    tags = dict(leader)
    for said in joined:  # each has overwritten the list of the one before
        tags |= said
    assert len(parse_nodes(tags[NODES_TAG])) == 2
    for number in range(1, 65):
        tags |= list_of_nodes(tags, f"{number:06x}")

    assert parse_nodes(tags[NODES_TAG]).keys() == {*range(65)}


def test_a_host_for_which_there_is_no_room_in_the_list_does_not_write_it_again() -> None:
    tags: dict[str, str] = {}
    for number in range(200):
        name = f"a-host-with-a-name-that-is-rather-long-{number}"
        tags |= tags_of_node(number, {"host": name, "id": f"{number:06x}"}, tags)

    assert 199 not in parse_nodes(tags[NODES_TAG])
    assert 199 in nodes_of(tags)
    assert list_of_nodes(tags, f"{199:06x}") == {}


def test_a_tag_of_a_host_that_is_not_as_expected_is_no_host() -> None:
    for text in ("", "[]", "{}", '{"node":"one"}', '{"node":null}'):
        assert nodes_of({"sysmetrics.host_aaaaaa": text}) == {}
