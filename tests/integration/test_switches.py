"""Each way to turn system metrics on or off keeps its meaning, also after `import mlflow`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from integration.launcher import SCRIPTS, Launcher, Observation

if TYPE_CHECKING:
    from pathlib import Path

NOBODY, OURS, MLFLOWS = "nobody", "the plugin", "MLflow's own monitor"


@pytest.fixture(scope="module")
def played(
    tmp_path_factory: pytest.TempPathFactory, plugin: Path, empty_database: Path
) -> dict[str, Any]:
    """What each way led to; nothing was switched on when the script imported MLflow."""
    folder = tmp_path_factory.mktemp("switches")
    shutil.copy(empty_database, folder / "mlflow.db")
    launcher = Launcher(plugin, folder, f"sqlite:///{folder}/mlflow.db")
    return launcher.run(SCRIPTS / "switches.py", providers=None).told()


@pytest.mark.parametrize(
    ("way", "sampled_by", "tagged"),
    [
        ("neither", NOBODY, False),
        ("both", OURS, True),
        ("both_with_spaces", OURS, True),
        ("only_sysmetrics", NOBODY, True),
        ("only_sysmonitor", OURS, False),
        ("variable_false", NOBODY, True),
        ("variable_true", OURS, True),
        ("variable_true_without_sysmonitor", MLFLOWS, True),
        ("variable_true_and_neither", MLFLOWS, False),
        ("disabled_by_call", NOBODY, True),
        ("enabled_by_call", OURS, True),
        ("enabled_by_call_without_sysmonitor", MLFLOWS, False),
        ("argument_true_wins", OURS, True),
        ("argument_false_wins", NOBODY, True),
        ("argument_true_without_sysmonitor", MLFLOWS, False),
        ("argument_true_for_a_resumed_run", OURS, True),
        ("switched_off_again", NOBODY, False),
    ],
)
def test_who_samples(played: dict[str, Any], way: str, sampled_by: str, tagged: bool) -> None:  # noqa: FBT001 - a column of the table
    observation = Observation.from_json(played[way])

    assert observation.mlflow_sampled == (sampled_by is MLFLOWS)
    assert observation.samplers == (1 if sampled_by is OURS else 0)
    assert observation.threads_left == []
    assert bool(observation.run.system) == (sampled_by is not NOBODY)
    assert ("process/num_threads" in observation.run.system) == (sampled_by is OURS)
    assert observation.run.has_host_tags == tagged
    assert observation.run.status == "FINISHED"
