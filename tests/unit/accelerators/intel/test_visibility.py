from __future__ import annotations

import pytest

from mlflow_sysmetrics.accelerators.intel.visibility import visible_devices

COMPOSITE = {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}


@pytest.mark.parametrize(
    ("environ", "visible"),
    [
        ({}, (0, 1, 2)),
        ({"ZE_AFFINITY_MASK": ""}, (0, 1, 2)),
        ({"ZE_AFFINITY_MASK": "2,0"}, (0, 2)),
        ({"ZE_AFFINITY_MASK": "1.0"}, (1,)),
        ({"ZE_AFFINITY_MASK": "7"}, ()),
        ({"ZE_AFFINITY_MASK": "default"}, (0, 1, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:0"}, (0,)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:1,2"}, (1, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:0;level_zero:2"}, (0, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:1.0"}, (1,)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:gpu"}, (0, 1, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "*:gpu"}, (0, 1, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:*;!level_zero:1"}, (0, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "!level_zero:0"}, (1, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "opencl:cpu;LEVEL_ZERO:2"}, (2,)),
        ({"ONEAPI_DEVICE_SELECTOR": "opencl:0"}, (0, 1, 2)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:9"}, ()),
        ({"ONEAPI_DEVICE_SELECTOR": "rubbish;;:"}, (0, 1, 2)),
        ({"ZE_AFFINITY_MASK": "1,2", "ONEAPI_DEVICE_SELECTOR": "level_zero:0"}, (1,)),
    ],
)
def test_what_level_zero_shows_of_gpus_with_one_tile(
    environ: dict[str, str], visible: tuple[int, ...]
) -> None:
    assert visible_devices(environ, (1, 1, 1)) == visible


@pytest.mark.parametrize(
    ("environ", "visible"),
    [
        ({"ZE_AFFINITY_MASK": "1"}, (0,)),
        ({"ZE_AFFINITY_MASK": "2"}, (1,)),
        ({"ZE_AFFINITY_MASK": "1", **COMPOSITE}, (1,)),
        ({"ZE_AFFINITY_MASK": "1.1", **COMPOSITE}, (1,)),
        ({"ONEAPI_DEVICE_SELECTOR": "level_zero:3"}, (1,)),
    ],
)
def test_tiles_are_devices_of_their_own_unless_composite(
    environ: dict[str, str], visible: tuple[int, ...]
) -> None:
    assert visible_devices(environ, (2, 2)) == visible
