"""Text that the environment gives: any bytes, any length, names that may not be what they seem."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import mlflow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlflow_sysmetrics import ProcessMetricsMonitor, facts, host_tags
from mlflow_sysmetrics.accelerators.description import describe_devices
from mlflow_sysmetrics.accelerators.inventory import Device, MigInstance
from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH, TAGS
from mlflow_sysmetrics.cli import watch
from mlflow_sysmetrics.facts.probes import Probes
from mlflow_sysmetrics.facts.scheduler import read_kubernetes
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.log.text import clean, clean_key
from mlflow_sysmetrics.settings import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_mock import MockerFixture

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "environb"), reason="variables are text there"),
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),  # of MLflow's SQLite store
    pytest.mark.filterwarnings("ignore:.*file.*:FutureWarning"),  # of MLflow's file store
]

OF_A_POD = "# Kubernetes-managed hosts file."
IN_THE_NODES_NETWORK = "# Kubernetes-managed hosts file (host network)."
TEXT_VARIABLES = (
    "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_PARTITION",
    "POD_NAME", "MY_POD_NAME", "K8S_POD_NAME", "HOSTNAME",
    "POD_NAMESPACE", "MY_POD_NAMESPACE", "K8S_POD_NAMESPACE", "K8S_NAMESPACE",
    "NODE_NAME", "MY_NODE_NAME", "K8S_NODE_NAME",
)  # fmt: skip
OTHER_VARIABLES = (
    "KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "ZE_FLAT_DEVICE_HIERARCHY",
    "ONEAPI_DEVICE_SELECTOR", "TPU_RUNTIME_METRICS_PORTS",
    "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "_CONDOR_AssignedGPUs",
)  # fmt: skip
SETTINGS = tuple(
    each.name
    for each in VARIABLES
    if each.name != "MLFLOW_SYSMETRICS_SPOOL_DIR"  # any folder would be made
)
BYTES = st.binary(max_size=40).map(lambda value: value.replace(b"\0", b"")) | st.sampled_from(
    (b"caf\xe9", b"\xff" * 6000, b"\xed\xa0\x80", b"\xc2\x85\x1b[31m\r\n", "é".encode() * 4000)
)


@pytest.fixture(scope="module", params=["sqlite", "file"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[None]:
    """A store of MLflow's for this test's runs."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3.13 and newer asks for it
        uris = {"sqlite": f"sqlite:///{folder}/mlflow.db", "file": (folder / "runs").as_uri()}
        patch.setenv("MLFLOW_TRACKING_URI", uris[request.param])
        yield


