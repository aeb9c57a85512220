"""A rank of a training by Hugging Face's Trainer, which opens the run; led as `rank.py` is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rank import TOLD, work
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments


class _Numbers(Dataset[Any]):  # type: ignore[misc] # no types are there
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"numbers": torch.ones(4), "labels": torch.ones(1)}


class _Line(torch.nn.Module):  # type: ignore[misc] # no types are there
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(4, 1)

    def forward(self, numbers: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.line(numbers)
        return {"loss": torch.nn.functional.mse_loss(out, labels), "logits": out}


class _Led(TrainerCallback):  # type: ignore[misc] # no types are there
    """Works in the second step until the test has seen enough."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ANN401
        if state.global_step == 2:
            work(args.process_index)


def main() -> None:
    """Train."""
    arguments = TrainingArguments(
        output_dir=str(Path(TOLD) / "trained"),
        max_steps=4,
        per_device_train_batch_size=4,
        report_to="mlflow",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(_Line(), arguments, train_dataset=_Numbers(), callbacks=[_Led()]).train()


if __name__ == "__main__":
    main()
