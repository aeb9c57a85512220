from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks are for Linux")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_what_sampling_gpus_costs_is_told() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu_cost.py", "--quick", "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )

    found = json.loads(done.stdout)
    described, *_real = found["results"]

    assert found["machine"].keys() >= {"cpu", "kernel", "python", "nvidia-ml-py"}
    assert described["gpus"] == "8 simulated H100"
    assert 0 < described["calls"] <= 8 * 13
    assert described["readings"] > 8 * 20
    assert described["own_cpu_ms"] > 0


def test_what_a_sample_costs_is_measured_side_by_side() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "sampling_cost.py", "--quick", "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )

    report = json.loads(done.stdout)

    assert report["machine"].keys() >= {"cpu", "kernel", "python", "mlflow", "psutil"}
    for result in report["results"]:
        assert min(result["median_ms"].values()) > 0, result["title"]
        assert result["values"]["bare"] > 5, "the files that a sample reads were not seen"
        assert result["values"]["ours"] > 2 * result["values"]["mlflow"]


def test_what_faults_cost_is_counted_in_the_store() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "faults.py", "--quick", "--only", "outage", "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )

    (result,) = json.loads(done.stdout)["results"].values()

    assert 0 < result["ours"]["once"] <= result["ours"]["due"]
    assert result["ours"]["lost"] + result["ours"]["stored"] >= result["ours"]["due"]
    assert result["ours"]["twice"] == 0
    assert result["without"]["stored"] == 0
    assert result["mlflow"]["stored"] > 0
