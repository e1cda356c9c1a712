"""Compiles the sources beside this file for the CPU it runs on, once, and keeps the library in the cache.

CACHE/kernels/<digest>.so    of the sources, the compiler and its options

Where there is no compiler, no Linux or no AVX-512, there are no kernels: torch's operations do the same more slowly.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch

from selfimprove.files import cache_folder

__all__ = ["loaded", "why_not"]

_log = logging.getLogger(__name__)

_SOURCES: Final = Path(__file__).parent

_OPTIONS: Final = ("-O3", "-fPIC", "-fopenmp", "-fno-math-errno", "-Wno-psabi")

# Compiled for AVX2 a training with them was slower than torch by a quarter (docs/log.md, 2026-11-27).
_INSTRUCTIONS: Final = ("-march=x86-64-v4", "-mprefer-vector-width=512")

_SECONDS: Final = 120


def loaded() -> ctypes.CDLL | None:
    """Return the compiled kernels; None: there are none here, and `why_not` says why."""
    return _found()[0]


def why_not() -> str:
    """Return why there are no kernels; empty: there are."""
    return _found()[1]


@cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    try:
        return _opened(_compiled()), ""
    except (OSError, subprocess.SubprocessError) as problem:
        said = getattr(problem, "stderr", None) or str(problem)
        _log.info("no kernels for this CPU: %s", said)
        return None, said.strip().splitlines()[0]


def _compiled() -> Path:
    """Return the library, compiled now or earlier.

    Raises:
        OSError: there is no compiler, or nowhere to keep the library.
        SubprocessError: the compiler refuses.
    """
    if sys.platform != "linux":
        raise OSError("they are compiled on Linux alone")
    # What torch itself uses here, which may be told to make do with less than there is.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        raise OSError("they pay with AVX-512 alone")
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        raise OSError("no C compiler: install gcc, or name one by CC")
    command = [compiler, *_OPTIONS, *_INSTRUCTIONS]
    version = _run([compiler, "--version"])
    texts = [path.read_text() for path in sorted(_SOURCES.glob("*.[ch]"))]
    known = hashlib.sha256("\0".join([*command, version, *texts]).encode())
    place = cache_folder() / "kernels" / f"{known.hexdigest()[:16]}.so"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent) as scratch:
            whole, parts = Path(scratch, "kernels.so"), []
            for source in sorted(_SOURCES.glob("*.c")):
                parts.append(str(Path(scratch, f"{source.stem}.o")))
                _run([*command, "-c", str(source), "-o", parts[-1]])
            # Without `-fopenmp` the linker asks for no OpenMP of its own: see `_opened`.
            _run([compiler, "-shared", *parts, "-o", str(whole)])
            whole.replace(place)
    return place


def _run(command: list[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    return done.stdout


def _opened(place: Path) -> ctypes.CDLL:
    """Load the library, whose threads are those of the OpenMP that torch computes with.

    Two of them would wait for each other on the same cores.
    """
    runtimes = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    names = ("libgomp", "libiomp5", "libomp")
    found = [path for path in sorted(runtimes) if Path(path).name.startswith(names)]
    if not found:
        raise OSError("torch was built without OpenMP")
    # In torch/lib, or in torch.libs beside it; other packages bring others.
    own = str(Path(torch.__file__).parent)
    ctypes.CDLL(min(found, key=lambda path: not path.startswith(own)), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(place))
