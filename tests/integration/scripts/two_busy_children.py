"""A command with two children that burn; it tells how busy the tree was while it lived."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from observation import tell

LASTS_S = 3.0

began_s = time.perf_counter()
burn = [sys.executable, "-c", f"from observation import burn; burn({LASTS_S})"]
children = [subprocess.Popen(burn) for _ in range(2)]
for child in children:
    child.wait()
used = os.times()
used_s = used.user + used.system + used.children_user + used.children_system
tell(100 * used_s / (time.perf_counter() - began_s))
