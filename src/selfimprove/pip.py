"""Lets pip fetch and install: its indexes, proxies and credentials are those of the user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from selfimprove.errors import DiskFullError, EngineError

__all__ = ["last_words", "pip"]

_NO_ROOM: Final = "No space left on device"
_TOO_LARGE: Final = "File too large"
_OPTIONS: Final = ("--no-cache-dir", "--disable-pip-version-check", "--no-input", "--retries", "2")


def pip(command: str, words: Sequence[str], *, doing: str, python: Path, scratch: Path) -> None:
    """Run `pip COMMAND WORDS`, its bars shown where somebody watches.

    Args:
        command: download or install.
        words: what else the command says.
        doing: what it is for, behind "could not".
        python: whose pip it is.
        scratch: a folder on the disk whose room was looked at; pip unpacks there.

    Raises:
        DiskFullError: there is no room left.
        EngineError: pip is missing, or cannot do it; with its last words.
    """
    done = subprocess.run(
        [str(python), "-m", "pip", command, *_OPTIONS, *words],
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    if done.returncode == 0:
        return
    if _NO_ROOM in done.stderr:
        raise DiskFullError(
            f"no room left below {scratch} to {doing}: free some space, or set SELFIMPROVE_CACHE to a "
            "folder on another disk, and run again"
        )
    raise EngineError(
        f"pip could not {doing}:\n{last_words(done.stderr)}\n{_advice(done.stderr, python)}"
    )


def last_words(text: str) -> str:
    """Return the end of what a program said, indented."""
    said = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in said[-3:]) or "  (it said nothing)"


def _advice(said: str, python: Path) -> str:
    if "No module named pip" in said:
        return f"this Python has no pip: `{python} -m ensurepip` installs it; then run again"
    if _TOO_LARGE in said:
        return "raise the limit on the size of files (ulimit -f), and run again"
    return (
        "check the network, and that no constraint of pip forbids it, or point pip to an index that has "
        "it (PIP_INDEX_URL, or PIP_FIND_LINKS for a folder of wheels), and run the same command again"
    )
