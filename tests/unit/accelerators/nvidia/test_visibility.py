from __future__ import annotations

import pytest

from mlflow_sysmetrics.accelerators.inventory import Address, Device, Inventory, MigInstance
from mlflow_sysmetrics.accelerators.nvidia.visibility import (
    order_is_uncertain,
    parse_cuda_visible_devices,
    parse_nvidia_visible_devices,
    visible_devices,
)

GPUS = tuple(
    Device(index, "NVIDIA H100 80GB HBM3", 80 * 10**9, f"GPU-{index}aaa{index}bbb-0000")
    for index in range(4)
)
MIG = (
    Device(
        0,
        "NVIDIA H100 80GB HBM3",
        80 * 10**9,
        "GPU-0aaa-0000",
        in_mig_mode=True,
        mig_instances=(
            MigInstance(0, "MIG-0aaa", "1c.3g.40gb", 2, 0),
            MigInstance(1, "MIG-0bbb", "1c.3g.40gb", 2, 1),
            MigInstance(2, "MIG-0ccc", None, 9, 0),
        ),
    ),
    Device(1, "NVIDIA H100 80GB HBM3", 80 * 10**9, "GPU-1aaa-0000"),
)
ALL = [Address(index) for index in range(4)]


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("0", [0]),
        ("0,1,2,3", [0, 1, 2, 3]),
        ("3,1", [3, 1]),
        (" 2 , 0 ", [2, 0]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("none", []),
        ("0,-1,1", [0]),
        ("0,7,1", [0]),
        ("0,,1", [0]),
        ("2,nonsense,1", [2]),
        ("0,1,0", []),
        ("1gpu,2", [1, 2]),
        ("GPU-2aaa2bbb-0000", [2]),
        ("GPU-2a", [2]),
        ("GPU-3aaa,GPU-1aaa", [3, 1]),
        ("GPU-3aaa,GPU-9", [3]),
        ("GPU-3aaa,0", [3]),
        ("GPU-3aaa,GPU-3a", []),
        ("GPU-", []),  # all begin so
        ("0,GPU-3aaa", [0]),
    ],
)
def test_cudas_variable_is_read_as_cuda_reads_it(text: str, indices: list[int]) -> None:
    assert parse_cuda_visible_devices(text, GPUS) == [Address(index) for index in indices]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("MIG-0bbb", [Address(0, 1)]),
        ("MIG-0bbb,MIG-0aaa", [Address(0, 1), Address(0, 0)]),
        ("MIG-0", []),
        ("MIG-GPU-0aaa-0000/2/1", [Address(0, 1)]),
        ("MIG-GPU-0aaa-0000/9/0,MIG-0aaa", [Address(0, 2), Address(0, 0)]),
        ("MIG-GPU-0aaa-0000/2/7", []),
        ("MIG-0bbb,MIG-GPU-0aaa-0000/2/1", []),  # the same twice
        ("GPU-0aaa", [Address(0)]),
        ("0", [Address(0)]),
    ],
)
def test_an_instance_goes_by_its_uuid(text: str, addresses: list[Address]) -> None:
    assert parse_cuda_visible_devices(text, MIG) == addresses


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", ALL),
        ("all", ALL),
        ("void", ALL),
        ("/var/run/nvidia-container-devices", ALL),
        ("none", []),
        ("GPU-2aaa2bbb-0000", [Address(2)]),
        ("GPU-2aaa2bbb-0000,GPU-1aaa1bbb-0000", [Address(2), Address(1)]),
        ("GPU-of-another-host", ALL),
        ("1,3", [Address(1), Address(3)]),
        ("1:0", [Address(1)]),
        ("4,5,6,7", ALL),  # the host's numbers, and the driver shows no more than these
        ("5", ALL),
    ],
)
def test_the_containers_variable(text: str, addresses: list[Address]) -> None:
    assert parse_nvidia_visible_devices(text, GPUS) == addresses


def test_an_instance_that_a_container_is_given() -> None:
    assert parse_nvidia_visible_devices("MIG-0bbb", MIG) == [Address(0, 1)]


def test_cudas_variable_wins_over_the_containers() -> None:
    environ = {"NVIDIA_VISIBLE_DEVICES": "GPU-2a", "CUDA_VISIBLE_DEVICES": "1"}

    inventory = Inventory("560.35.03", "12.6", GPUS)

    assert visible_devices(environ, inventory) == [Address(1)]
    del environ["CUDA_VISIBLE_DEVICES"]
    assert visible_devices(environ, inventory) == [Address(2)]
    assert visible_devices({}, inventory) == ALL


@pytest.mark.parametrize(
    ("driver", "text", "addresses"),
    [
        ("535.104.05", None, [Address(0, 0)]),
        ("535.104.05", "0", [Address(0, 0)]),
        ("535.104.05", "1,0", [Address(0, 0)]),  # no GPU beside an instance
        ("535.104.05", "1", [Address(1)]),
        ("535.104.05", "MIG-0ccc,MIG-0aaa", [Address(0, 2)]),
        ("570.86.10", None, [Address(0, 0), Address(0, 2), Address(1)]),
        ("570.86.10", "0", [Address(0, 0), Address(0, 2)]),
        ("570.86.10", "MIG-0bbb,MIG-0aaa", [Address(0, 1)]),  # they share a GPU instance
        ("570.86.10", "MIG-0ccc,MIG-0aaa", [Address(0, 2), Address(0, 0)]),
        (None, "GPU-0aaa", [Address(0, 0), Address(0, 2)]),
        ("570.86.10", "", []),
    ],
)
def test_of_instances_cuda_takes_some_only(
    driver: str | None, text: str | None, addresses: list[Address]
) -> None:
    environ = {} if text is None else {"CUDA_VISIBLE_DEVICES": text}

    assert visible_devices(environ, Inventory(driver, None, MIG)) == addresses


def test_instances_of_which_nobody_knows_where_they_are_share_nothing() -> None:
    instances = (MigInstance(0, "MIG-0aaa", None), MigInstance(1, "MIG-0bbb", None))
    gpu = Device(0, "NVIDIA H100", None, "GPU-0", in_mig_mode=True, mig_instances=instances)

    assert visible_devices({}, Inventory(None, None, (gpu,))) == [Address(0, 0), Address(0, 1)]


@pytest.mark.parametrize(
    ("environ", "is_uncertain"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "0"}, True),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, True),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, False),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1"}, False),
        ({"CUDA_VISIBLE_DEVICES": ""}, False),
    ],
)
def test_numbers_are_uncertain_where_models_differ(
    environ: dict[str, str],
    is_uncertain: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    mixed = (*GPUS, Device(4, "Tesla T4", 16 * 10**9, "GPU-4"))

    assert order_is_uncertain(environ, mixed) == is_uncertain
    assert not order_is_uncertain(environ, GPUS)
