"""A real Prometheus (Debian's package) on 127.0.0.1."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fakes.waiting import eventually
from integration.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class PrometheusServer:
    """Scrapes a port of this machine each second; a context manager that starts and ends it.

    Args:
        folder: For its configuration and its data.
        port: What it scrapes.
        rules: A file of rules that it evaluates each second.
    """

    def __init__(self, folder: Path, port: int, rules: Path | None = None) -> None:
        self._folder = folder
        self._config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)] if rules is not None else [],
            "scrape_configs": [
                {
                    "job_name": "mlflow-sysmetrics",
                    "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                }
            ],
        }
        self._address = f"127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        config = self._folder / "prometheus.yml"
        config.write_text(json.dumps(self._config))  # JSON is YAML
        self._process = subprocess.Popen(
            [  # noqa: S607 - where Debian's package has it, or a newer one
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self._address}",
                "--log.level=error",
            ],
        )
        try:
            eventually(self._is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, promql: str) -> list[dict[str, Any]]:
        """What a query gives now: `metric` (labels) and `value` (time, text) of each series.

        Raises:
            ValueError: Prometheus does not understand it.
        """
        try:
            found = self.get(f"query?{urlencode({'query': promql})}")
        except urllib.error.HTTPError as error:
            raise ValueError(f"{promql}: {error.read().decode()}") from error
        result: list[dict[str, Any]] = found["result"]
        return result

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The data of an answer of its API."""
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False
