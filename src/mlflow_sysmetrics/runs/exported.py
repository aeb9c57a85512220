"""What is exported of a run, and the names that only its info series says."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

from mlflow_sysmetrics.delivery.tracking import calling_mlflow
from mlflow_sysmetrics.export.contract import ExportedRun
from mlflow_sysmetrics.facts import host_tags
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log.addresses import shown_address
from mlflow_sysmetrics.log.isolation import Isolated
from mlflow_sysmetrics.log.text import clean
from mlflow_sysmetrics.settings import Settings, matches_any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.delivery.run_address import RunAddress

_LABELS = {
    "mlflow.runName": "run_name",
    "mlflow.user": "user",
    "sys.hostname": "host",
    "sys.gpu": "gpu_model",
}
"""By tag; a tag that the user excludes is in no label."""

_MAX_LABEL_BYTES = 200


def exported_run(
    address: RunAddress, settings: Settings, *, is_of_other_host: bool
) -> ExportedRun | None:
    """What is exported of a run that opens now; None where nothing is.

    Args:
        address: The run.
        settings: In force for it.
        is_of_other_host: Whether it was opened on another host, so that little is logged of this.
    """
    if not settings.export:
        return None
    if is_of_other_host:  # nothing is stored, so nothing is left out
        settings = replace(settings, include=Settings.from_env().include)
    names = _Names(address, settings.exclude_tags)
    with suppress(RuntimeError):  # the interpreter is shutting down: then they stay unknown
        start_thread("names", names.read)
    return ExportedRun(address.run_id, settings, names)


class _Names:
    """Reads them in a thread of its own, once.

    Args:
        address: The run.
        excluded: Globs of tags that the user leaves out.
    """

    def __init__(self, address: RunAddress, excluded: tuple[str, ...]) -> None:
        self._address = address
        self._excluded = excluded
        self._known: Mapping[str, str] | None = None

    def __call__(self) -> Mapping[str, str] | None:
        """They, once they are known; what the store did not answer is missing."""
        return self._known

    def read(self) -> None:
        names: dict[str, str] = {}
        with Isolated():
            names |= self._of_tags(host_tags(exclude=self._excluded))
        with Isolated():  # a store that does not answer; the run's own delivery says so
            names |= self._of_store()
        self._known = {name: text for name, text in names.items() if text}

    def _of_store(self) -> dict[str, str]:
        uri = self._address.tracking_uri
        with calling_mlflow(uri):
            client = MlflowClient(uri)
            run = client.get_run(self._address.run_id)
            experiment = client.get_experiment(run.info.experiment_id)
        names = {
            "experiment": clean(experiment.name, _MAX_LABEL_BYTES),
            "experiment_id": str(run.info.experiment_id),
            **self._of_tags(run.data.tags),
        }
        if uri.startswith(("http://", "https://")):
            page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
            names["url"] = f"{shown_address(uri).rstrip('/')}/{page}"
        return names

    def _of_tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {
            label: clean(tags[tag], _MAX_LABEL_BYTES)
            for tag, label in _LABELS.items()
            if tag in tags and tags[tag] != "None" and not matches_any(tag, self._excluded)
        }
