"""Why a run has no system metrics: said once where nobody samples it, and what to do."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from mlflow_sysmetrics.cli.launchers import advice_for

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),  # MLflow's own
]

BEGIN = """
import os, time
import mlflow, mlflow_sysmetrics
from mlflow import MlflowClient
client = MlflowClient()

def create_run(**arguments):
    return client.create_run("0", **arguments).info.run_id
"""

AS_TUNES_CALLBACK_DOES = """
for _ in range(2):
    run_id = create_run(run_name="trial", tags={"trial_name": "trial"})
    client.log_metric(run_id, "loss", 1.0)
    time.sleep(1.2)
    client.set_terminated(run_id=run_id, status="FINISHED")
"""

SAMPLED_OR_NOT_FOR_US = {
    "sampled by monitor": """
run_id = create_run()
with mlflow_sysmetrics.monitor(run_id):
    time.sleep(1.2)
client.set_terminated(run_id)
""",
    "taken up by start_run": """
run_id = create_run()
with mlflow.start_run(run_id=run_id):
    time.sleep(1.2)
client.set_terminated(run_id)
""",
    "sampled by another process": """
import subprocess, sys
run_id = create_run()
script = "import mlflow, time\\nwith mlflow.start_run(): time.sleep(1.5)"
subprocess.run([sys.executable, "-c", script], env={**os.environ, "MLFLOW_RUN_ID": run_id})
client.set_terminated(run_id)
""",
    "with context tags, as Lightning's": """
from mlflow.tracking.context.registry import resolve_tags
run_id = create_run(tags=resolve_tags())
time.sleep(1.2)
client.set_terminated(run_id)
""",
    "imported, with its own times": """
run_id = create_run(start_time=1_700_000_000_000)
time.sleep(1.2)
client.set_terminated(run_id, end_time=1_700_000_060_000)
""",
    "over at once": """
client.set_terminated(create_run())
""",
    "of MLflow itself": """
with mlflow.start_run():
    with mlflow.start_run(nested=True):
        time.sleep(1.2)
mlflow.log_metric("loss", 1.0)
mlflow.end_run()
""",
    "while sysmonitor is off": """
os.environ["MLFLOW_RUN_CONTEXT_PROVIDER"] = "sysmetrics"
run_id = create_run()
time.sleep(1.2)
client.set_terminated(run_id)
os.environ["MLFLOW_RUN_CONTEXT_PROVIDER"] = "sysmetrics,sysmonitor"
""",
    "while system metrics are off": """
