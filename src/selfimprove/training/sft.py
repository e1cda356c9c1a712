"""Supervised fine-tuning on TRL: examples in, a plain Hugging Face folder out.

The loss is the mean cross-entropy of the completion tokens, the stop token among them; prompts carry
none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from selfimprove.errors import TrainingError
from selfimprove.training.fit import Collate, Fitted, Job, Loaded, Objective, fit
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown, Tokenised, tokenise
from selfimprove.types import Example

if TYPE_CHECKING:
    from selfimprove.training._completion_trainer import CompletionTrainer

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
    if not examples:
        raise TrainingError("there is no example to train on: look at the funnels of the run")
    return fit(Job(base, config, out, checkpoints, seed), Completions(examples, shown))


@final
class Completions(Objective[SftConfig, Trained]):
    """The mean cross-entropy of the completion tokens."""

    stream = "sft order"

    def __init__(self, examples: Sequence[Example], shown: Shown | None) -> None:
        self._examples, self._shown = examples, shown

    def trainer(self) -> type[CompletionTrainer]:
        """Return TRL's supervised trainer with a cheaper step."""
        from selfimprove.training._completion_trainer import CompletionTrainer

        return CompletionTrainer

    def rows(self, job: Job[SftConfig], loaded: Loaded) -> tuple[int, Collate]:
        """Return how many examples fit, and what makes pieces of them."""
        from selfimprove.training.pieces import Collator
        from selfimprove.training.support import piece_limits

        longest = job.config.max_length
        found = tokenise(self._examples, loaded.tokenizer, loaded.stop, longest, self._shown)
        _report_length(found, longest)
        self._found = found
        drops = self.trainer().dropout
        limits = piece_limits(loaded.model, job.config, loaded.use, drops=drops)
        return len(found.rows), Collator(found.rows, limits)

    def told(self, fitted: Fitted) -> Trained:
        """Return what the training did."""
        found, losses = self._found, fitted.logged("loss")
        rows = [found.rows[i] for i in fitted.order]
        tokens = sum(len(row.ids) for row in rows)
        return Trained(
            steps=fitted.trainer.state.max_steps,
            examples=len(found.rows),
            tokens=tokens,
            completion_tokens=tokens - sum(row.prompt_tokens for row in rows),
            truncated=found.truncated,
            dropped=found.dropped,
            first_loss=losses[0]["loss"],
            final_loss=losses[-1]["loss"],
            arithmetic=fitted.arithmetic,
            seconds=fitted.seconds,
        )


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
