"""What a run would do and cost, told before it starts (`--dry-run`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from selfimprove.models import is_here, is_hub_id, locate

__all__ = ["CHARACTERS_A_TOKEN", "Line", "Needs", "PlannedStep", "needs", "planned"]

CHARACTERS_A_TOKEN = 4  # of English text, roughly
_ROW_BYTES = 2  # on disk, a token of a stored text, compressed
_ADAM_BYTES = 16  # float32 weight, gradient and two moments, a parameter
_STAGE_BYTES = 4  # a float32 weight
_ADAPTER_SHARE = 0.02  # of the parameters, trained by LoRA at usual ranks

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


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run asks of the machine, roughly."""

    memory_bytes: int
    """Of the largest step, without activations and the cache of the rows."""
    disk_bytes: int
    """Of the finished run, and the two checkpoints of the training that is under way."""


def planned(lines: Iterable[Line], root: Path) -> list[PlannedStep]:
    """Tell which of the steps are done in a run folder."""
    return [
        PlannedStep(name, does, sampled, trained, (root / name / "done.json").exists())
        for name, does, sampled, trained in lines
    ]


def needs(
    model: str, steps: Sequence[PlannedStep], *, adapters: bool, beside: int = 0
) -> Needs | None:
    """Estimate memory and disk from the model's files; None for a hub id, which is not fetched.

    Args:
        model: the model that is trained.
        steps: of the run.
        adapters: whether LoRA adapters are trained in place of all weights.
        beside: models of the same size that are held beside the one in training.

    Raises:
        EngineError: there is no such model.
    """
    if not is_here(model) and is_hub_id(model):
        return None
    learner = Path(locate(model).path)
    weights = sum(f.stat().st_size for f in learner.glob("*.safetensors"))
    count = sum(_parameters(f) for f in learner.glob("*.safetensors"))
    trained = sum(s.tokens_trained > 0 for s in steps)
    rows = sum(s.tokens_sampled + s.tokens_trained for s in steps) * _ROW_BYTES
    share = _ADAPTER_SHARE if adapters else 1.0
    training = int(_ADAM_BYTES * count * share) + (beside + adapters) * weights
    # A checkpoint holds the trained weights and their two moments, in float32.
    checkpoints = 2 * int(12 * count * share)
    # A stage leaves float32 weights, and a rounded copy of them.
    models = trained * (_STAGE_BYTES * count + weights)
    return Needs(max(training, weights), models + checkpoints + rows)


def _parameters(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        return sum(prod(tensors.get_slice(k).get_shape()) for k in tensors.keys())  # noqa: SIM118
