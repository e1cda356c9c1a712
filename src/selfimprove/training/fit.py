"""The one shell around every training: set up, go on from the newest checkpoint, learn, write, tell.

What is learnt, from which rows and with which trainer, is an objective's: supervised fine-tuning, DPO,
the two reward models and reinforcement learning are one each. A killed training goes on from its newest
readable checkpoint and ends with the very weights of one that was never interrupted, on the same CPU
with as many threads (a GPU adds up some gradients in no fixed order).
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

from selfimprove.training.checkpoints import newest_readable, step_of
from selfimprove.training.order import in_order
from selfimprove.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from selfimprove.sampling.arithmetic import Arithmetic
    from selfimprove.training._rounded_trainer import RoundedTrainer

__all__ = ["Collate", "Fitted", "Job", "Loaded", "Objective", "fit"]

C = TypeVar("C", bound=TrainingConfig)
T = TypeVar("T")

Collate: TypeAlias = Callable[[Sequence[dict[str, int]]], dict[str, Any]]
"""Makes the pieces of one step from the numbers of its rows."""


@dataclass(frozen=True, slots=True)
class Job(Generic[C]):
    """Where a training begins and ends, and how it gets there."""

    base: Path
    """The folder of the model that it begins with."""
    config: C
    out: Path
    """Becomes a Hugging Face folder; the log is written beside it."""
    checkpoints: Path
    """Where an interrupted training is looked for, and left."""
    seed: int
    """Of the order of the rows, of adapters and dropout."""


class Loaded(NamedTuple):
    """The model that will learn."""

    model: Any
    tokenizer: Any
    stop: Sequence[int]
    """Tokens that end a text."""
    use: Arithmetic
    """The precision that is computed in, and why."""


class Fitted(NamedTuple):
    """A training that is done."""

    trainer: Any
    order: tuple[int, ...]
    """Rows that were trained on, in turn."""
    arithmetic: str
    seconds: float
    """Of this call: after a resume, the part since then."""

    def logged(self, name: str) -> list[dict[str, float]]:
        """Return what the log says wherever it has the figure of this name."""
        return [entry for entry in self.trainer.state.log_history if name in entry]


class Objective(ABC, Generic[C, T]):
    """What one training learns, from which rows, and what it tells; made for a single `fit`."""

    stream: ClassVar[str]
    """Names the randomness of the rows' order."""
    log_every: ClassVar[int | None] = None
    """Steps between entries of the log; None: as it suits."""

    @abstractmethod
    def trainer(self) -> type[RoundedTrainer]:
        """Return the kind of trainer that learns it; torch is first needed here."""

    def load(self, job: Job[C]) -> Loaded:
        """Load what will learn: by default a causal language model.

        Raises:
            EngineError: the folder holds no such model or no tokenizer.
            TrainingError: the model has no stop token.
        """
        from selfimprove.training import model_folder

        use = model_folder.arithmetic(job.config, job.base)
        return Loaded(*model_folder.load(job.base, job.config, job.seed), use)

    @abstractmethod
    def rows(self, job: Job[C], loaded: Loaded) -> tuple[int, Collate]:
        """Return how many rows can be trained on, and what makes pieces of them.

        Raises:
            TrainingError: none fits.
        """

    def learning(self, job: Job[C], trainer: Any, resumed_at: int) -> AbstractContextManager[None]:  # noqa: ANN401
        """Return the context in which steps are made, from `resumed_at` on."""
        return nullcontext()

    def write(self, job: Job[C], trainer: Any) -> None:  # noqa: ANN401
        """Write the model; every process calls this, and one writes."""
        from selfimprove.training.model_folder import write_once

        write_once(trainer, job.base, job.out)

    @abstractmethod
    def told(self, fitted: Fitted) -> T:
        """Return what the training did."""


def fit(job: Job[C], objective: Objective[C, T]) -> T:
    """Train by the objective, and write the model; `objective` says what may go wrong."""
    started = time.monotonic()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Loaded here: whoever only reads a recipe needs no torch.
    from selfimprove.training.quiet import quietly

    loaded = objective.load(job)
    count, collate = objective.rows(job, loaded)
    order, steps = in_order(count, job.config, job.seed, objective.stream)
    for folder in (job.checkpoints, job.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with quietly():
        trainer = _trainer(job, objective, loaded, order, steps, collate)
        newest = newest_readable(job.checkpoints, trainer.accelerator)
        with objective.learning(job, trainer, step_of(newest) if newest else 0):
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        objective.write(job, trainer)
    return objective.told(Fitted(trainer, order, str(loaded.use), time.monotonic() - started))


def _trainer(
    job: Job[C],
    objective: Objective[C, T],
    loaded: Loaded,
    order: Sequence[int],
    steps: int,
    collate: Collate,
) -> Any:  # noqa: ANN401
    """Return the objective's trainer, set up; every process gets its share of a step's rows at once."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from selfimprove.training.arguments import common
    from selfimprove.training.processes import on_one_gpu
    from selfimprove.training.sharded import shares_out
    from selfimprove.training.watch import Bar, LogFile

    kind = objective.trainer()
    told = common(job.config, loaded.use, steps, job.checkpoints, job.seed,
                  shared_out=shares_out(job.config, loaded.model))  # fmt: skip
    if objective.log_every is not None:
        told["logging_steps"] = objective.log_every
    trainer = kind(
        model=loaded.model,
        args=on_one_gpu(kind.arguments(told)),
        train_dataset=Dataset.from_dict({"row": list(order)}),
        data_collator=collate,
        processing_class=loaded.tokenizer,
        callbacks=[LogFile(job.out.parent / "train_log.jsonl"), Bar()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