def stored_tags(values: Mapping[str, bytes], providers: str = "sysmetrics") -> dict[str, str]:
    """The tags of a run of a process with these variables, in which no run has been opened yet."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, os.fsdecode(value))
        patch.setenv("MLFLOW_RUN_CONTEXT_PROVIDER", providers)
        patch.setattr(facts, "_this_machine", facts._ThisMachine())
        with mlflow.start_run() as run:
            pass
        tags: dict[str, str] = mlflow.get_run(run.info.run_id).data.tags
    return tags


@given(values=st.dictionaries(st.sampled_from((*TEXT_VARIABLES, *OTHER_VARIABLES)), BYTES))
@example(values=dict.fromkeys((*TEXT_VARIABLES, *OTHER_VARIABLES), b"caf\xe9"))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.usefixtures("store")
def test_a_run_starts_and_has_its_tags_whatever_bytes_the_variables_hold(
    values: dict[str, bytes],
) -> None:
    tags = {key: tag for key, tag in stored_tags(values).items() if key.startswith("sys")}

    assert {"sys.cpu_cores", "sys.memory_gb", "sys.platform"} <= tags.keys()
    assert tags.keys() <= {tag.key for tag in TAGS}
    assert all(0 < len(tag.encode()) <= MAX_TAG_LENGTH for tag in tags.values())
    assert all(tag.isprintable() for tag in tags.values())


@given(values=st.dictionaries(st.sampled_from(SETTINGS), BYTES))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.usefixtures("store")
def test_a_run_starts_whatever_bytes_the_settings_hold(values: dict[str, bytes]) -> None:
    assert "mlflow.user" in stored_tags(values, "sysmetrics,sysmonitor")


def test_every_variable_that_a_fact_reads_is_tried_above(tmp_path: Path) -> None:
    read = set()

    class Environ(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            read.add(name)
            return super().__contains__(name)

        def get(self, name: str, default: object = None) -> object:  # type: ignore[override] # of a dict
            read.add(name)
            return super().get(name, default)

    probes = Probes(facts.FACTS, Host(tmp_path, "Linux", Environ(KUBERNETES_SERVICE_HOST="x")), 60)
    probes.wait()

    assert "SLURM_JOB_PARTITION" in read
    assert read <= {*TEXT_VARIABLES, *OTHER_VARIABLES, *(each.name for each in VARIABLES)}


@pytest.mark.usefixtures("store")
def test_what_is_legible_of_a_partition_that_is_not_utf8_is_stored() -> None:
    tags = stored_tags({"SLURM_JOB_PARTITION": b"caf\xe9", "SLURM_JOB_ID": "42é".encode()})

    assert tags["sys.slurm_partition"] == "caf\N{REPLACEMENT CHARACTER}"
    assert tags["sys.slurm_job_id"] == "42é"


@pytest.mark.usefixtures("store")
def test_a_node_list_of_thousands_of_characters_is_stored_whole() -> None:
    nodes = "hpcperf-h4dnodeset-[" + ",".join(str(3 * number) for number in range(700)) + "]"

    assert stored_tags({"SLURM_JOB_NODELIST": nodes.encode()})["sys.slurm_nodelist"] == nodes


@pytest.mark.usefixtures("store")
def test_a_longer_node_list_is_cut_after_a_node_and_says_so() -> None:
    nodes = [f"nœud{number}" for number in range(2000)]

    tag = stored_tags({"SLURM_JOB_NODELIST": ",".join(nodes).encode()})["sys.slurm_nodelist"]

    assert MAX_TAG_LENGTH - 20 < len(tag.encode()) <= MAX_TAG_LENGTH
    *kept, mark = tag.split(",")
    assert kept == nodes[: len(kept)]
    assert mark == "…"


def test_a_host_name_that_is_not_text_becomes_text(mocker: MockerFixture) -> None:
    mocker.patch("platform.node", return_value="n\udcff\x1b]0;\u202e1")
    mocker.patch.object(facts, "_this_machine", facts._ThisMachine())

    assert host_tags()["sys.hostname"] == "n\N{REPLACEMENT CHARACTER} ]0;1"


@given(text=st.text(st.characters()), max_bytes=st.integers(10, 60))
def test_cleaned_text_is_short_valid_and_prints(text: str, max_bytes: int) -> None:
    cleaned = clean(text, max_bytes)

    assert len(cleaned.encode()) <= max_bytes
    assert all(each.isprintable() or each.isspace() for each in cleaned)
    assert len(cleaned.splitlines()) <= 1
    assert clean(cleaned, max_bytes) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("AMD EPYC  7763", "AMD EPYC  7763"),
        ("caf\udcc3\udca9", "café"),  # of a process whose locale is ASCII
        ("\ud800b", "\ufffd\ufffd\ufffdb"),
        ("a\r\nb\x85c\u2028d\0", "a b c d"),
        ("gpu\u202e4\u2066\u200b", "gpu4"),
        ("\udcff\udcfe \x1b", ""),
        ("one,two,three", "one,two,…"),
        ("é" * 8, "éééé…"),
    ],
)  # fmt: skip
def test_text_is_cleaned_and_cut_at_an_element(text: str, cleaned: str) -> None:
    assert clean(text, 14 if "  " in text else 11) == cleaned


def test_an_error_of_one_fact_leaves_room_for_those_of_others() -> None:
    outcomes = [facts.probes.Outcome({}, f"{name}: \udcff{'x' * 9999}") for name in ("cpu", "gpu")]

    assert facts.tags_of(outcomes)["sysmetrics.error"].count("gpu: \N{REPLACEMENT CHARACTER}") == 1


def test_a_gpu_with_an_odd_name_leaves_the_tag_valid_json() -> None:
    mig = (MigInstance(0, "MIG-1", "1g\udcff"),)
    gpus = [
        Device(n, "T\udcff\n4" + "x" * 999, None, f"GPU-{n:036}", mig_instances=mig)
        for n in range(99)
    ]

    told = json.loads(describe_devices(gpus))

    assert told["all"]["name"].startswith("T\N{REPLACEMENT CHARACTER} 4xx")
    assert told["0"]["uuid"] == f"GPU-{0:036}"


def pod(tmp_path: Path, header: str, **environ: str) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text(f"{header}\n127.0.0.1 localhost\n")
    in_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", **environ}
    return read_kubernetes(Host(tmp_path, "Linux", in_pod))["sys.k8s_pod"]


@pytest.mark.parametrize(
    ("header", "host_name", "name"),
    [
        (OF_A_POD, "trainer-7d9f8b6c5-x2x4k", "trainer-7d9f8b6c5-x2x4k"),
        (IN_THE_NODES_NETWORK, "gpu-pool-7d9f8b6c5-x2x4k", ""),  # the node's
        ("127.0.0.1 localhost", "gpu-pool-7d9f8b6c5-x2x4k", ""),  # not the kubelet's file
        (OF_A_POD, "trainer", ""),  # the spec's
        (OF_A_POD, "trainer-0", ""),  # an indexed job's, whose pods are called trainer-0-x2x4k
        (OF_A_POD, "a" * 57 + "-x2x4k", ""),  # 63 characters: perhaps cut
    ],
)
def test_a_host_name_is_the_pods_name_only_where_that_is_known(
    header: str, host_name: str, name: str, tmp_path: Path
) -> None:
    assert pod(tmp_path, header, HOSTNAME=host_name) == name


def test_the_name_that_the_spec_passes_on_is_the_pods_in_the_nodes_network_too(
    tmp_path: Path,
) -> None:
    assert pod(tmp_path, IN_THE_NODES_NETWORK, POD_NAME="t" * 70, HOSTNAME="node-3") == "t" * 70


@pytest.mark.parametrize(
    ("prefix", "used"),
    [
        ("loader/", "loader/"),
        ("caf\udce9\n/", "caf__/"),
        ("../a//b*/", "a/b_/"),
        ("x" * 999, "x" * 150),
    ],
)
def test_a_prefix_that_mlflow_would_refuse_is_made_one_that_it_takes(
    prefix: str, used: str
) -> None:
    assert ProcessMetricsMonitor(prefix=prefix).prefix == used


@given(text=st.text(st.characters() | st.sampled_from("/.")))
def test_a_key_with_any_prefix_is_one_that_mlflow_takes(text: str) -> None:
    from mlflow.utils.validation import _validate_metric_name  # noqa: PLC0415 - its rule

    _validate_metric_name(f"system/{clean_key(text, 150)}num_processes")


@pytest.mark.usefixtures("store")
def test_a_command_that_is_not_text_can_be_watched() -> None:
    run_id = watch._start_run(None, clean("train --name=caf\udce9"))
    mlflow.end_run()

    tags = mlflow.get_run(run_id).data.tags
    assert tags["mlflow.source.name"] == "train --name=caf\N{REPLACEMENT CHARACTER}"
