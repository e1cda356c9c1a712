"""How long a run waits for the place that keeps it, and how long it is thought alive without a sign."""

from __future__ import annotations

import os
from typing import Final

from selfimprove.errors import ConfigError

__all__ = ["lease_seconds", "patience"]

_PATIENCE: Final = "SELFIMPROVE_REMOTE_PATIENCE"
_LEASE: Final = "SELFIMPROVE_REMOTE_LEASE"


def patience() -> float:
    """Return the seconds for which a request is tried again where a server fails or is not reached."""
    return _seconds(_PATIENCE, 180.0)


def lease_seconds() -> float:
    """Return the seconds after which a writer that gave no sign of life may be replaced."""
    return _seconds(_LEASE, 60.0)


def _seconds(name: str, usual: float) -> float:
    said = os.environ.get(name, "")
    try:
        seconds = float(said or usual)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise ConfigError(f"{name}={said} must be a number of seconds above 0")
    return seconds
