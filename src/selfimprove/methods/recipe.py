"""What every recipe says, whichever method it is of: the base for methods of a user's own."""

from __future__ import annotations

from typing import ClassVar

from selfimprove.config import Config
from selfimprove.sampling.engine import EngineConfig
from selfimprove.tracking.config import Trackers
from selfimprove.training.export import ExportConfig

__all__ = ["Recipe"]


class Recipe(Config):
    """A recipe of a method of one's own; its fields are the recipe's keys."""

    method: str
    """Names the method: path/to/file.py:NAME, where NAME is a `Method`."""
    model: str
    """The model that improves: a name, a folder, a GGUF file or a hub id."""
    seed: int = 0
    """Seeds every draw and shuffle of the run."""
    engine: EngineConfig = EngineConfig()
    """Sampling engine."""
    export: ExportConfig = ExportConfig()
    """How trained models leave the run."""
    trackers: Trackers = ()

    aside: ClassVar[frozenset[str]] = frozenset({"trackers"})

    @property
    def models(self) -> list[str]:
        """The models that a run reads; the first is the one that improves."""
        return [self.model]
