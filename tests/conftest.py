"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples at every run: a property that fails is found by whoever changed it.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

_ROOT = Path(__file__).parent.parent
_DATA = Path(os.environ.get("SELFIMPROVE_DATA", _ROOT.parent / "shared" / "data"))


# Files of minutes, the longest first.
_LONG = ("test_pit.py", "test_lmsi.py", "test_self_rewarding.py", "test_sft.py", "test_processes.py",
         "test_pairwise_judge.py", "test_two_processes.py")  # fmt: skip
_FOLDERS = ("smoke", "contract")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that workers with a file each end together."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, int]:
    folder, file = item.path.parent.name, item.path.name
    long = folder in _FOLDERS and file in _LONG and (folder, file) != ("contract", "test_sft.py")
    place = _LONG.index(file) if long else len(_LONG)
    return place, _FOLDERS.index(folder) if folder in _FOLDERS else len(_FOLDERS)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return a function from a name such as 'gsm8k/train.jsonl' to the real public file.

    The files are not part of the project (their licences differ); set SELFIMPROVE_DATA to the
    folder that holds them. Without it, tests that need them skip.
    """

    def find(name: str) -> Path:
        path = _DATA / name
        if not path.exists():
            pytest.skip(f"{name} is not there; set SELFIMPROVE_DATA to a folder that holds it")
        return path

    return find


@pytest.fixture
def kernels() -> None:
    """Skip where this machine can have no kernels in C."""
    from selfimprove.kernels import compiled

    if compiled.loaded() is None:
        pytest.skip(f"no kernels for this CPU: {compiled.why_not()}")
