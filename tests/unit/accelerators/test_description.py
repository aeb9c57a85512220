from __future__ import annotations

import json

import pytest

from mlflow_sysmetrics.accelerators.description import describe_devices
from mlflow_sysmetrics.accelerators.inventory import Device, MigInstance
from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH


def _device(index: int, name: str = "NVIDIA H100 80GB HBM3") -> Device:
    return Device(
        index,
        name,
        85_520_809_984,
        uuid=f"GPU-{index:08x}-d72c-4106-c12f-20bd9faed9f6",
        pci_id=f"00000000:{16 + 3 * index:02X}:00.0",
        compute_capability="9.0",
        power_limit_watts=700.0,
    )


def test_one_gpu_has_all_of_its_own() -> None:
    assert json.loads(describe_devices([_device(3)])) == {
        "3": {
            "uuid": "GPU-00000003-d72c-4106-c12f-20bd9faed9f6",
            "name": "NVIDIA H100 80GB HBM3",
            "pci": "19:00.0",
            "memory_gb": 85.52,
            "compute_capability": "9.0",
            "power_limit_watts": 700.0,
        }
    }


def test_what_is_the_same_for_all_stands_once() -> None:
    told = json.loads(describe_devices([_device(0), _device(1)]))

    assert told["all"]["name"] == "NVIDIA H100 80GB HBM3"
    assert told["1"] == {"uuid": "GPU-00000001-d72c-4106-c12f-20bd9faed9f6", "pci": "13:00.0"}


def test_eight_gpus_keep_all() -> None:
    told = json.loads(describe_devices([_device(index) for index in range(8)]))

    assert told["all"].keys() == {"name", "memory_gb", "compute_capability", "power_limit_watts"}
    assert told["7"] == {"uuid": "GPU-00000007-d72c-4106-c12f-20bd9faed9f6", "pci": "25:00.0"}


def test_mixed_models_keep_what_distinguishes_them() -> None:
    devices = [_device(index, f"NVIDIA Model {index}") for index in range(5)]

    told = json.loads(describe_devices(devices))

    assert [told[str(index)]["name"] for index in range(5)] == [each.name for each in devices]
    assert all(told[str(index)].keys() == {"uuid", "name", "pci"} for index in range(5))


@pytest.mark.parametrize("count", [1, 2, 4, 8, 9, 10, 16, 24, 32, 64])
def test_the_tag_is_json_that_fits_whatever_there_is(count: int) -> None:
    for name in ("NVIDIA H100 80GB HBM3", "x" * 600):
        text = describe_devices([_device(index, name) for index in range(count)])

        assert len(text) <= MAX_TAG_LENGTH
        told = json.loads(text)
        assert told["0"]["uuid"].startswith("GPU-00000000")


def test_sixteen_gpus_are_all_there() -> None:
    told = json.loads(describe_devices([_device(index) for index in range(16)]))

    assert told.keys() - {"all"} == {str(index) for index in range(16)}


def test_instances_are_identified_by_their_numbers() -> None:
    instances = (MigInstance(0, "MIG-1", "1g.10gb"), MigInstance(2, "MIG-2", "3g.40gb"))
    device = Device(0, "A100", None, "GPU-1", in_mig_mode=True, mig_instances=instances)

    assert json.loads(describe_devices([device]))["0"]["mig"] == {"0": "1g.10gb", "2": "3g.40gb"}


@pytest.mark.parametrize(
    ("pci_id", "short"),
    [("00000000:1B:00.0", "1b:00.0"), ("0000000F:01:00.0", "000f:01:00.0")],
)
def test_a_pci_id_is_as_lspci_shows_it(pci_id: str, short: str) -> None:
    assert (
        json.loads(describe_devices([Device(0, "GB10", None, "GPU-1", pci_id)]))["0"]["pci"]
        == short
    )


def test_devices_of_which_only_the_name_is_known_have_no_such_tag() -> None:
    assert describe_devices([Device(0, "Apple M3", None, None)]) == ""
    assert describe_devices([]) == ""
