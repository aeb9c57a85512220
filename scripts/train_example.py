"""An ordinary training script: it knows MLflow and scikit-learn, and nothing of this plugin.

Worker processes prepare noisy batches of handwritten digits, the main process learns from them.
"""

# mypy: disable-error-code="import-untyped"
# (scikit-learn and SciPy ship no types)

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKERS = 2
BATCHES_PER_EPOCH = 4


def augment(images: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Turned, shifted and noisy copies of 8 x 8 images."""
    random = np.random.default_rng(seed)
    copies = np.empty_like(images)
    for index, image in enumerate(images):
        turned = ndimage.rotate(image, random.uniform(-15, 15), reshape=False, order=1)
        copies[index] = ndimage.shift(turned, random.uniform(-0.5, 0.5, size=2), order=1)
    copies += random.normal(0, 0.5, images.shape)
    return copies


def train(seconds: float) -> None:
    """Learn for some seconds and log the accuracy after each epoch."""
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images, digits.target, test_size=0.25, random_state=0
    )
    model = MLPClassifier(hidden_layer_sizes=(512, 256), random_state=0)
    with mlflow.start_run(run_name="digits"), ProcessPoolExecutor(WORKERS) as workers:
        mlflow.log_params({"hidden_layers": model.hidden_layer_sizes, "workers": WORKERS})
        ends_s = time.monotonic() + seconds
        epoch = 0
        while time.monotonic() < ends_s:
            seeds = range(epoch * BATCHES_PER_EPOCH, (epoch + 1) * BATCHES_PER_EPOCH)
            for batch in workers.map(augment, [train_x] * BATCHES_PER_EPOCH, seeds):
                model.partial_fit(batch.reshape(len(batch), -1), train_y, classes=range(10))
            accuracy = model.score(test_x.reshape(len(test_x), -1), test_y)
            mlflow.log_metrics({"loss": model.loss_, "accuracy": accuracy}, step=epoch)
            print(f"  epoch {epoch:2}  loss {model.loss_:.3f}  accuracy {accuracy:.3f}", flush=True)
            epoch += 1
        report = classification_report(test_y, model.predict(test_x.reshape(len(test_x), -1)))
        mlflow.log_text(report, "report.txt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    train(parser.parse_args().seconds)
