"""Retake the pictures of the documentation, in assets/.

    python3 scripts/pictures.py

Besides Python 3.10 or newer with pip it needs Linux and Chromium with its driver (Debian:
`apt-get install chromium chromium-driver`). It trains for a good minute, into a store of its own.
"""

from __future__ import annotations

from _environment import ROOT, Environment, run_main


def main() -> int:
    """Make the environment, `.venv-pictures`, and work in it."""
    environment = Environment(
        ROOT / ".venv-pictures", ("mlflow", "scikit-learn", "--group", "pictures")
    )
    environment.prepare()
    return environment.run([ROOT / "scripts" / "take_pictures.py", ROOT / "assets"])


if __name__ == "__main__":
    run_main(main)
