"""A warm start: one model fine-tuned on any rows (`selfimprove sft`), before a method or for itself.

    OUT/config.json, *.safetensors, tokenizer, ...   the model, an ordinary Hugging Face folder
    OUT/rows, OUT/lessons, OUT/held-out              rows: all, trained on, not trained on
    OUT/training/train_log.jsonl                     loss by step
    OUT/sft.json                                     what was done, and the held-out loss

It is a run: killed, it goes on with the same command; made from other inputs, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from selfimprove.data.examples import Lesson, read_lessons
from selfimprove.data.overlap import same_text
from selfimprove.data.question_prompts import Layout
from selfimprove.errors import DataError
from selfimprove.files import read_json
from selfimprove.methods.one_model import OneModelConfig, becoming, put_on_top
from selfimprove.rows import Rows
from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.engine import EngineConfig, PromptLayout
from selfimprove.sampling.responses import as_content
from selfimprove.sampling.served import Served
from selfimprove.seeds import rng
from selfimprove.tracking.telling import telling
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown
from selfimprove.training.trainings import SupervisedTraining
from selfimprove.types import Example, Message, ModelRef, Prompt

__all__ = ["WarmStartConfig", "warm_start"]

_AT_ONCE = 64  # rows whose loss is taken in one call


class WarmStartConfig(OneModelConfig):
    """What is trained on what, and how."""

    block: ClassVar[str] = "sft"
    layout: Layout = "step_by_step"
    """How rows of a question format are laid out, as LMSI asks them: cot has few-shot exemplars,
    standard and direct train on the answer alone."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows that is not trained on, all rows of a prompt together; the loss on them is told
    before and after."""
    sft: SftConfig = SftConfig()
    """Fine-tuning."""


def warm_start(
    config: WarmStartConfig, out: Path, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Fine-tune the model and leave the result in `out`; return what was done, as in OUT/sft.json.

    Raises:
        SelfImproveError: with what happened, where, and what to do; nothing that is done is lost.
    """
    engine = EngineConfig(kind="torch", chat=config.chat,
                          chat_template_kwargs=config.chat_template_kwargs)  # fmt: skip
    with (
        becoming(out, announce, engine) as run,
        telling(config.trackers, config, out, announce),
    ):
        base = run.locate(config.model)
        read = run.rows("rows", read_lessons, config.data, config.layout)
        kept = run.rows("lessons", training_part, read, config.held_out, config.seed)
        model = run.train("training", fine_tune, base, kept, config.sft, config.shown, config.seed)
        told = _told(config, run.root, len(kept))
        if config.held_out:
            held = run.rows("held-out", held_out_part, read, kept)
            before = run.rows("loss-before", held_out_loss, run.asks(base), held)
            after = run.rows("loss-after", held_out_loss, run.asks(model), held)
            told["held_out"] = {"rows": len(held), "before": _mean(before), "after": _mean(after)}
        run.write("sft.json", told)
        put_on_top(Path(model.path), run)
    return told


def training_part(rows: Rows[Lesson], share: float, seed: int) -> Iterator[Lesson]:
    """All rows but a random share of them, which is held out: all those of some prompts."""
    out = _held_out(rows, share, seed)
    yield from (row for row in rows if row.id not in out)


def held_out_part(rows: Rows[Lesson], learned: Rows[Lesson]) -> Iterator[Lesson]:
    """What is not learned from."""
    known = {row.id for row in learned}
    yield from (row for row in rows if row.id not in known)


def _held_out(rows: Rows[Lesson], share: float, seed: int) -> set[str]:
    """Draw prompts whose rows make up the share, so that no copy of a held-out row is learned."""
    if not share:
        return set()
    asked: dict[str, list[str]] = {}
    for row in rows:
        asked.setdefault(_asked(row), []).append(row.id)
    prompts = list(asked)
    rng(seed, "sft held out").shuffle(prompts)
    if len(prompts) < 2 and rows:
        raise DataError(
            f"{len(rows)} rows of one prompt are too few to hold out {share:.0%} of them"
        )
    count = max(round(share * len(rows)), min(map(len, asked.values()), default=0))
    out: set[str] = set()
    for prompt in prompts:
        if len(out) + len(asked[prompt]) <= min(count, len(rows) - 1):
            out.update(asked[prompt])
    return out


def _asked(row: Lesson) -> str:
    """Return what is equal for rows with the same prompt, whatever its layout, case and spacing."""
    return same_text(in_words(row.turns) if row.turns else row.text)


def fine_tune(
    base: ModelRef,
    rows: Sequence[Lesson],
    config: SftConfig,
    layout: PromptLayout,
    seed: int,
) -> SupervisedTraining:
    """Fine-tune on the rows; the loss is taken on the completions alone."""
    examples = [
        Example(_content(row, chat=layout.chat), _completion(row, chat=layout.chat), finished=True)
        for row in rows
    ]
    return SupervisedTraining(Path(base.path), examples, config, seed,
                              Shown(layout.chat_template_kwargs))  # fmt: skip


def _content(row: Lesson, *, chat: bool) -> str | tuple[Message, ...]:
    if row.turns:
        return row.turns
    return as_content(row.text, chat=chat) if row.is_words or chat else row.text


def _completion(row: Lesson, *, chat: bool) -> str:
    """Behind a template, a completion has no white space of its own."""
    return row.completion.strip() if row.turns or chat else row.completion


@dataclass(frozen=True, slots=True)
class RowLoss:
    """How well a model expects one completion."""

    id: str
    nats: float
    """Minus its log-probability."""
    tokens: int


def held_out_loss(model: Served, rows: Sequence[Lesson]) -> Iterator[RowLoss]:
    """Take the loss of each completion, without its end token.

    Raises:
        EngineError: the model cannot be loaded, or a row does not fit into its context.
    """
    chat = model.chat
    with model.open() as engine:
        for start in range(0, len(rows), _AT_ONCE):
            batch = list(rows)[start : start + _AT_ONCE]
            asked = [
                (Prompt(r.id, _content(r, chat=chat)), _completion(r, chat=chat)) for r in batch
            ]
            for row, logprobs in zip(batch, engine.logprobs(asked), strict=True):
                yield RowLoss(row.id, -sum(logprobs), len(logprobs))


def _mean(losses: Rows[RowLoss]) -> float:
    """In nats a token, over all tokens."""
    return sum(loss.nats for loss in losses) / max(sum(loss.tokens for loss in losses), 1)


def _told(config: WarmStartConfig, out: Path, rows: int) -> dict[str, Any]:
    trained = read_json(out / "training" / "done.json")["training"]
    return {"config": config.model_dump(mode="json"), "rows": rows, "training": trained}
