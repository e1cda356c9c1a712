"""What a run would do and cost, told before it starts (`--dry-run`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from selfimprove.methods.memory import (
    LIBRARIES,
    Need,
    Shape,
    adapter_weights,
    cache_bytes,
    sampling,
    shape_of,
    training,
)
from selfimprove.models import config_here
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.sft_config import SftConfig

__all__ = ["CHARACTERS_A_TOKEN", "Line", "Needs", "PlannedStep", "Use", "needs", "planned"]

CHARACTERS_A_TOKEN = 4  # of English text, roughly
_ROW_BYTES = 2  # on disk, a token of a stored text, compressed
_STAGE_BYTES = 4  # a float32 weight

Line = tuple[str, str, int, int]
"""A step: its name, what it does, tokens sampled, tokens trained on."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step, with upper bounds of its cost; a run usually stays well below them."""

    name: str
    does: str
    tokens_sampled: int
    tokens_trained: int
    is_done: bool


class Use(NamedTuple):
    """A model and what a stage of the run does with it."""

    stage: str
    model: str
    how: SftConfig | EngineConfig
    """Trained so, or drawn from by this engine."""
    beside: int = 0
    """Models of the same size that are held beside the one in training."""
    draws: EngineConfig | None = None
    """The engine that draws from it while it is trained."""
    cached: bool = True
    """Whether drawing keeps keys and values; a reward model reads a text once."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run asks of the machine: bounds, from the models' shapes."""

    stages: tuple[Need, ...]
    unknown: tuple[str, ...]
    """Models whose config.json is not on this machine; a dry run fetches nothing."""
    disk_bytes: int | None
    """Of the finished run, and the two checkpoints of the training that is under way; None: the
    model that is trained is not here, or the steps are not known."""

    @property
    def memory_bytes(self) -> int | None:
        """Of the largest stage whose model is here, the libraries included; None: none is."""
        if not self.stages:
            return None
        return max(s.total for s in self.stages) + LIBRARIES


def planned(lines: Iterable[Line], root: Path) -> list[PlannedStep]:
    """Tell which of the steps are done in a run folder."""
    return [
        PlannedStep(name, does, sampled, trained, (root / name / "done.json").exists())
        for name, does, sampled, trained in lines
    ]


def needs(uses: Iterable[Use], steps: Sequence[PlannedStep]) -> Needs:
    """Bound memory and disk by the shapes of the models, each from its own config.json.

    Raises:
        EngineError: there is no such model, or its config cannot be read.
    """
    stages: list[Need] = []
    unknown: list[str] = []
    disk = None
    for use in uses:
        folder = config_here(use.model)
        if folder is None:
            unknown.append(use.model)
            continue
        shape = shape_of(folder)
        stages += _needs_of(use, shape)
        if steps and isinstance(use.how, SftConfig):
            disk = max(disk or 0, _disk(shape, use.how, steps))
    return Needs(tuple(stages), tuple(dict.fromkeys(unknown)), disk)


def _needs_of(use: Use, shape: Shape) -> Iterable[Need]:
    if isinstance(use.how, EngineConfig):
        return sampling(use.stage, shape, use.how, cached=use.cached)
    cache = cache_bytes(shape, use.draws) if use.draws else 0
    return [training(use.stage, shape, use.how, beside=use.beside, cache=cache)]


def _disk(shape: Shape, config: SftConfig, steps: Sequence[PlannedStep]) -> int:
    trained = sum(s.tokens_trained > 0 for s in steps)
    rows = sum(s.tokens_sampled + s.tokens_trained for s in steps) * _ROW_BYTES
    # A checkpoint holds the trained weights and their two moments, in float32.
    checkpoints = 2 * 12 * (adapter_weights(shape, config) if config.lora else shape.parameters)
    # A stage leaves float32 weights, and an exported copy of them.
    return trained * 2 * _STAGE_BYTES * shape.parameters + checkpoints + rows
