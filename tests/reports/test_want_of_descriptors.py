"""A process that has used up its descriptors, or threads, when a run opens."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX's")

SCRIPT = """
import json, os, resource, sys, time
from mlflow_sysmetrics import facts
from mlflow_sysmetrics.host.clock import Clock
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling import runners
from mlflow_sysmetrics.sampling.runners import CollectorSet

class Later(Clock):
    skipped_s = 0.0
    def now_s(self):
        return super().now_s() + self.skipped_s

def keys_of(collectors):
    clock.skipped_s += 50.0  # so that PSS is due however dear it was
    return sorted({name for readings in collectors.collect() for name in readings.values})

runners.PATIENCE_S = 30.0
is_loaded = sys.argv[1] == "loaded"
clock = Later()
collectors = CollectorSet(Host(clock=clock))
if is_loaded:
    collectors.load()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
short = keys_of(collectors)
tags_short = facts.host_tags()
for descriptor in taken:
    os.close(descriptor)
keys_of(collectors)
later = keys_of(collectors)
tags = facts.host_tags()
healthy = CollectorSet(Host(clock=clock))
keys_of(healthy)
keys_of(healthy)
print(json.dumps({
    "short": short,
    "later": later,
    "healthy": keys_of(healthy),
    "absent": collectors.states == healthy.states,
    "tags": sorted(tags),
    "tags_short": sorted(tags_short),
    "healthy_tags": sorted(facts.tags_of(
        facts.probes.read_fact(fact, Host()) for fact in facts.FACTS
    )),
}))
"""


@pytest.mark.parametrize("when", ["loaded", "not loaded"])
def test_all_metrics_and_tags_come_back_once_descriptors_are_free_again(
    when: str, tmp_path: Path
) -> None:
    """Whether the collectors' modules were imported before, or could not be."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, when],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )

    seen = json.loads(done.stdout)
    assert len(seen["short"]) < len(seen["healthy"])  # else nothing was tried
    assert seen["later"] == seen["healthy"]
    assert seen["absent"]
    assert seen["tags"] == seen["healthy_tags"]
    assert done.stderr.count("process_tree") <= 1
