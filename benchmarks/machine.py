"""What a benchmark was measured on, and the file that keeps it.

Imported first by every benchmark: `selfimprove` tells torch's OpenMP threads how long to spin for each
other (`GOMP_SPINCOUNT`), which they read once, when torch is loaded.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import selfimprove

__all__ = ["hardware", "keep", "say"]

_PACKAGES = ("torch", "transformers", "trl")
_BEGAN_WITH_LOAD = os.getloadavg()


def say(line: str) -> None:
    """Print a line at once, into a pipe as well."""
    print(line, flush=True)


def keep(result: dict[str, Any], out: Path | None) -> None:
    """Print a result as one line of JSON; with machine, commit and command into a file, if one is named."""
    say(json.dumps(result))
    if out is not None:
        told = {"command": _command(), "commit": _COMMIT, "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "machine": _machine(), "result": result}  # fmt: skip
        out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _command() -> str:
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def _commit() -> str:
    """Return the commit that was measured, marked where the work tree had changes."""
    here = Path(selfimprove.__file__).parent
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=here,
                              capture_output=True, text=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return f"selfimprove {selfimprove.__version__}"
    return told.stdout.strip()


def _machine() -> dict[str, Any]:
    return {
        **hardware(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": [round(value, 2) for value in _BEGAN_WITH_LOAD],
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "spin_count": os.environ.get("GOMP_SPINCOUNT"),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def hardware() -> dict[str, Any]:
    """Return what of the machine is the same at any time."""
    model, flags = _cpu()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cpu_has": [k for k in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if k in flags],
        "memory_gib": round(memory / 2**30),
        "gpu": _gpu(),
    }


def _cpu() -> tuple[str, set[str]]:
    """Return the processor's name, as lscpu tells it, and its flags."""
    told: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    return told.get("model name", platform.machine()), set(told.get("flags", "").split())


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


_COMMIT = _commit()  # before anything is measured: the work tree may move on
