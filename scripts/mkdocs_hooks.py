"""What the documentation shows of files outside docs/, for MkDocs.

Pages link to them by paths that also work on GitHub; in the site they lie one folder higher.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
_FOLDERS = ("assets", "grafana")

_LEADING_OUT = (*_PAGES, *(f"{each}/" for each in _FOLDERS))
_FROM_DOCS = re.compile(rf"\]\(\.\./((?:\.\./)*(?:{'|'.join(map(re.escape, _LEADING_OUT))}))")
_FROM_ROOT = re.compile(r"\]\(docs/")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, the pictures and what is to be downloaded."""
    in_folders = [path for each in _FOLDERS for path in sorted((_ROOT / each).iterdir())]
    for path in (*map(_ROOT.joinpath, _PAGES), *in_folders):
        name = path.relative_to(_ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401 - not looked at
    """Let links lead to where things are in the site."""
    if page.file.src_uri in _PAGES:
        return _FROM_ROOT.sub("](", markdown)
    return _FROM_DOCS.sub(r"](\1", markdown)
