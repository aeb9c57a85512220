"""When to retry what failed."""

from __future__ import annotations

import random
import re
from pathlib import Path

import mlflow_sysmetrics
from mlflow_sysmetrics.host.backoff import jitter


def test_jitter_lies_between_its_bounds_and_varies() -> None:
    parts = {jitter(0.5, 1.0) for _ in range(100)}

    assert all(0.5 <= part <= 1.0 for part in parts)
    assert len(parts) > 1


def test_a_program_that_seeds_random_gets_the_same_numbers_with_us() -> None:
    before = random.getstate()

    jitter(0.0, 1.0)

    assert random.getstate() == before


def test_no_module_draws_from_the_random_numbers_of_the_program() -> None:
    shared = re.compile(r"\brandom\.(?!Random\b)[a-z]+\(|from random import|(?:numpy|np)\.random")
    sources = Path(mlflow_sysmetrics.__file__).parent.rglob("*.py")

    assert [path.name for path in sources if shared.search(path.read_text("utf-8"))] == []
