"""Take the pictures of the documentation; scripts/pictures.py runs this where it has all it needs.

python scripts/take_pictures.py FOLDER
"""

from __future__ import annotations

import argparse
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT  # the console's default, to be changed a little
from rich.console import Console
from rich.text import Text

from mlflow_ui import MlflowUi

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SCRIPTS = Path(__file__).parent
_EXPERIMENT = "digits"
_LONG_S, _SHORT_S = 60, 5
_COLUMNS = ("sys.cpu", "sys.cpu_limit", "sys.memory_gb", "sys.gpu", "sys.os")
_CHARTS = "process/(cpu_u|memory_(rss|usage)|num_[fp])"

_FACE = "workflowType=machine_learning"
"""The UI of newer versions has two faces; the other one is for language models."""

_ENVIRON = os.environ | {
    "MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor",
    "MLFLOW_EXPERIMENT_NAME": _EXPERIMENT,
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
    # A picture is for everybody: it names no machine.
    "MLFLOW_SYSMETRICS_EXCLUDE_TAGS": "sys.hostname,sys.kernel,sys.platform",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PYTHONIOENCODING": "utf-8",
}


def main() -> None:
    """Take all of them."""
    parser = argparse.ArgumentParser(description="Take the pictures of the documentation.")
    parser.add_argument("folder", type=Path, help="where to")
    parser.add_argument(
        "--store",
        metavar="URI",
        help="only take the pictures of what is in a store: trainings of five minutes or more in "
        "its experiment `findings`, and one on two hosts in `two-nodes`",
    )
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    if options.store is not None:
        with tempfile.TemporaryDirectory() as work, _server(Path(work), options.store) as address:
            _photograph_findings(address, folder)
            _photograph_nodes(address, folder)
        return
    with tempfile.TemporaryDirectory() as work, _server(Path(work)) as address:
        environ = _ENVIRON | {"MLFLOW_TRACKING_URI": address}
        _train(work, environ)
        _photograph(address, folder)
        for name, command in _commands().items():
            output = subprocess.run(
                command, cwd=work, env=environ, capture_output=True, text=True, check=True
            ).stdout
            typed = " ".join(command).replace(f"{_SCRIPTS}/", "scripts/")
            typed = typed.replace(f"{Path(sys.executable).parent}/", "")
            _keep(folder / f"{name}.svg", terminal(typed, output).encode())


def terminal(command: str, output: str) -> str:
    """A terminal in which a command has printed something, as SVG."""
    lines = output.rstrip().splitlines()
    console = Console(record=True, file=io.StringIO(), width=max(map(len, lines)) + 1)
    console.print(Text(f"$ {command}\n", style="bold"))
    console.print(Text("\n".join(lines)))
    # Without fonts from the internet, and with ids that stay the same from one time to the next.
    svg_format = re.sub(r"@font-face \{\{.*?\n    \}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="", code_format=svg_format, unique_id="terminal")


def _commands() -> dict[str, Sequence[str]]:
    doctor = Path(sys.executable).with_name("mlflow-sysmetrics")
    return {
        "doctor": [str(doctor), "doctor"],
        "debug-run": [sys.executable, f"{_SCRIPTS}/debug_run.py"],
    }


def _train(work: str, environ: dict[str, str]) -> None:
    """A run long enough for charts, a short one, and one that may use a single CPU."""
    script = str(_SCRIPTS / "train_example.py")
    train = [sys.executable, script, "--seconds"]
    for command in (
        [*train, f"{_LONG_S}"],
        [*train, f"{_SHORT_S}"],
        ["taskset", "--cpu-list", "0", *train, f"{_SHORT_S}"],
    ):
        subprocess.run(command, cwd=work, env=environ, check=True)


def _photograph(address: str, folder: Path) -> None:
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    assert experiment is not None  # noqa: S101 - for the type checker; there was a training
    (first,) = client.search_runs(
        [experiment.experiment_id], order_by=["attributes.start_time"], max_results=1
    )
    runs = f"experiments/{experiment.experiment_id}/runs"
    with MlflowUi(address) as ui:
        ui.open(f"{runs}?{_FACE}", _EXPERIMENT)
        ui.show_columns(*_COLUMNS)
        ui.resize(1400, 560)
        _keep(folder / "runs.png", _small(ui.picture()))
        ui.resize(1400, 1100)
        ui.open(f"{runs}/{first.info.run_id}/system-metrics?{_FACE}", "system/process")
        ui.wait_for_charts(1)
        ui.search_charts(_CHARTS)
        ui.wait_for_charts(6)
        _keep(folder / "system-metrics.png", _small(ui.picture()))


def _photograph_findings(address: str, folder: Path) -> None:
    """The table of runs, those with most findings first."""
    experiment = MlflowClient(address).get_experiment_by_name("findings")
    if experiment is None:
        return
    by = quote("metrics.`system/summary/findings`", safe="")
    with MlflowUi(address) as ui:
        ui.resize(1500, 780)
        ui.open(
            f"experiments/{experiment.experiment_id}/runs?{_FACE}&orderByKey={by}&orderByAsc=false",
            "system/summary/findings",
        )
        ui.show_columns(
            "sys.findings",
            "system/summary/findings",
            "system/summary/process_memory_pss_megabytes_max",
        )
        _keep(folder / "findings.png", _small(ui.picture()))


def _photograph_nodes(address: str, folder: Path) -> None:
    """The charts of the newest run on two hosts."""
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("two-nodes")
    if experiment is None:
        return
    run = client.search_runs([experiment.experiment_id], max_results=1)[0]
    page = f"experiments/{experiment.experiment_id}/runs/{run.info.run_id}/system-metrics?{_FACE}"
    with MlflowUi(address) as ui:
        ui.resize(1400, 1100)
        ui.open(page, "system/node_")
        ui.wait_for_charts(1)
        ui.search_charts("node_[01]/process/(cpu_utilization|memory_rss|num_p)")
        ui.wait_for_charts(6)
        _keep(folder / "two-nodes.png", _small(ui.picture()))


def _small(png: bytes) -> bytes:
    """The same picture in 256 colours, which the UI's few shades do not miss."""
    small = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _keep(path: Path, picture: bytes) -> None:
    path.write_bytes(picture)
    print(f"{path.name}: {len(picture) / 1000:.0f} kB", flush=True)


@contextmanager
def _server(work: Path, store: str | None = None) -> Iterator[str]:
    """MLflow's server on a store, by default SQLite of its own; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", store or f"sqlite:///{work}/mlflow.db"]
    command += ["--artifacts-destination", str(work / "artifacts")]
    address = f"http://127.0.0.1:{port}"
    with (work / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=work, stdout=log, stderr=log)
    try:
        _wait_for(f"{address}/health", server)
        yield address
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - our own
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit("the MLflow server did not start")


if __name__ == "__main__":
    main()
