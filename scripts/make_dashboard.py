"""Make the Grafana dashboard anew: `grafana/mlflow-sysmetrics.json`.

    python3 scripts/make_dashboard.py

The names of the series come from the catalog, so that scrapes, text files and OTLP have them all.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from _environment import ROOT

sys.path.insert(0, str(ROOT / "src"))  # the checkout's, and not what an environment has installed

from mlflow_sysmetrics.catalog import exported_as, metric_of
from mlflow_sysmetrics.catalog.exported import Kind, prometheus_label
from mlflow_sysmetrics.catalog.exports import RUN_INFO

PATH = ROOT / "grafana" / "mlflow-sysmetrics.json"

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_INFO = RUN_INFO.prometheus_name
_SERIES = 'run_id="$series", node=~"$node"'
_COLUMNS, _HEIGHT = 2, 8
_GRID = 24  # units that Grafana divides a row into
_ALL = {"text": "All", "value": "$__all"}


@dataclass(frozen=True)
class Line:
    """One query of a panel.

    Attributes:
        key: The metric, below `system/`; of a GPU, any GPU's.
        legend: Names its lines; `{{label}}` is that label's value.
    """

    key: str
    legend: str

    @property
    def query(self) -> str:
        """In PromQL; what counters count is shown as a rate."""
        exported = exported_as(metric_of(self.key))
        if exported is None:
            raise ValueError(f"{self.key} is not exported")
        wanted = [_SERIES]
        for name, value in exported.attributes:
            if name == "gpu":
                wanted.append('gpu=~"$gpu"')
            elif name not in {"hw.id", "hw.type"}:
                wanted.append(f'{prometheus_label(name)}="{value}"')
        selected = f"{exported.instrument.prometheus_name}{{{', '.join(wanted)}}}"
        if exported.instrument.kind is Kind.COUNTER:
            return f"rate({selected}[$__rate_interval])"
        return selected


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: Above it.
        unit: Grafana's name of the unit.
        description: Shown at the mark beside the title.
        lines: What it shows.
        limit: Where a dashed line stands that the values should stay below; None for none.
        is_share: Whether it goes from 0 to 1 at least.
    """

    title: str
    unit: str
    description: str
    lines: tuple[Line, ...]
    limit: float | None = None
    is_share: bool = False


_GPU = "GPU {{gpu}}"

PANELS = (
    Panel(
        "GPU utilisation",
        "percentunit",
        "Share of time in which at least one kernel ran.",
        (Line("gpu_0_utilization_percentage", _GPU),),
        is_share=True,
    ),
    Panel(
        "GPU memory",
        "percentunit",
        "GPU memory in use by all processes, as a share of the GPU's memory.",
        (Line("gpu_0_memory_usage_percentage", _GPU),),
        limit=1.0,
        is_share=True,
    ),
    Panel(
        "CPU",
        "percentunit",
        "CPU time of the process tree, as a share of the CPUs that it may use (quota, cpuset, "
        "affinity), and of all of the host's.",
        (
            Line("process/cpu_utilization_percentage", "process tree, of its CPUs"),
            Line("cpu_utilization_percentage", "host"),
        ),
        limit=1.0,
        is_share=True,
    ),
    Panel(
        "Memory",
        "percentunit",
        "Memory in use, as a share of the container's limit and of the host's memory; of the "
        "process tree as a share of whichever holds.",
        (
            Line("container/memory_usage_percentage", "container, of its limit"),
            Line("process/memory_usage_percentage", "process tree, resident"),
            Line("system_memory_usage_percentage", "host"),
        ),
        limit=0.9,
        is_share=True,
    ),
    Panel(
        "Memory of the process tree",
        "bytes",
        "PSS divides shared pages among those who share them; the resident memory counts them for "
        "each.",
        (
            Line("process/memory_pss_megabytes", "PSS"),
            Line("process/memory_rss_megabytes", "resident"),
            Line("process/memory_swap_megabytes", "in swap"),
            Line("container/memory_usage_megabytes", "container"),
        ),
    ),
    Panel(
        "Throttling",
        "percentunit",
        "Scheduling periods in which the container's CPU quota was used up; CPUs that it held "
        "back; time in which the clocks of a GPU were held down.",
        (
            Line("container/cpu_throttled_percentage", "CPU, share of periods"),
            Line("container/cpu_throttled_cores", "CPUs held back"),
            Line("gpu_0/throttled_thermal_percentage", f"{_GPU}, {{{{reason}}}}"),
            Line("gpu_0/throttled_power_percentage", f"{_GPU}, {{{{reason}}}}"),
            Line("gpu_0/throttled_hardware_percentage", f"{_GPU}, {{{{reason}}}}"),
        ),
    ),
    Panel(
        "Pressure",
        "percentunit",
        "Share of time in which some task waited for a CPU, for memory or for I/O (PSI).",
        (
            Line("pressure/cpu_some_percentage", "CPU, host"),
            Line("pressure/memory_some_percentage", "memory, host"),
            Line("pressure/io_some_percentage", "I/O, host"),
            Line("container/pressure_cpu_some_percentage", "CPU, container"),
            Line("container/pressure_memory_some_percentage", "memory, container"),
            Line("container/pressure_io_some_percentage", "I/O, container"),
        ),
        is_share=True,
    ),
    Panel(
        "Processes and threads",
        "short",
        "Of the process tree.",
        (
            Line("process/num_processes", "processes"),
            Line("process/num_threads", "threads"),
        ),
    ),
    Panel(
        "Disk space",
        "percentunit",
        "Space in use, as a share of what users may use.",
        (
            Line("disk_usage_percentage", "root"),
            Line("disk/working_directory_usage_percentage", "working directory"),
        ),
        limit=0.95,
        is_share=True,
    ),
    Panel(
        "Disk",
        "Bps",
        "Read from and written to the host's disks, and by the process tree.",
        (
            Line("disk/read_megabytes_per_second", "read, host"),
            Line("disk/write_megabytes_per_second", "written, host"),
            Line("process/io_read_megabytes", "read, process tree"),
            Line("process/io_write_megabytes", "written, process tree"),
        ),
    ),
    Panel(
        "Network",
        "Bps",
        "Exchanged with other machines.",
        (
            Line("network/receive_megabytes_per_second", "received"),
            Line("network/transmit_megabytes_per_second", "sent"),
        ),
    ),
    Panel(
        "GPU power",
        "watt",
        "Power draw, and the limit in force.",
        (
            Line("gpu_0_power_usage_watts", _GPU),
            Line("gpu_0/power_limit_watts", f"{_GPU}, limit"),
        ),
    ),
    Panel(
        "GPU temperature",
        "celsius",
        "Of the GPU and of its memory.",
        (
            Line("gpu_0/temperature_celsius", _GPU),
            Line("gpu_0/memory_temperature_celsius", f"{_GPU}, memory"),
        ),
    ),
    Panel(
        "GPU memory errors",
        "short",
        "That ECC corrected, and that it could not correct, a second: any of the latter is one too "
        "many.",
        (
            Line("gpu_0/ecc_corrected_errors", f"{_GPU}, corrected"),
            Line("gpu_0/ecc_uncorrected_errors", f"{_GPU}, uncorrected"),
        ),
    ),
)


