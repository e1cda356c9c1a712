"""The trainer of one fine-tuning, set up but not yet running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig as TrlConfig

from selfimprove.sampling.arithmetic import Arithmetic
from selfimprove.sampling.loading import pick_device
from selfimprove.training._completion_trainer import CompletionTrainer
from selfimprove.training.arguments import common
from selfimprove.training.order import Plan
from selfimprove.training.pieces import Limits
from selfimprove.training.processes import on_one_gpu, processes
from selfimprove.training.support import longest_packed, may_share_prefixes
from selfimprove.training.training_config import TrainingConfig, piece_tokens
from selfimprove.training.watch import Bar, LogFile

__all__ = ["piece_limits", "prepare"]

T = TypeVar("T", bound=CompletionTrainer)


def prepare(  # noqa: PLR0913  what is trained, on what, kept where
    kind: type[T],
    loaded: tuple[Any, Any],
    plan: Plan,
    config: TrainingConfig,
    collate: Callable[[Sequence[dict[str, int]]], dict[str, Any]],
    *,
    checkpoints: Path,
    log: Path,
    use: Arithmetic,
    seed: int,
    log_every: int | None = None,
) -> T:
    """Return a trainer for the plan; `loaded` is the model and its tokenizer.

    `collate` makes the pieces of one step from the numbers of its rows. `log_every` steps; None:
    as it suits. Every process gets its share of a step's rows at once.

    Raises:
        TrainingError: the batch cannot be shared by the processes.
    """
    model, tokenizer = loaded
    trainer = kind(
        model=model,
        args=_arguments(plan, config, use, checkpoints, seed, log_every),
        train_dataset=Dataset.from_dict({"row": list(plan.order)}),
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=[LogFile(log), Bar()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def piece_limits(model: Any, config: TrainingConfig, use: Arithmetic, *, drops: bool) -> Limits:  # noqa: ANN401
    """Return what a piece may hold, and how its rows lie: without padding where that is faster.

    Between padded rows a prefix is read in a pass of its own; several processes add up gradients once
    a pass.

    Args:
        model: that learns; it is brought to where it does.
        config: of the training.
        use: the precision that is computed in.
        drops: whether it learns with dropout.
    """
    model.to(pick_device("auto"))
    packed = longest_packed(model, use, drops=drops)
    one_pass = packed > 0 or (processes() == 1 and not config.gradient_checkpointing)
    share = one_pass and may_share_prefixes(model)
    return Limits(piece_tokens(config), share=share, packed=packed)


def _arguments(
    plan: Plan,
    config: TrainingConfig,
    use: Arithmetic,
    checkpoints: Path,
    seed: int,
    log_every: int | None,
) -> TrlConfig:
    told = common(config, use, plan.steps, checkpoints, seed)
    if log_every is not None:
        told["logging_steps"] = log_every
    arguments = TrlConfig(**told, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    return cast(TrlConfig, on_one_gpu(arguments))
