"""A training on several processes and hosts is one run, whatever started them."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from integration.launcher import SCRIPTS, Launcher
from integration.servers import free_port
from integration.slurm import Slurm
from integration.training import (
    RANK,
    TORCHRUN,
    Training,
    Tree,
    assert_shows,
    launcher_on,
    nodes_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from integration.servers import TrackingServer

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray and others are not installed; scripts/test.py --frameworks installs them",
    ),
    pytest.mark.timeout(240),
]

A, B = "lab-a", "lab-b"

MPI_OPTIONS = ("--allow-run-as-root", "--oversubscribe", "--bind-to", "none")
REMOTE_SHELL = """#!/bin/sh
# Called as ssh is: a host, and a command for its shell. A waiting shell there takes it.
host=$1
shift
echo "$@" > "$TOLD/$host.new"
mv "$TOLD/$host.new" "$TOLD/$host"
while [ -e "$TOLD/$host" ]; do sleep 0.1; done
"""
WAITING_SHELL = """
while ! [ -e "$TOLD/$0" ]; do sleep 0.1; done
sh "$TOLD/$0"
rm "$TOLD/$0"
"""


@pytest.fixture
def training(tmp_path: Path, plugin: Path, tracking_server: TrackingServer) -> Iterator[Training]:
    launcher = Launcher(plugin, tmp_path, tracking_server.address)
    with Training.of(launcher, tracking_server.store_uri) as training:
        yield training


def torchrun(*options: str, ranks: int = 2) -> tuple[str | Path, ...]:
    return (*TORCHRUN, "--nproc-per-node", str(ranks), *options, RANK)


def on_two_nodes(port: int, node: int) -> tuple[str, ...]:
    """Options of torchrun's static rendezvous."""
    address = ("--master-addr", "127.0.0.1", "--master-port", str(port))
    return ("--nnodes", "2", "--node-rank", str(node), *address)


def by_c10d(port: int, node: int) -> tuple[str, ...]:
    """Options of torchrun's dynamic rendezvous; it tells agents apart by address and PID."""
    endpoint = ("--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", f"127.0.0.{node + 1}")
    return ("--nnodes", "2", "--rdzv-backend", "c10d", *endpoint)


def test_torchrun_on_one_host_shows_all_ranks_under_plain_keys(training: Training) -> None:
    training.start(torchrun("--standalone"))
    training.wait_for_points()
    ranks = training.measure(2)
    training.wait_for_points(count=5)
    run = training.end()

    tree = launcher_on(ranks[0].host, ranks)
    assert nodes_of(run) == {""}
    assert_shows(run, "", tree)
    assert run.status == "FINISHED"
    assert training.said == []
    assert [outcome.exit_status for outcome in training.outcomes] == [0]


@pytest.mark.parametrize("rendezvous", ["static", "c10d"])
def test_torchrun_on_two_hosts_shows_each_of_them(training: Training, rendezvous: str) -> None:
    port = free_port()
    for node, host in enumerate((A, B)):
        options = {"static": on_two_nodes, "c10d": by_c10d}[rendezvous](port, node)
        training.start(torchrun(*options), host)
    training.wait_for_points("0", "1")
    ranks = training.measure(4)
    training.wait_for_points("0", "1", count=5)
    run = training.end()

    host_of = {rank.rank: rank.host for rank in ranks}
    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", launcher_on(host_of[0], ranks))
    assert_shows(run, "1", launcher_on(host_of[2], ranks))
    assert run.status == "FINISHED"
    assert A in run.tags["sys.nodes"]
    assert B in run.tags["sys.nodes"]
    assert run.tags["sysmetrics.summary"] == "final"
    assert [outcome.exit_status for outcome in training.outcomes] == [0, 0]


def test_hugging_faces_trainer_opens_the_run_of_two_hosts(training: Training) -> None:
    port = free_port()
    for node, host in enumerate((A, B)):
        command = (*TORCHRUN, *on_two_nodes(port, node), SCRIPTS / "rank_of_trainer.py")
        training.start(command, host)
    training.wait_for_points("0", "1")
    ranks = training.measure(2)
    training.wait_for_points("0", "1", count=5)
    run = training.end()

    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", launcher_on(A, ranks))
    assert_shows(run, "1", launcher_on(B, ranks))
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0, 0]


def test_lightnings_logger_opens_the_run_of_two_hosts(training: Training) -> None:
    port = free_port()
    for node, host in enumerate((A, B)):
        command = (*TORCHRUN, *on_two_nodes(port, node), SCRIPTS / "rank_of_lightning.py")
        training.start(command, host, NODES="2", DEVICES="1")
    training.wait_for_points("0", "1")
    ranks = training.measure(2)
    training.wait_for_points("0", "1", count=5)
    run = training.end()

    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", launcher_on(A, ranks))
    assert_shows(run, "1", launcher_on(B, ranks))
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0, 0]


def test_srun_on_two_hosts_shows_each_of_them(training: Training) -> None:
    with Slurm(A, B) as slurm:
        srun = ("srun", "--nodes", "2", "--ntasks", "4", sys.executable, RANK)
        training.start(srun, **slurm.variables)
        training.wait_for_points("0", "1")
        ranks = training.measure(4)
        training.wait_for_points("0", "1", count=5)
        run = training.end()

    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", launcher_on(A, ranks))
    assert_shows(run, "1", launcher_on(B, ranks))
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0]


def test_mpirun_on_one_host_shows_all_ranks_under_plain_keys(training: Training) -> None:
    training.start(("mpirun", *MPI_OPTIONS, "-n", "2", sys.executable, RANK))
    training.wait_for_points()
    ranks = training.measure(2)
    training.wait_for_points(count=5)
    run = training.end()

    tree = launcher_on(ranks[0].host, ranks)
    assert nodes_of(run) == {""}
    assert_shows(run, "", tree)
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0]


def test_mpirun_on_two_hosts_shows_each_of_them(training: Training) -> None:
    remote = training.told / "rsh"
    remote.write_text(REMOTE_SHELL)
    remote.chmod(0o755)
    options = (*MPI_OPTIONS, "--host", f"{A}:2,{B}:2", "--mca", "plm_rsh_agent", str(remote))
    training.start(("sh", "-c", WAITING_SHELL, B), B)
    training.start(("mpirun", *options, "-n", "4", sys.executable, RANK), A)
    training.wait_for_points("0", "1")
    ranks = training.measure(4)
    training.wait_for_points("0", "1", count=5)
    run = training.end()

    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", launcher_on(A, ranks))
    assert_shows(run, "1", launcher_on(B, ranks))
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0, 0]


def test_ray_train_shows_its_workers_and_nobody_elses(training: Training) -> None:
    training.start((sys.executable, SCRIPTS / "ray_training.py"))
    training.wait_for_points()
    ranks = training.measure(2)
    training.wait_for_points(count=5)
    run = training.end()

    first, second = (rank.own for rank in ranks)
    rss_megabytes = first.rss_megabytes + second.rss_megabytes
    tree = Tree(first.processes + second.processes, rss_megabytes, first.time_s)
    assert nodes_of(run) == {""}
    assert_shows(run, "", tree)
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0]
