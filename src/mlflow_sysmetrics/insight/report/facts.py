"""The facts of a run's host that matter most, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.report.words import duration, point_in_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_sysmetrics.insight.report.model import RunReport


def main_facts(report: RunReport) -> list[tuple[str, str]]:
    """Name and text of each, in the order in which they are shown."""
    return [
        ("Status", report.state),
        ("Started", point_in_time(report.started_s)),
        ("Duration", duration(report.duration_s)),
        *((name, text) for name, text in _of_host(report) if text),
    ]


def _of_host(report: RunReport) -> Iterator[tuple[str, str]]:
    facts = report.facts
    if len(report.views) > 1:
        names = [view.node or "" for view in report.views]
        yield (
            "Nodes",
            ", ".join(
                f"{each} ({report.hosts[each]})" if each in report.hosts else each for each in names
            ),
        )
    yield "Host", facts.get("sys.hostname", "")
    yield "Machine", _joined(facts, " in ", "sys.instance_type", "sys.region")
    yield "CPU", facts.get("sys.cpu", "")
    yield "Cores", _limited(facts, "sys.cpu_cores", "", "sys.cpu_limit")
    yield "Memory", _limited(facts, "sys.memory_gb", " GB", "sys.memory_limit_gb")
    gpus = facts.get("sys.gpu", "")
    yield "GPUs", "none" if gpus == "None" else gpus
    yield "GPU driver", _joined(facts, ", CUDA ", "sys.gpu_driver", "sys.cuda")
    yield "GPU metrics", facts.get("sys.gpu_metrics", "")
    yield "Kubernetes", _joined(facts, ", node ", "sys.k8s_pod", "sys.k8s_node")
    yield "SLURM job", _joined(facts, ", partition ", "sys.slurm_job_id", "sys.slurm_partition")
    yield "Container", facts.get("sys.container", "")
    yield "System", facts.get("sys.os", "")
    yield "Python", facts.get("sys.python", "")


def _joined(facts: Mapping[str, str], between: str, *keys: str) -> str:
    return between.join(facts[key] for key in keys if facts.get(key))


def _limited(facts: Mapping[str, str], key: str, unit: str, limit_key: str) -> str:
    parts = [f"{facts[key]}{unit}"] if key in facts else []
    if limit_key in facts:
        parts.append(f"limit {facts[limit_key]}{unit}")
    return ", ".join(parts)
