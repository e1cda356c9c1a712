"""Supervised fine-tuning on TRL: examples in, a plain Hugging Face folder out.

The loss is the mean cross-entropy of the completion tokens, the stop token among them; prompts carry
none. A killed training goes on from its newest readable checkpoint and ends with the very
weights of one that was never interrupted, on the same CPU with as many threads (a GPU adds up some gradients in no fixed order).
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from selfimprove.config import Config
from selfimprove.errors import TrainingError
from selfimprove.seeds import rng
from selfimprove.training.tokens import Shown, Tokenised, TokenisedExample, tokenise
from selfimprove.types import Example

__all__ = ["LoraConfig", "Plan", "SftConfig", "Trained", "in_order", "piece_tokens",
           "train_sft"]  # fmt: skip

_log = logging.getLogger(__name__)

# Activations that stay in a CPU's cache are worth more than wide matrices.
_PIECE_TOKENS: Final = {"cpu": 2_048, "cuda": 16_384}


class LoraConfig(Config):
    """Low-rank adapters; merged into the weights at the end."""

    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """The adapter counts alpha / r times."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped, in SFT and of reward models. Preference training
    and RL compare probabilities with a reference's, and drop nothing."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Which layers get one; all-linear: every one but the output layer."""


class SftConfig(Config):
    """Fine-tuning; the defaults are LMSI's (Sec. 4) where the paper gives one."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """Highest learning rate. Paper: 5e-5."""
    batch_size: int = Field(default=32, ge=1)
    """Examples per optimiser step. Paper: 32."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the examples. The paper gives steps instead."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps, instead of `epochs`. Paper: 10,000."""
    max_length: int = Field(default=1024, ge=2)
    """In tokens; a longer prompt loses its oldest turns, then its oldest text; system and headers stay.
    A longer completion loses its row."""
    piece_tokens: int | None = Field(default=None, ge=1)
    """Tokens computed at once, for memory and speed alone; None: 2,048 on a CPU, else 16,384."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes down after the warm-up."""
    warmup_frac: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate goes up."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the arithmetic; auto: bfloat16 on a GPU that has it, and on a CPU with AMX from a hidden size
    of 256. The weights themselves are float32 all the same."""
    gradient_checkpointing: bool = False
    """Compute activations twice to keep fewer of them: for models that fill the memory."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints, of which two are kept."""
    lora: LoraConfig | None = None
    """Train adapters and merge them; None: all weights."""


def piece_tokens(config: SftConfig) -> int:
    """Return the tokens of a pass: what a recipe says, or what suits this machine."""
    from selfimprove.sampling.loading import pick_device  # needs torch

    return config.piece_tokens or _PIECE_TOKENS[pick_device("auto").type]


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


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rows are trained on, in which order, in how many steps."""

    rows: tuple[TokenisedExample, ...]
    order: tuple[int, ...]
    steps: int


def train_sft(  # noqa: PLR0913  two folders, a seed and a card, all by name
    base: Path,
    examples: Sequence[Example],
    config: SftConfig,
    *,
    out: Path,
    checkpoints: Path,
    seed: int,
    card: str = "",
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
        card: text for the model card.
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
        model_folder.write_once(trainer, base, out, card)
    return _summary(plan, tokenised, trainer.state.log_history, str(use), started)


def _plan(tokenised: Tokenised, config: SftConfig, seed: int) -> Plan:
    _report_length(tokenised, config.max_length)
    order, steps = in_order(len(tokenised.rows), config, seed, "sft order")
    return Plan(tokenised.rows, order, steps)


def in_order(count: int, config: SftConfig, seed: int, stream: str) -> tuple[tuple[int, ...], int]:
    """Return the rows of a whole training, every epoch in a new order, and its optimiser steps."""
    wanted = (
        config.max_steps * config.batch_size
        if config.max_steps
        else max(round(config.epochs * count), 1)
    )
    order: list[int] = []
    for epoch in range(math.ceil(wanted / count)):
        rows = list(range(count))
        rng(seed, stream, epoch).shuffle(rows)
        order += rows
    return tuple(order[:wanted]), math.ceil(wanted / config.batch_size)


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
