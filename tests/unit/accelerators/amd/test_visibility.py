from __future__ import annotations

import pytest

from mlflow_sysmetrics.accelerators.amd.visibility import visible_devices

IDS = ("GPU-bababababababaaa", "GPU-bababababababbbb", None, "GPU-abbaabbaabbaabba")


@pytest.mark.parametrize(
    ("environ", "visible"),
    [
        ({}, (0, 1, 2, 3)),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, (2, 0)),
        ({"HIP_VISIBLE_DEVICES": " 1 , 3 "}, (1, 3)),
        ({"HIP_VISIBLE_DEVICES": "1,1,2"}, (1, 2)),
        ({"HIP_VISIBLE_DEVICES": "-1"}, ()),
        ({"HIP_VISIBLE_DEVICES": "0,-1,1"}, (0,)),
        ({"HIP_VISIBLE_DEVICES": "0,9,1"}, (0,)),
        ({"HIP_VISIBLE_DEVICES": "none"}, ()),
        ({"HIP_VISIBLE_DEVICES": ""}, (0, 1, 2, 3)),
        ({"HIP_VISIBLE_DEVICES": "0,"}, (0,)),
        ({"HIP_VISIBLE_DEVICES": "²"}, ()),
        ({"HIP_VISIBLE_DEVICES": "9" * 5000}, ()),
        ({"CUDA_VISIBLE_DEVICES": "3"}, (3,)),
        ({"CUDA_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": "1"}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": ""}, (3,)),
        ({"ROCR_VISIBLE_DEVICES": ""}, ()),
        ({"ROCR_VISIBLE_DEVICES": "-1"}, ()),
        ({"ROCR_VISIBLE_DEVICES": "3,1"}, (3, 1)),
        ({"ROCR_VISIBLE_DEVICES": "GPU-ABBAABBAABBAABBA"}, (3,)),
        ({"ROCR_VISIBLE_DEVICES": "gpu-abba,0"}, (3, 0)),
        ({"ROCR_VISIBLE_DEVICES": "GPU-baba"}, ()),  # of two GPUs
        ({"ROCR_VISIBLE_DEVICES": "GPU-"}, ()),
        ({"ROCR_VISIBLE_DEVICES": "0,GPU-DEADBEEFDEADBEEF,1"}, (0,)),
        ({"ROCR_VISIBLE_DEVICES": "3,1", "HIP_VISIBLE_DEVICES": "1"}, (1,)),
        ({"ROCR_VISIBLE_DEVICES": "3,0", "HIP_VISIBLE_DEVICES": "0"}, (3,)),
        ({"ROCR_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": "1"}, ()),
        ({"ROCR_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": "GPU-abba"}, (3,)),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "GPU-abba"}, ()),
    ],
)
def test_what_rocm_shows(environ: dict[str, str], visible: tuple[int, ...]) -> None:
    assert visible_devices(environ, IDS) == visible


def test_a_host_without_gpus_shows_none() -> None:
    assert visible_devices({"HIP_VISIBLE_DEVICES": "0"}, ()) == ()
