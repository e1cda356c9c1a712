"""Kinds of GPUs: what their makers write of them, what we measured of that, and what an hour costs.

Documented figures are those of the data sheets: dense bfloat16, the SXM form where there are two. Prices
are round figures for an hour on demand and no offer; `--price` takes your own.
"""

from __future__ import annotations

import re
from bisect import bisect
from dataclasses import dataclass
from math import log
from typing import Final

from selfimprove.errors import ConfigError

__all__ = ["BANDWIDTH_SHARE", "DEVICES", "MEASURED_UP_TO", "Cluster", "Device", "cluster_of",
           "sampling_share", "training_share"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, as documented."""

    kind: str
    tflops: float
    """Dense bfloat16, in 10^12 operations a second."""
    memory_gb: float
    memory_gb_per_s: float
    link_gb_per_s: float
    """To the GPUs of the same machine, one way."""
    network_gb_per_s: float
    """Its share of the network between machines, one way: 400 Gbit/s a GPU where such machines have it."""
    price: float
    """Assumed, in US dollars an hour."""


DEVICES: Final = {
    device.kind: device
    for device in (
        Device("h200", 989, 141, 4_800, 450, 50, 3.80),
        Device("h100", 989, 80, 3_350, 450, 50, 3.00),
        Device("a100", 312, 80, 2_039, 300, 25, 1.80),
        Device("l40s", 362, 48, 864, 32, 12.5, 1.00),
        Device("l4", 121, 24, 300, 32, 12.5, 0.70),
    )
}

# Measured on one H200 (benchmarks/results/gpu-h200-7ace6ce.json, 135M, and -f37ad6c.json, the others), as
# shares of the 989 that are documented: parameters and shares. In between by the logarithm of the size;
# beyond the largest, and on other kinds, as there: an estimate.
_SAMPLING: Final = ((134_515_008, 0.102), (494_005_120, 0.193), (1_235_814_400, 0.322))
_TRAINING: Final = ((134_515_008, 0.127), (1_235_814_400, 0.304))
BANDWIDTH_SHARE: Final = 0.89
"""Of the documented bandwidth of the memory, measured on that card: 4,263 of 4,800 GB/s."""
MEASURED_UP_TO: Final = 1_235_814_400
"""Parameters."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """So many GPUs of one kind."""

    count: int
    device: Device


def cluster_of(text: str) -> Cluster:
    """Read `64xh100`.

    Raises:
        ConfigError: it is not of that form, or the kind is unknown.

    >>> cluster_of("8xh200").count
    8
    """
    found = re.fullmatch(r"([1-9][0-9]*)x([a-z0-9]+)", text.strip().lower())
    if found is None or found[2] not in DEVICES:
        raise ConfigError(
            f"--cluster {text}: write a number, x and a kind, e.g. 64xh100; kinds: {', '.join(DEVICES)}"
        )
    return Cluster(int(found[1]), DEVICES[found[2]])


def sampling_share(parameters: int) -> float:
    """Return which share of the documented arithmetic sampling reaches for a model of this size.

    >>> round(sampling_share(8_000_000_000), 3)
    0.322
    """
    return _between(_SAMPLING, parameters)


def training_share(parameters: int) -> float:
    """Return the same of training."""
    return _between(_TRAINING, parameters)


def _between(points: tuple[tuple[int, float], ...], size: int) -> float:
    place = bisect([at for at, _ in points], size)
    if place in (0, len(points)):
        return points[min(place, len(points) - 1)][1]
    (low, first), (high, last) = points[place - 1 : place + 1]
    return first + (last - first) * log(size / low) / log(high / low)
