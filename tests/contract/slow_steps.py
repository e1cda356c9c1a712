"""Steps of the live engine that leave whoever listens the time to hear each token."""

from __future__ import annotations

import time

import pytest

from selfimprove.sampling.live_table import Table

_SECONDS = 0.05


def steps_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step begin a little later: on a busy machine several tokens would be told at once."""
    advance = Table.advance

    def later(self: Table) -> None:
        time.sleep(_SECONDS)
        advance(self)

    monkeypatch.setattr(Table, "advance", later)
