"""What a script sees of its runs and threads, told as JSON to the test that started it."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from mlflow import MlflowClient  # isort: skip
