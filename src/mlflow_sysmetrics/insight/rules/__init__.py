"""The rules, one subject a file; `RULES` lists them."""

from __future__ import annotations

from mlflow_sysmetrics.insight.finding import Rule
from mlflow_sysmetrics.insight.rules import bound, disk, gpu, memory

RULES: tuple[Rule, ...] = (
    Rule("oom-killed", memory.oom_killed, is_live=True, is_of_host=True),
    Rule("ecc-errors", gpu.ecc_errors, is_live=True, is_of_host=True),
    Rule("disk-nearly-full", disk.disk_nearly_full, is_live=True, is_of_host=True),
    Rule("oom-forecast", memory.oom_forecast, is_live=True, is_of_host=True, is_of_tree=True),
    Rule("gpu-unused", gpu.gpu_unused, is_live=True, is_of_tree=True),
    Rule("gpu-idle", gpu.gpu_idle, is_of_tree=True),
    Rule("gpu-low", gpu.gpu_low, is_of_tree=True),
    Rule("gpu-thermal", gpu.gpu_thermal, is_live=True, is_of_host=True),
    Rule("cpu-bound-input", bound.cpu_bound_input, is_of_tree=True),
    Rule("single-core", bound.single_core, is_of_tree=True),
    Rule("io-bound", bound.io_bound, is_of_tree=True),
    Rule("cpu-throttled", bound.cpu_throttled, is_of_tree=True),
    Rule("memory-leak", memory.memory_leak, is_of_tree=True),
    Rule("memory-near-limit", memory.memory_near_limit, is_of_tree=True),
    Rule("swap-used", memory.swap_used, is_of_tree=True),
    Rule("fd-leak", memory.descriptors_leak, is_of_tree=True),
    Rule("rank-imbalance", gpu.rank_imbalance, is_of_tree=True),
    Rule("cpu-overprovisioned", bound.cpu_overprovisioned, is_of_tree=True),
    Rule("memory-overprovisioned", memory.memory_overprovisioned, is_of_tree=True),
)
"""All rules, in the order in which the reference shows them."""
