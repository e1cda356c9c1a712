"""Looks at a run again and again, and shows what it sees."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, final

from rich.console import Console, RenderableType
from rich.live import Live

from selfimprove.tracking import measures
from selfimprove.watching.frame import frame
from selfimprove.watching.plan import Plan, ahead
from selfimprove.watching.samples import Newest
from selfimprove.watching.state import Seen, look

__all__ = ["watch"]

_EVERY: Final = 1.0  # seconds
_PLANNING: Final = 60.0  # seconds that a single picture waits for what is to come
_SAMPLES: Final = 3
_MEASURED: Final = 3
_TOLD: Final = (
    "vote_share", "tied", "accuracy", "score", "parse_rate", "votes_agree", "margin", "gap", "tokens", "cut_off",
)  # fmt: skip
_HEIGHT: Final = 40
"""Lines of a picture that is not on a terminal."""


def watch(root: Path, console: Console, *, once: bool) -> None:
    """Show a run until it has finished; `once`, or where nobody looks on: print one picture.

    Raises:
        DataError: there is no run in this folder.
    """
    seen = look(root)
    planned = None if seen.has_finished else Plan(root)
    try:
        view = _View(root, planned)
        if once or not console.is_terminal or seen.has_finished:
            if planned is not None:
                planned.wait(_PLANNING)
            console.print(view.picture(seen, console.height if console.is_terminal else _HEIGHT))
            return
        with Live(
            console=console, screen=True, auto_refresh=False, vertical_overflow="crop"
        ) as live:
            while True:
                live.update(view.picture(seen, console.height), refresh=True)
                time.sleep(_EVERY)
                seen = look(root)
                if seen.has_finished:
                    break
        console.print(view.picture(seen, console.height))
    finally:
        if planned is not None:
            planned.close()


@final
class _View:
    """What is kept between two looks."""

    def __init__(self, root: Path, plan: Plan | None) -> None:
        self._root, self._plan = root, plan
        self._newest = Newest(root, _SAMPLES)
        self._measured: dict[str, dict[str, float]] = {}

    def picture(self, seen: Seen, height: int) -> RenderableType:
        """Return it."""
        coming = ahead(seen, self._plan.steps if self._plan else ())
        return frame(seen, coming, self._numbers(seen), self._newest.samples(), height)

    def _numbers(self, seen: Seen) -> list[tuple[str, dict[str, float]]]:
        """Return numbers of the newest steps that have some which are worth a line."""
        told: list[tuple[str, dict[str, float]]] = []
        for step in reversed([step.name for step in seen.steps if step.done]):
            if step not in self._measured:
                found = measures.of_rows(sorted((self._root / step).glob("shard-*.parquet")))
                self._measured[step] = {name: found[name] for name in _TOLD if name in found}
            if self._measured[step]:
                told.append((step, self._measured[step]))
            if len(told) == _MEASURED:
                break
        return told
