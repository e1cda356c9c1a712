"""How many threads compute: no more than the cores that this process may use."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["cores", "use_threads"]

_CGROUP: Final = Path("/sys/fs/cgroup")


def use_threads(threads: int | None) -> None:
    """Let torch compute with so many threads, in this whole process.

    The number follows from config and machine, never from how busy it is: sums are rounded by how they
    are divided among threads, and a run is to be computed alike each time.

    Args:
        threads: how many; None: as many as torch has, but no more than there are cores.
    """
    import torch

    torch.set_num_threads(threads or min(torch.get_num_threads(), cores()))


def cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may use, by its affinity and its container's quota."""
    # Linux alone tells which cores a process is bound to.
    bound = sys.platform == "linux"
    here = len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1
    quota = _quota(cgroup)
    return here if quota is None else max(1, min(here, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores that a container's share of time amounts to; None: no limit."""
    try:
        share, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return _old_quota(cgroup / "cpu")
    return None if share == "max" else int(share) / int(period)


def _old_quota(cgroup: Path) -> float | None:
    """The same by version 1 of control groups."""
    try:
        share = int((cgroup / "cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return share / period if share > 0 else None
