"""Build the documentation, in an environment made for it; every warning is an error.

    python3 scripts/docs.py [--serve]

All it needs is Python 3.10 or newer with pip. The environment is `.venv-docs`, the site is built
in `site`; open `site/index.html`.
"""

from __future__ import annotations

import argparse

from _environment import ROOT, Environment, run_main


def main() -> int:
    """Build, or serve and rebuild at every change; MkDocs' exit status."""
    parser = argparse.ArgumentParser(
        description="Build the documentation into site/, with warnings as errors. Makes its own "
        "environment, .venv-docs, and keeps it up to date."
    )
    parser.add_argument("--serve", action="store_true", help="show it at http://127.0.0.1:8000")
    command = "serve" if parser.parse_args().serve else "build"
    # The API is read from the sources.
    environment = Environment(ROOT / ".venv-docs", ("--group", "docs"), has_package=False)
    environment.prepare()
    # Material warns of a MkDocs 2 that is not installed here.
    return environment.run(["-m", "mkdocs", command, "--strict"], NO_MKDOCS_2_WARNING="1")


if __name__ == "__main__":
    run_main(main)
