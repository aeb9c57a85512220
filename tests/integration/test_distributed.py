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
    assert_shows,
    nodes_of,
    trees_of,
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
# Called as ssh is: a host, and a command for its shell.
host=$1
shift
exec unshare --uts --pid --fork --kill-child --mount-proc \\
    sh -c 'hostname "$0" && eval "$@"' "$host" "$@"
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
    training.wait_for_points(count=6)
    run = training.end()

    (tree,) = trees_of(ranks).values()
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
    training.wait_for_points("0", "1", count=6)
    run = training.end()

    trees = trees_of(ranks)
    host_of = {rank.rank: rank.host for rank in ranks}
    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", trees[host_of[0]])
    assert_shows(run, "1", trees[host_of[2]])
    assert run.status == "FINISHED"
    assert A in run.tags["sys.nodes"]
    assert B in run.tags["sys.nodes"]
    assert [outcome.exit_status for outcome in training.outcomes] == [0, 0]


def test_hugging_faces_trainer_opens_the_run_of_two_hosts(training: Training) -> None:
    port = free_port()
    for node, host in enumerate((A, B)):
        script = SCRIPTS / "rank_of_trainer.py"
        training.start((*TORCHRUN, *on_two_nodes(port, node), script), host)
    training.wait_for_points("0", "1")
    ranks = training.measure(2)
    training.wait_for_points("0", "1", count=6)
    run = training.end()

    trees = trees_of(ranks)
    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", trees[A])
    assert_shows(run, "1", trees[B])
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0, 0]


def test_lightnings_logger_opens_the_run_of_two_hosts(training: Training) -> None:
    port = free_port()
    for node, host in enumerate((A, B)):
        script = SCRIPTS / "rank_of_lightning.py"
        command = (*TORCHRUN, *on_two_nodes(port, node), script)
        training.start(command, host, NODES="2", DEVICES="1")
    training.wait_for_points("0", "1")
    ranks = training.measure(2)
    training.wait_for_points("0", "1", count=6)
    run = training.end()

    trees = trees_of(ranks)
    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", trees[A])
    assert_shows(run, "1", trees[B])
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0, 0]


def test_srun_on_two_hosts_shows_each_of_them(training: Training) -> None:
    with Slurm(A, B) as slurm:
        srun = ("srun", "--nodes", "2", "--ntasks", "4", sys.executable, RANK)
        training.start(srun, **slurm.variables)
        training.wait_for_points("0", "1")
        ranks = training.measure(4)
        training.wait_for_points("0", "1", count=6)
        run = training.end()

    trees = trees_of(ranks)
    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", trees[A])
    assert_shows(run, "1", trees[B])
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0]


def test_mpirun_on_one_host_shows_all_ranks_under_plain_keys(training: Training) -> None:
    training.start(("mpirun", *MPI_OPTIONS, "-n", "2", sys.executable, RANK))
    training.wait_for_points()
    ranks = training.measure(2)
    training.wait_for_points(count=6)
    run = training.end()

    (tree,) = trees_of(ranks).values()
    assert nodes_of(run) == {""}
    assert_shows(run, "", tree)
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0]


def test_mpirun_on_two_hosts_shows_each_of_them(training: Training) -> None:
    remote = training.told / "rsh"
    remote.write_text(REMOTE_SHELL)
    remote.chmod(0o755)
    options = (*MPI_OPTIONS, "--host", f"{A}:2,{B}:2", "--mca", "plm_rsh_agent", str(remote))
    training.start(("mpirun", *options, "-n", "4", sys.executable, RANK), A)
    training.wait_for_points("0", "1")
    ranks = training.measure(4)
    training.wait_for_points("0", "1", count=6)
    run = training.end()

    trees = trees_of(ranks)
    assert nodes_of(run) == {"0", "1"}
    assert_shows(run, "0", trees[A])
    assert_shows(run, "1", trees[B])
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0]


def test_ray_train_shows_its_workers_and_nobody_elses(training: Training) -> None:
    training.start((sys.executable, SCRIPTS / "ray_training.py"))
    training.wait_for_points()
    ranks = training.measure(2)
    training.wait_for_points(count=6)
    run = training.end()

    (tree,) = trees_of(ranks, with_parents=False).values()
    assert nodes_of(run) == {""}
    assert_shows(run, "", tree)
    assert run.status == "FINISHED"
    assert [outcome.exit_status for outcome in training.outcomes] == [0]
