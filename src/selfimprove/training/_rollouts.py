"""Draws for the steps of a reinforcement learning: asked for at once, or while the step before them learns.

What was drawn ahead is written beside each checkpoint, before it: the weights that drew it are gone by then, and a
training that goes on from there learns from those very draws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from selfimprove.errors import TrainingError
from selfimprove.files import read_json, write_replacing
from selfimprove.sampling.engine import SamplingConfig, draw_in_order
from selfimprove.training._policy_sampler import PolicySampler
from selfimprove.training.checkpoints import step_of
from selfimprove.types import Draw, Prompt

__all__ = ["Rollouts"]

_KEPT: Final = "rollouts"


class _Ahead(NamedTuple):
    """What is being drawn for a step to come."""

    step: int
    asked: Sequence[Prompt]
    draws: Future[list[Draw]]


@final
class Rollouts:
    """Whoever draws, and what it has drawn ahead."""

    def __init__(self, sampler: PolicySampler, folder: Path, rank: int) -> None:
        """Draw nothing yet.

        Args:
            sampler: draws.
            folder: of the checkpoints.
            rank: of this process among those that train; each has draws of its own.
        """
        self.sampler, self._folder, self._rank = sampler, folder, rank
        self._apart = ThreadPoolExecutor(1, "rollouts")
        self._ahead: _Ahead | None = None

    def draw(self, asked: Sequence[Prompt], how: SamplingConfig, seed: int) -> list[Draw]:
        """Return draws of the weights that the sampler follows now."""
        return draw_in_order(self.sampler, asked, how, seed=seed)

    def begin(self, step: int, asked: Sequence[Prompt], how: SamplingConfig, seed: int) -> None:
        """Draw for a step to come, and do not wait; the weights may change meanwhile, those that draw do not."""
        self._ahead = _Ahead(step, asked, self._apart.submit(self.draw, asked, how, seed))

    def ahead(self, step: int, asked: Sequence[Prompt]) -> list[Draw]:
        """Return what was drawn ahead for a step, by this process or by one that was killed.

        Raises:
            EngineError: as the engine raised it.
            TrainingError: what lies beside the checkpoint is of other prompts.
            CorruptShardError: nothing readable lies there.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return self._read(step, asked)
        if ahead.step != step or ahead.asked != asked:
            raise AssertionError(f"drawn ahead for step {ahead.step} and asked for at step {step}")
        return ahead.draws.result()

    def save(self) -> None:
        """Write what was drawn ahead; called before the checkpoint that needs it is written."""
        if self._ahead is None:
            return
        told = [asdict(draw) for draw in self._ahead.draws.result()]
        text = json.dumps(
            {"prompts": _called(self._ahead.asked), "draws": told}, ensure_ascii=False
        )
        write_replacing(self._file(self._ahead.step), text.encode())
        kept = {step_of(checkpoint) for checkpoint in self._folder.glob("checkpoint-*")}
        for file in self._folder.glob(f"{_KEPT}-*.{self._rank}.json"):
            step = int(file.name.removeprefix(f"{_KEPT}-").partition(".")[0])
            if step not in kept | {self._ahead.step}:
                file.unlink()

    def close(self) -> None:
        """Let the sampler go; what it is still drawing is drawn for nobody."""
        self.sampler.close()
        self._apart.shutdown(wait=False, cancel_futures=True)

    def _read(self, step: int, asked: Sequence[Prompt]) -> list[Draw]:
        file = self._file(step)
        told = read_json(file)
        if told["prompts"] != _called(asked):
            raise TrainingError(
                f"{file} holds draws of other prompts than step {step} learns from: delete "
                f"{self._folder}, and the training starts anew"
            )
        return [_draw(draw) for draw in told["draws"]]

    def _file(self, step: int) -> Path:
        return self._folder / f"{_KEPT}-{step}.{self._rank}.json"


def _called(asked: Sequence[Prompt]) -> str:
    """Return what tells the prompts of one step from those of another."""
    return sha256(repr(list(asked)).encode()).hexdigest()


def _draw(told: dict[str, Any]) -> Draw:
    tupled: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in told.items()}
    return Draw(**tupled)
