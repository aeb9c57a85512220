"""A rank of a training by Lightning, whose logger opens the run; led as `rank.py` is."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import MLFlowLogger
from rank import TOLD, work
from torch.utils.data import DataLoader, TensorDataset


class _Line(pl.LightningModule):  # type: ignore[misc] # no types are there
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(4, 1)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss: torch.Tensor = self.line(batch[0]).mean()
        self.log("loss", loss)
        if index == 2:
            work(self.global_rank)
        return loss

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - as Lightning's
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    """Train."""
    logger = MLFlowLogger(
        experiment_name=os.environ["MLFLOW_EXPERIMENT_NAME"],
        tracking_uri=os.environ["MLFLOW_TRACKING_URI"],
    )
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=int(os.environ["DEVICES"]),
        num_nodes=int(os.environ["NODES"]),
        strategy="ddp",
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=TOLD,
    )
    trainer.fit(_Line(), DataLoader(TensorDataset(torch.ones(64, 4)), batch_size=4))


if __name__ == "__main__":
    main()
