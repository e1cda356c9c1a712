"""The thread that looks into a run's folder and tells the trackers what is new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

from selfimprove.config import Config
from selfimprove.files import read_json, write_json
from selfimprove.tracking.config import Tracker, Trackers
from selfimprove.tracking.folder import Told, news
from selfimprove.tracking.trackers import Opened, require

__all__ = ["telling"]

_EVERY: Final = 2.0  # seconds
_PATIENCE: Final = 30.0  # seconds that a run waits at its end for what trackers still send
_STATE: Final = "trackers.json"


@contextmanager
def telling(
    trackers: Trackers, recipe: Config, root: Path, announce: Callable[[str], None]
) -> Iterator[None]:
    """Tell trackers what the run of a recipe writes into its folder, and the rest when the block ends.

    The folder is there. A tracker that fails is named once by `announce` and left alone from then on; the run goes on.

    Raises:
        ConfigError: the package of a tracker is not installed.
    """
    require(trackers)
    if not trackers:
        yield
        return
    from accelerate import PartialState

    PartialState()  # without it accelerate's trackers cannot log what they do
    teller = _Teller(trackers, recipe, root, announce)
    teller.start()
    try:
        yield
    finally:
        teller.end()


@final
class _Teller(threading.Thread):
    """Opens, tells and closes in one thread: some trackers know their run by the thread."""

    def __init__(
        self, trackers: Trackers, recipe: Config, root: Path, announce: Callable[[str], None]
    ) -> None:
        super().__init__(name="trackers", daemon=True)
        self._root, self._announce = root, announce
        self._recipe = recipe.model_dump(mode="json", exclude={"trackers"})
        self._ended = threading.Event()
        self._names: list[Tracker] = list(dict.fromkeys(trackers))
        self._open: dict[Tracker, Opened] = {}
        self._told: dict[Tracker, Told] = {}
        self._failed: set[Tracker] = set()
        """Those that failed at the last look."""

    def end(self) -> None:
        """Tell the rest, close, and wait for it as long as seems fit."""
        self._ended.set()
        self.join(_PATIENCE)
        if self.is_alive():
            self._announce(
                f"trackers: still sending after {_PATIENCE:.0f} s; what is left is not waited for"
            )

    def run(self) -> None:
        """Look again and again."""
        for name in self._names:
            self._guarded(name, self._open_one)
        ended = False
        while not ended:
            ended = self._ended.wait(_EVERY)
            for name in list(self._open):
                self._guarded(name, self._tell_patiently)
        for name in [name for name in self._open if name in self._failed]:
            self._guarded(name, self._tell_patiently)
        for name in list(self._open):
            self._guarded(name, lambda name: self._open[name].close())

    def _tell_patiently(self, name: Tracker) -> None:
        """Tell it what is new; what fails once is tried again at the next look.

        A network may be away for a moment; and a training that begins takes accelerate's state away for one.
        """
        try:
            self._tell_one(name)
        except Exception:
            if name in self._failed:
                raise
            self._failed.add(name)
        else:
            self._failed.discard(name)

    def _guarded(self, name: Tracker, do: Callable[[Tracker], None]) -> None:
        try:
            do(name)
        except Exception as error:  # noqa: BLE001  a tracker may raise anything, and must not end a run
            self._open.pop(name, None)
            said = " ".join(str(error).split())[:300] or type(error).__name__
            self._announce(f"tracker {name} failed and is left out: {said}")

    def _open_one(self, name: Tracker) -> None:
        held = self._state().get(name, {})
        self._told[name] = Told(**held.get("told", {}))
        self._open[name] = Opened(name, self._root, self._recipe, held.get("id"))

    def _tell_one(self, name: Tracker) -> None:
        told, changed = self._told[name], False
        try:
            for event in news(self._root, told):
                self._open[name].tell(event, told.events)
                told.events += 1
                changed = True
        finally:
            if changed:
                mine = {"id": self._open[name].id, "told": asdict(told)}
                write_json(self._root / _STATE, {**self._state(), name: mine})

    def _state(self) -> Mapping[str, Any]:
        path = self._root / _STATE
        held: Mapping[str, Any] = read_json(path) if path.exists() else {}
        return held
