"""What runs are called beside each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from selfimprove.errors import DataError

__all__ = ["names_of"]


def names_of(runs: Sequence[Path]) -> list[str]:
    """Call each run by its folder, with as many parents as it takes to tell them apart.

    Raises:
        DataError: one is given twice.
    """
    paths = [path.resolve() for path in runs]
    if len(set(paths)) < len(paths):
        raise DataError("a run is given twice: name each run folder once")
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    return [path.relative_to(shared).as_posix() for path in paths]
