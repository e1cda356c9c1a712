"""docs/tutorials: the commands and programs of each page, run in an empty folder from top to bottom.

Runs where SELFIMPROVE_TUTORIALS is set, as `make test-tutorials` does: a minute or two a page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.skipif(
    "SELFIMPROVE_TUTORIALS" not in os.environ, reason="`make test-tutorials` runs the pages"
)

_LEFT = {
    "engineer": ["checkpoint/config.json", "runs/mine/report.html", "runs/judge/config.json",
                 "mine/README.md", "mine.gguf"],
    "researcher": ["runs/base-2/summary.json", "runs/one-path-0/summary.json", "compared.html"],
    "application": ["reply.json", "runs/pit/summary.json", "pit.gguf"],
}  # fmt: skip


@pytest.mark.parametrize("page", sorted(_LEFT))
def test_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    text = (_DOCS / "tutorials" / f"{page}.md").read_text()
    blocks = re.findall(r"```(bash|python)\n(.*?)```", text, re.S)
    assert len(blocks) >= 5
    command = tmp_path / "bin" / "selfimprove"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m selfimprove "$@"\n')
    command.chmod(0o755)
    source = str(_DOCS.parent / "src")
    path = (
        f"{command.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    environment = os.environ | {"PATH": path, "PYTHONPATH": source}
    place = tmp_path / "work"
    place.mkdir()
    for kind, block in blocks:
        words = (
            ["bash", "-euo", "pipefail", "-c", block]
            if kind == "bash"
            else [sys.executable, "-c", block]
        )
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True,
                              timeout=900, check=False)  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert [name for name in _LEFT[page] if not (place / name).is_file()] == []
