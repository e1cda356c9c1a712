"""The trackers, through accelerate's own: opened so that a resumed run goes on in the same place."""

from __future__ import annotations

import math
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from selfimprove.errors import ConfigError
from selfimprove.tracking.config import Tracker
from selfimprove.tracking.folder import Event

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

__all__ = ["Opened", "require"]

_PROJECT: Final = "selfimprove"
_FOREIGN: Final = re.compile(r"[^\w\-. :/]")
"""What the names of some trackers must not hold."""


def require(trackers: Sequence[Tracker]) -> None:
    """Refuse a tracker whose package is not there, before anything is done.

    Raises:
        ConfigError: it is not.
    """
    for name in trackers:
        if find_spec(name) is None:
            raise ConfigError(
                f"trackers: {name} is not installed: pip install 'selfimprove[{name}]', in a checkout "
                f"'.[{name}]', or take it out of the recipe"
            )


@final
class Opened:
    """One tracker that is told of one run."""

    def __init__(
        self, name: Tracker, root: Path, recipe: Mapping[str, Any], id: str | None
    ) -> None:
        """Open it: anew, or where `id` was told before.

        Raises whatever the tracker raises.
        """
        self._is_wandb = name == "wandb"
        self._charted: set[str] = set()
        self.id = id or f"{root.resolve().name}-{secrets.token_hex(4)}"
        """By which it is found again."""
        self._tracker = _OPENERS[name](root.resolve(), self.id, id is not None)
        # The run's own process alone tells: whose turn it is must not be asked of accelerate's state, which the
        # trainings in this process make for the device that they want.
        self._tracker.main_process_only = False
        self._tracker.start()
        if name == "mlflow":  # which names its runs itself
            self.id = self._tracker.tracker.info.run_id
        if id is None:
            self._tracker.store_init_configuration(_flat(recipe))

    def tell(self, event: Event, number: int) -> None:
        """Tell it one event, the `number`-th of the run; numbers that are none are left out."""
        series = _FOREIGN.sub("_", event.series)
        values = {f"{series}/{_FOREIGN.sub('_', name)}": value
                  for name, value in event.values.items() if math.isfinite(value)}  # fmt: skip
        if not values:
            return
        if self._is_wandb:
            self._tell_wandb(series, event.at, values, number)
        else:
            self._tracker.log(values, step=event.at)

    def close(self) -> None:
        """Send what is left."""
        self._tracker.finish()

    def _tell_wandb(self, series: str, at: int, values: dict[str, float], number: int) -> None:
        """Give each series an axis of its own: wandb's one axis must only ever grow, over resumes too."""
        axis = f"{series}/at"
        if series not in self._charted:
            self._charted.add(series)
            self._tracker.tracker.define_metric(axis, hidden=True)
            self._tracker.tracker.define_metric(f"{series}/*", step_metric=axis)
        self._tracker.log({**values, axis: at}, step=number)


def _tensorboard(root: Path, _id: str, _again: bool) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("tensorboard", root)  # further files in a folder go on with it


def _wandb(root: Path, id: str, _again: bool) -> GeneralTracker:
    from accelerate.tracking import WandBTracker

    project = os.environ.get("WANDB_PROJECT", _PROJECT)
    return WandBTracker(project, id=id, name=root.name, resume="allow")


def _mlflow(root: Path, id: str, again: bool) -> GeneralTracker:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(_PROJECT, run_id=id if again else None, run_name=root.name)


def _trackio(_root: Path, id: str, _again: bool) -> GeneralTracker:
    from accelerate.tracking import TrackioTracker

    project = os.environ.get("TRACKIO_PROJECT", _PROJECT)
    return TrackioTracker(project, name=id, resume="allow")


_OPENERS: Final[Mapping[Tracker, Callable[[Path, str, bool], GeneralTracker]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}


def _flat(tree: Mapping[str, Any], place: str = "") -> dict[str, bool | int | float | str]:
    """Return a recipe as names and plain values, as trackers take it.

    >>> _flat({"paths": {"m": 4, "stop": ["x"]}, "student": None})
    {'paths.m': 4, 'paths.stop': "['x']", 'student': 'None'}
    """
    flat: dict[str, bool | int | float | str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{place}{name}.")
        else:
            flat[place + name] = (
                value if isinstance(value, bool | int | float | str) else str(value)
            )
    return flat
