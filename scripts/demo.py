"""Train a small model with the plugin on, and show what it put on the run.

    python3 scripts/demo.py [--seconds 20]

All it needs is Python 3.10 or newer with pip. The environment is `.venv-demo`, the run goes into
an SQLite store in `demo-output`; both lie in the repository and may be deleted at any time.
"""

from __future__ import annotations

import argparse

from _environment import ROOT, Environment, ScriptError, run_main, shell

_SCRIPTS = ROOT / "scripts"
_OUTPUT = ROOT / "demo-output"
_STORE = f"sqlite:///{(_OUTPUT / 'mlflow.db').as_posix()}"


def main() -> int:
    """Train, show, and say how to look at it in the browser."""
    options = _parser().parse_args()
    environment = Environment(ROOT / ".venv-demo", ("mlflow", "scikit-learn"))
    environment.prepare()
    _OUTPUT.mkdir(exist_ok=True)

    print(f"\nTraining for about {options.seconds:g} s, a sample every second:", flush=True)
    _run(
        environment,
        ["train_example.py", "--seconds", f"{options.seconds:g}"],
        MLFLOW_RUN_CONTEXT_PROVIDER="sysmetrics,sysmonitor",
        MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="1",
    )
    print(flush=True)
    _run(environment, ["show_run.py"])

    ui = [str(environment.command("mlflow")), "ui", "--backend-store-uri", _STORE]
    print("\nTo see it in the browser, run this and open http://127.0.0.1:5000 :\n")
    print(f"  {shell(ui)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train a small model with the plugin switched on, and show what it put on "
        "the run. Makes its own environment, .venv-demo, and keeps it up to date.",
    )
    parser.add_argument(
        "--seconds", type=float, default=20, help="how long to train (default: %(default)s)"
    )
    return parser


def _run(environment: Environment, script: list[str], **variables: str) -> None:
    name, *arguments = script
    status = environment.run(
        [_SCRIPTS / name, *arguments],
        cwd=_OUTPUT,  # MLflow puts artifacts into the working directory
        MLFLOW_TRACKING_URI=_STORE,
        MLFLOW_EXPERIMENT_NAME="mlflow-sysmetrics demo",
        **variables,
    )
    if status:
        raise ScriptError(f"scripts/{name} ended with exit status {status}")


if __name__ == "__main__":
    run_main(main)