def main() -> None:
    """Write the dashboard."""
    PATH.write_text(dashboard_text(), encoding="utf-8")


def dashboard_text() -> str:
    """The file's content."""
    return json.dumps(_dashboard(), indent=2) + "\n"


def _dashboard() -> dict[str, Any]:
    return {
        "title": "MLflow runs: system metrics",
        "description": "Live system metrics of MLflow runs, from mlflow-sysmetrics.",
        "tags": ["mlflow"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "links": [_link()],
        "panels": [_run_panel(), *(_panel(number, each) for number, each in enumerate(PANELS))],
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "mlflow",
            "label": "MLflow",
            "description": "Address of MLflow's UI, for links to the run.",
            "type": "textbox",
            "query": "http://localhost:5000",
            "current": {"text": "http://localhost:5000", "value": "http://localhost:5000"},
        },
        _query("experiment", "Experiment", f"label_values({_INFO}, experiment)"),
        {
            **_query("run", "Run", f'query_result({_INFO}{{experiment="$experiment"}})'),
            # Prometheus gives labels in their order; a name may have quotes.
            "regex": r'/run_id="(?<value>[^"]+)",run_name="(?<text>.*)",series_run_id=/',
        },
        {
            # Of nested runs the outermost has the series of the host and of the process tree.
            **_query("series", "", f'label_values({_INFO}{{run_id="$run"}}, series_run_id)'),
            "hide": 2,
        },
        _query_of_all("node", "Node", f'label_values({_INFO}{{run_id="$run"}}, node)'),
        _query_of_all("gpu", "GPU", f"label_values(hw_gpu_utilization_ratio{{{_SERIES}}}, gpu)"),
    ]


def _query(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
    }


def _query_of_all(name: str, label: str, query: str) -> dict[str, Any]:
    several = {"multi": True, "includeAll": True, "allValue": ".*", "current": _ALL}
    return {**_query(name, label, query), **several}


def _link() -> dict[str, Any]:
    return {
        "title": "Run in MLflow",
        "type": "link",
        "icon": "external link",
        "url": "${mlflow}/#/runs/${run}",
        "targetBlank": True,
    }


def _run_panel() -> dict[str, Any]:
    """The run's names, as a table."""
    hidden = ("Time", "Value", "__name__", "instance", "job", "series_run_id")
    return {
        "id": 1,
        "title": "Run",
        "type": "table",
        "datasource": _DATASOURCE,
        "gridPos": {"x": 0, "y": 0, "w": _GRID, "h": 4},
        "targets": [
            {
                "refId": "A",
                "datasource": _DATASOURCE,
                "expr": f'{_INFO}{{run_id="$run", node=~"$node"}}',
                "format": "table",
                "instant": True,
            }
        ],
        "transformations": [
            {"id": "organize", "options": {"excludeByName": dict.fromkeys(hidden, True)}}
        ],
        "fieldConfig": {
            "defaults": {},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": "run_id"},
                    "properties": [
                        {
                            "id": "links",
                            "value": [
                                {
                                    "title": "Run in MLflow",
                                    "url": "${mlflow}/#/runs/${__value.raw}",
                                    "targetBlank": True,
                                }
                            ],
                        }
                    ],
                }
            ],
        },
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    width = _GRID // _COLUMNS
    return {
        "id": number + 2,
        "title": panel.title,
        "description": panel.description,
        "type": "timeseries",
        "datasource": _DATASOURCE,
        "gridPos": {"x": column * width, "y": 4 + row * _HEIGHT, "w": width, "h": _HEIGHT},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _DATASOURCE,
                "expr": line.query,
                "legendFormat": f"{line.legend}, node {{{{node}}}}",
            }
            for place, line in enumerate(panel.lines)
        ],
        "fieldConfig": {"defaults": _look(panel), "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _look(panel: Panel) -> dict[str, Any]:
    look: dict[str, Any] = {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}}
    if panel.is_share:
        look["custom"]["axisSoftMax"] = 1
    if panel.limit is not None:
        look["custom"]["thresholdsStyle"] = {"mode": "dashed"}
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}]
        look["thresholds"] = {"mode": "absolute", "steps": steps}
    return look


if __name__ == "__main__":
    main()
