"""What a run would do and cost, told before it starts (`--dry-run`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from selfimprove.runtime.memory import (
    LIBRARIES,
    Need,
    Shape,
    adapter_weights,
    cache_bytes,
    sampling,
    shape_of,
    training,
)
from selfimprove.runtime.memory_shared import in_each
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.training_config import TrainingConfig

__all__ = ["Needs", "PlannedStep", "Use", "needs"]

_ROW_BYTES = 2  # on disk, a token of a stored text, compressed
_STAGE_BYTES = 4  # a float32 weight


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step, with upper bounds of its cost; a run usually stays well below them."""

    name: str
    does: str
    rows: int | None
    """That it makes; None: it makes a model."""
    tokens_sampled: int
    tokens_trained: int
    state: Literal["to do", "begun", "done", "stale"]
    """stale: made by other code or other settings, so that the run would stop there."""
    measures: bool = False
    """Whether it only measures, on data of its own."""


class Use(NamedTuple):
    """A model and what a step does with it."""

    step: str
    model: Path | None
    """A folder with its config.json; None: it is not here."""
    how: TrainingConfig | EngineConfig
    """Trained so, or drawn from by this engine."""
    beside: int = 0
    """Models of the same size that are held beside the one in training."""
    draws: EngineConfig | None = None
    """The engine that draws from it while it is trained."""
    cached: bool = True
    """Whether drawing keeps keys and values; a reward model reads a text once."""
    longest: int = 0
    """Tokens of the longest row in training."""
    rows: int = 0
    """That are trained on, each as often as that happens."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run asks of the machine: bounds, from the models' shapes."""

    stages: tuple[Need, ...]
    """Each named after the first step that needs so much, and how many more do."""
    unknown: tuple[str, ...]
    """Models whose config.json is not on this machine; a dry run fetches nothing."""
    disk_bytes: int | None
    """Of the finished run, and the two checkpoints of the training that is under way; None: the
    model that is trained is not here."""

    @property
    def memory_bytes(self) -> int | None:
        """Of the largest stage whose model is here, the libraries included; None: none is."""
        if not self.stages:
            return None
        return max(s.total for s in self.stages) + LIBRARIES


def needs(
    uses: Iterable[Use],
    steps: Sequence[PlannedStep],
    absent: Iterable[str],
    processes: int = 1,
) -> Needs:
    """Bound memory and disk by the shapes of the models, each from its own config.json.

    Of trainings in several processes, what each of them holds.

    Raises:
        EngineError: the config of a model cannot be read.
    """
    alike: dict[str, tuple[Use, int]] = {}
    for use in uses:
        first, count = alike.get(key := repr(use._replace(step="")), (use, 0))
        alike[key] = first, count + 1
    stages: list[Need] = []
    disk = None
    for use, count in alike.values():
        if use.model is None:
            continue
        shape = shape_of(use.model)
        more = f" +{count - 1}" if count > 1 else ""
        found = _needs_of(use, shape, processes)
        stages += (replace(need, stage=f"{need.stage}{more}") for need in found)
        if isinstance(use.how, TrainingConfig):
            disk = max(disk or 0, _disk(shape, use.how, steps))
    return Needs(tuple(stages), tuple(absent), disk)


def _needs_of(use: Use, shape: Shape, processes: int) -> Iterator[Need]:
    if isinstance(use.how, EngineConfig):
        yield from sampling(use.step, shape, use.how, cached=use.cached)
    else:
        cache = cache_bytes(shape, use.draws) if use.draws else 0
        whole = training(use.step, shape, use.how, use.longest, beside=use.beside, cache=cache)
        drawn_from = use.draws is not None
        yield in_each(whole, shape, use.how, processes, drawn_from=drawn_from)


def _disk(shape: Shape, config: TrainingConfig, steps: Sequence[PlannedStep]) -> int:
    trained = sum(s.tokens_trained > 0 for s in steps)
    rows = sum(s.tokens_sampled + s.tokens_trained for s in steps) * _ROW_BYTES
    # A checkpoint holds the trained weights and their two moments, in float32.
    checkpoints = 2 * 12 * (adapter_weights(shape, config) if config.lora else shape.parameters)
    # A stage leaves float32 weights, and an exported copy of them.
    return trained * 2 * _STAGE_BYTES * shape.parameters + checkpoints + rows
