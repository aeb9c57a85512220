"""Check the code and run the tests, in an environment made for it.

    python3 scripts/test.py [--check | --mlflow VERSION | --frameworks | --browser] [for pytest]

All it needs is Python 3.10 or newer with pip. The environment is `.venv-test` in the repository;
the package is installed there as a wheel, and anew whenever its sources have changed.
"""

from __future__ import annotations

import argparse
import re

from _environment import ROOT, Environment, ScriptError, run_main

_IN_PARALLEL = ("--numprocesses", "logical", "--maxprocesses", "4", "--dist", "loadfile")
"""Half of the suite waits for servers and processes. The tests of a file share its fixtures."""

_CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
)


def main() -> int:
    """Run what the command line asks for; pytest's exit status."""
    options, pytest_arguments = _parser().parse_known_args()
    if options.marker is not None:
        environment = Environment(
            ROOT / f".venv-test-{options.marker}",
            ("mlflow", "--group", "test", "--group", options.marker),
        )
        environment.prepare()
        pytest_arguments = pytest_arguments or ["tests/integration", "-m", options.marker]
    elif options.mlflow is not None:
        environment = Environment(
            ROOT / f".venv-test-mlflow-{_in_file_name(options.mlflow)}",
            # Older versions of MLflow do not say so, but cannot work with SQLAlchemy 2.1.
            (f"mlflow=={options.mlflow}", "sqlalchemy<2.1", "--group", "test"),
        )
        environment.prepare()
        pytest_arguments = pytest_arguments or ["tests/integration"]
    else:
        environment = Environment(
            ROOT / ".venv-test", ("mlflow", "--group", "test", "--group", "lint")
        )
        environment.prepare()
        _check(environment)
        if options.check:
            return 0
    return environment.run(["-m", "pytest", *_IN_PARALLEL, *pytest_arguments])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Check the code with ruff and mypy and run the tests. Makes its own "
        "environment, .venv-test, and keeps it up to date.",
        epilog="All other arguments go to pytest, for instance: tests/unit -k cgroup. Tests run "
        "on all cores; `-n 0` runs them one after the other.",
        allow_abbrev=False,
    )
    alternatives = parser.add_mutually_exclusive_group()
    alternatives.add_argument(
        "--check", action="store_true", help="check the code, and run no tests"
    )
    alternatives.add_argument(
        "--mlflow",
        metavar="VERSION",
        help="run the integration tests on this version of MLflow, for instance '2.16.*', "
        "in an environment of its own",
    )
    alternatives.add_argument(
        "--frameworks",
        dest="marker",
        action="store_const",
        const="frameworks",
        help="run the tests with PyTorch's launchers, Lightning, transformers and Ray, in an "
        "environment of its own (downloads PyTorch; needs Open MPI)",
    )
    alternatives.add_argument(
        "--browser",
        dest="marker",
        action="store_const",
        const="browser",
        help="run the tests of MLflow's UI, in an environment of its own (needs Chromium and its "
        "driver)",
    )
    return parser


def _check(environment: Environment) -> None:
    for tool, *arguments in _CHECKS:
        print("$", tool, *arguments, flush=True)
        if environment.run(["-m", tool, *arguments]):
            raise ScriptError(f"{' '.join([tool, *arguments])} found something; tests were not run")


def _in_file_name(version: str) -> str:
    """`2.16.*` is `2.16`."""
    return re.sub(r"[^\w.]+", "-", version).strip(".-")


if __name__ == "__main__":
    run_main(main)
