from __future__ import annotations

import json

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.distributed.nodes import (
    describe_node,
    format_nodes,
    number_of,
    parse_nodes,
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