mlflow.disable_system_metrics_logging()
run_id = create_run()
time.sleep(1.2)
client.set_terminated(run_id)
""",
}


class Scripts:
    """Runs scripts that use a store of their own."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
        self._folder = folder
        self._uri = f"sqlite:///{folder}/mlflow.db"

    def warnings_of(self, *command: str) -> list[str]:
        """What the plugin says while a command runs."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
        ours = {
            "MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor",
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
            "MLFLOW_TRACKING_URI": self._uri,
            "MLFLOW_SYSMETRICS_SPOOL_DIR": str(self._folder / "spool"),
        }
        done = subprocess.run(command, env=kept | ours, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stderr.splitlines() if line.startswith("mlflow-sysmetrics:")]

    def runs(self) -> list[Run]:
        return list(MlflowClient(self._uri).search_runs(["0"]))


@pytest.fixture
def scripts(tmp_path: Path, empty_database: Path) -> Scripts:
    return Scripts(tmp_path, empty_database)


def has_system_metrics(run: Run) -> bool:
    return any(key.startswith("system/") for key in run.data.metrics)


def test_runs_as_tunes_callback_creates_them_are_mentioned_once_with_the_remedy(
    scripts: Scripts,
) -> None:
    (said,) = scripts.warnings_of(sys.executable, "-c", BEGIN + AS_TUNES_CALLBACK_DOES)

    first, second = sorted(scripts.runs(), key=lambda run: run.info.start_time)
    assert f"run {first.info.run_id} has no system metrics" in said
    assert "mlflow_sysmetrics.monitor(run_id)" in said
    assert not has_system_metrics(first)
    assert not has_system_metrics(second)


def test_nothing_is_said_of_a_run_that_is_sampled_or_not_ours_to_sample(scripts: Scripts) -> None:
    cases = (f"case = {case!r}\n{script}" for case, script in SAMPLED_OR_NOT_FOR_US.items())
    begin = BEGIN.replace('create_run("0", ', 'create_run("0", run_name=case, ')
    script = begin + "".join(cases)
    warnings = scripts.warnings_of(sys.executable, "-c", script)

    names = {run.info.run_id: run.info.run_name for run in scripts.runs()}
    assert [name for run_id, name in names.items() if run_id in "".join(warnings)] == []
    assert warnings == []
    assert {*names.values()} >= SAMPLED_OR_NOT_FOR_US.keys() - {"of MLflow itself"}


AS_LIGHTNINGS_LOGGER_DOES = f"""
{BEGIN}
from mlflow.tracking.context.registry import resolve_tags
run_id = create_run(tags=resolve_tags())
client.log_metric(run_id, "loss", 1.0)
time.sleep(1.5)
client.set_terminated(run_id)
"""

IN_THE_WATCHED_RUN = f"""
{BEGIN}
client.log_metric(os.environ["MLFLOW_RUN_ID"], "loss", 1.0)
time.sleep(1.5)
"""

WATCH = "from mlflow_sysmetrics.cli.main import main; main(prog_name='mlflow-sysmetrics')"


def test_a_logger_that_opens_its_own_run_in_a_watched_command_has_metrics_there_and_is_told(
    scripts: Scripts,
) -> None:
    command = (sys.executable, "-c", AS_LIGHTNINGS_LOGGER_DOES)
    (said,) = scripts.warnings_of(sys.executable, "-c", WATCH, "watch", "--", *command)

    runs = scripts.runs()
    assert [has_system_metrics(run) for run in runs] == [True, True]
    (logged,) = (run for run in runs if "loss" in run.data.metrics)
    assert f"a logger has opened run {logged.info.run_id}" in said
    assert 'MLFlowLogger(run_id=os.environ["MLFLOW_RUN_ID"])' in said


def test_one_that_is_given_the_watched_run_has_all_in_one(scripts: Scripts) -> None:
    command = (sys.executable, "-c", IN_THE_WATCHED_RUN)
    assert scripts.warnings_of(sys.executable, "-c", WATCH, "watch", "--", *command) == []

    (run,) = scripts.runs()
    assert has_system_metrics(run)
    assert "loss" in run.data.metrics


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ("srun -n 4 python train.py", "srun OPTIONS mlflow-sysmetrics watch -- COMMAND"),
        ("/usr/bin/srun python train.py", "srun OPTIONS mlflow-sysmetrics watch -- COMMAND"),
        ("env A=1 nohup srun python train.py", "srun OPTIONS"),
        ("A=1 srun python train.py", "srun OPTIONS"),
        ("bash -c 'srun python train.py'", "srun OPTIONS"),
        ("sbatch job.sh", "into the script"),
        ("ssh node-2 python train.py", "ssh HOST mlflow-sysmetrics watch"),
        ("ray job submit -- python train.py", "ray job submit OPTIONS -- mlflow-sysmetrics"),
        ("kubectl -n team run x --image y", "kubectl run OPTIONS --"),
        ("docker run --gpus all image python train.py", "docker run OPTIONS IMAGE"),
        ("mpirun -H a,b -n 2 python train.py", "mpirun OPTIONS mlflow-sysmetrics watch --run-id"),
        ("torchrun --nnodes=2 train.py", "mlflow-sysmetrics watch --run-id RUN_ID -- torchrun"),
        ("torchrun --nnodes 1:4 train.py", "MLFLOW_SYSTEM_METRICS_NODE_ID"),
        ("python -m torch.distributed.run --nnodes 2 train.py", "MLFLOW_SYSTEM_METRICS_NODE_ID"),
    ],
)
def test_a_watched_command_that_works_elsewhere_is_told_what_to_write(
    command: str, instead: str
) -> None:
    advice = advice_for(shlex.split(command), {})

    assert advice is not None
    assert instead in advice


@pytest.mark.parametrize(
    "command",
    [
        "python train.py",
        "python srun.py srun",
        "torchrun --nproc-per-node=8 train.py --nnodes-of-model=2",
        "torchrun --nnodes=1 train.py",
        "mpirun -n 4 python train.py",
        "bash job.sh",
        "ray start",
        "docker ps",
        "env",
        "",
    ],
)
def test_one_that_works_in_its_own_tree_is_told_nothing(command: str) -> None:
    assert advice_for(shlex.split(command), {}) is None


def test_mpirun_in_a_job_of_several_nodes_is_told() -> None:
    assert advice_for(["mpirun", "python", "train.py"], {"SLURM_NNODES": "2"}) is not None


def test_a_shell_command_that_is_none_is_told_nothing() -> None:
    assert advice_for(["bash", "-c", "srun 'python"], {}) is None
