"""Supervised fine-tuning on TRL: examples in, a plain Hugging Face folder out.

The loss is the mean cross-entropy of the completion tokens, the stop token among them; prompts carry
none. A killed training goes on from its newest readable checkpoint and ends with the very
weights of one that was never interrupted, on the same CPU with as many threads (a GPU adds up some gradients in no fixed order).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfimprove.errors import TrainingError
from selfimprove.training.order import Plan, in_order
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown, Tokenised, tokenise
from selfimprove.types import Example

__all__ = ["Trained", "train_sft"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training did."""

    steps: int
    examples: int
    """Different rows that could be trained on."""
    tokens: int
    """Prompt and completion tokens of every row that was trained on, each time it was."""
    completion_tokens: int
    """Those of them that carry loss, stop tokens included."""
    truncated: int
    """Rows whose prompt lost its oldest turns or text to `max_length`."""
    dropped: int
    """Rows that were left out as their completion does not fit into `max_length`."""
    first_loss: float
    """Of the first step, before any change of the weights."""
    final_loss: float
    """Mean over the last logged steps."""
    arithmetic: str
    """The precision that was computed in, and why."""
    seconds: float
    """Of this call: after a resume, the part since then."""


def train_sft(  # noqa: PLR0913  two folders, and a seed, all by name
    base: Path,
    examples: Sequence[Example],
    config: SftConfig,
    *,
    out: Path,
    checkpoints: Path,
    seed: int,
    shown: Shown | None = None,
) -> Trained:
    """Fine-tune the model of `base` on `examples` and write the result to `out`.

    Args:
        base: a Hugging Face folder.
        examples: prompts and completions.
        config: how.
        out: becomes a Hugging Face folder; the log is written beside it.
        checkpoints: where an interrupted training is looked for, and left.
        seed: of the order of the examples, of adapters and dropout.
        shown: how prompts are shown; None: as by an engine that says nothing of it.

    Raises:
        TrainingError: no example, none that fits into `max_length`, no stop token, a loss that
            is no number.
        EngineError: `base` holds no causal language model or no tokenizer.
    """
    started = time.monotonic()
    if not examples:
        raise TrainingError("there is no example to train on: look at the funnels of the run")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Loaded here: whoever only reads a recipe needs no torch.
    from selfimprove.training import model_folder, supervised
    from selfimprove.training._completion_trainer import CompletionTrainer
    from selfimprove.training.checkpoints import newest_readable
    from selfimprove.training.pieces import Collator
    from selfimprove.training.quiet import quietly

    model, tokenizer, stop = model_folder.load(base, config, seed)
    use = model_folder.arithmetic(config, base)
    tokenised = tokenise(examples, tokenizer, stop, config.max_length, shown)
    plan = _plan(tokenised, config, seed)
    checkpoints.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    limits = supervised.piece_limits(model, config, use, drops=CompletionTrainer.dropout)
    with quietly():
        trainer = supervised.prepare(
            CompletionTrainer,
            (model, tokenizer),
            plan,
            config,
            Collator(plan.rows, limits),
            checkpoints=checkpoints,
            log=out.parent / "train_log.jsonl",
            use=use,
            seed=seed,
        )
        newest = newest_readable(checkpoints, trainer.accelerator)
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        model_folder.write_once(trainer, base, out)
    return _summary(plan, tokenised, trainer.state.log_history, str(use), started)


def _plan(tokenised: Tokenised, config: SftConfig, seed: int) -> Plan:
    _report_length(tokenised, config.max_length)
    order, steps = in_order(len(tokenised.rows), config, seed, "sft order")
    return Plan(tokenised.rows, order, steps)


def _report_length(tokenised: Tokenised, max_length: int) -> None:
    total = len(tokenised.rows) + tokenised.dropped
    if not tokenised.rows:
        raise TrainingError(
            f"none of the {total} examples fits into {max_length} tokens: raise sft.max_length"
        )
    if tokenised.dropped:
        _log.warning(
            "%d of %d examples left out: the completion does not fit into %d tokens",
            tokenised.dropped, total, max_length,
        )  # fmt: skip
    if tokenised.truncated:
        _log.warning(
            "%d of %d examples lost the oldest part of their prompt: it is longer than %d tokens",
            tokenised.truncated, total, max_length,
        )  # fmt: skip


def _summary(
    plan: Plan,
    tokenised: Tokenised,
    history: list[dict[str, float]],
    arithmetic: str,
    started: float,
) -> Trained:
    rows = [plan.rows[i] for i in plan.order]
    tokens = sum(len(row.ids) for row in rows)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return Trained(
        steps=plan.steps,
        examples=len(plan.rows),
        tokens=tokens,
        completion_tokens=tokens - sum(row.prompt_tokens for row in rows),
        truncated=tokenised.truncated,
        dropped=tokenised.dropped,
        first_loss=losses[0],
        final_loss=losses[-1],
        arithmetic=arithmetic,
        seconds=time.monotonic() - started,
    )
