"""A callback for Lightning and PyTorch Lightning that monitors the run of the `MLFlowLogger`.

```python
from mlflow_sysmetrics.lightning import SystemMetricsCallback

trainer = Trainer(logger=MLFlowLogger(...), callbacks=[SystemMetricsCallback()])
```
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.isolation import contained
from mlflow_sysmetrics.runs.monitors import RunMonitor
from mlflow_sysmetrics.runs.registry import RunRequest
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import MLFlowLogger

_PACKAGES = ("pytorch_lightning", "lightning.pytorch")
"""Two packages with the same code but distinct classes."""


def _callbacks() -> tuple[type, ...]:
    """`Callback` of each imported package, or else of one that is installed.

    With sorted imports, `lightning` is imported before this module and `pytorch_lightning` after
    it.

    Raises:
        ImportError: None is installed.
    """
    if imported := [package for name in _PACKAGES if (package := sys.modules.get(name))]:
        return tuple(package.Callback for package in imported)
    for name in _PACKAGES:
        try:
            return (importlib.import_module(name).Callback,)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise  # it is installed, but broken
    raise ImportError(
        "mlflow_sysmetrics.lightning needs Lightning: "
        "pip install lightning, or pip install pytorch-lightning"
    )


class SystemMetricsCallback(*_callbacks()):  # type: ignore[misc] # known only when it is imported
    """Monitors the runs of a trainer's `MLFlowLogger`s while it fits, validates, tests or predicts.

    It works whether or not `sysmonitor` is switched on; a run that `sysmonitor` samples already
    is not sampled twice, and keeps its settings. It also monitors what `sysmonitor` alone cannot:
    `MLFlowLogger(run_id=...)`, and a second stage, such as `trainer.test()` after `trainer.fit()`,
    since the logger ends its run with the first.

    Only the process of global rank zero knows the run, so only it monitors: its node and its
    process tree.

    Args:
        sampling_interval: Seconds between two samples.
        samples_before_logging: Samples that are combined into one logged point.
        node_id: Name of this node, inserted into the metric keys.
            These three win over the environment variables.
    """

    def __init__(
        self,
        *,
        sampling_interval: float | None = None,
        samples_before_logging: int | None = None,
        node_id: str | None = None,
    ) -> None:
        super().__init__()
        self._arguments = {
            "sampling_interval_s": sampling_interval,
            "samples_before_logging": samples_before_logging,
            "node_id": node_id,
        }
        self._monitors: list[RunMonitor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's hook
        """Start sampling, in the process of global rank zero; raises nothing."""
        if not trainer.is_global_zero or self._monitors:
            return
        with contained("the run of the MLFlowLogger is not sampled"):
            self._monitors = [self._monitor(logger) for logger in _mlflow_loggers(trainer)]
        for each in self._monitors:
            each.start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's hook
        """End: a last sample, and at most the flush timeout until all is sent; raises nothing."""
        self._finish()

    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002 - Lightning's hook
        pl_module: LightningModule,  # noqa: ARG002 - as above
        exception: BaseException,  # noqa: ARG002 - as above
    ) -> None:
        """End, as `teardown` does, which is not called after an exception."""
        self._finish()

    def _monitor(self, logger: MLFlowLogger) -> RunMonitor:
        settings = Settings.from_env().overridden(**self._arguments)
        # In a second stage, the logger has ended the run already: then only the stage's end counts.
        return RunMonitor(
            RunRequest(
                logger.run_id,
                logger.experiment.tracking_uri,
                settings,
                resumed=True,
                poll_status=True,
            )
        )

    def _finish(self) -> None:
        while self._monitors:
            self._monitors.pop().finish()


def _mlflow_loggers(trainer: Trainer) -> list[MLFlowLogger]:
    modules = [sys.modules.get(f"{package}.loggers.mlflow") for package in _PACKAGES]
    kinds = tuple(module.MLFlowLogger for module in modules if module)
    loggers = [logger for logger in trainer.loggers if isinstance(logger, kinds)]
    if not loggers:
        warn_once("the trainer has no MLFlowLogger, so SystemMetricsCallback monitors no run")
    return loggers
