"""A warm start: one model fine-tuned on any rows (`selfimprove sft`), before a method or for itself.

    OUT/config.json, *.safetensors, tokenizer, ...   the model, an ordinary Hugging Face folder
    OUT/rows, OUT/lessons, OUT/held-out              rows: all, trained on, not trained on
    OUT/training/train_log.jsonl                     loss by step
    OUT/sft.json                                     what was done, and the held-out loss

It is a run: killed, it goes on with the same command; made from other inputs, it says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from selfimprove.config import Config, apply_override, load
from selfimprove.data.examples import Lesson, read_lessons
from selfimprove.data.question_prompts import Layout
from selfimprove.data.sources import Sources
from selfimprove.errors import DataError, StoreError
from selfimprove.files import read_json, writing_to
from selfimprove.models import locate
from selfimprove.rows import Rows
from selfimprove.sampling.engine import EngineConfig, PromptLayout
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.responses import as_content
from selfimprove.seeds import rng
from selfimprove.store import Run
from selfimprove.training.sft import SftConfig, Trained, train_sft
from selfimprove.training.tokens import Shown
from selfimprove.types import Example, Message, ModelRef, Prompt

__all__ = ["WarmStartConfig", "config_of_words", "put_on_top", "refuse_other_model", "warm_start"]

_AT_ONCE = 64  # rows whose loss is taken in one call


class WarmStartConfig(Config):
    """What is trained on what, and how."""

    model: str
    """The model to start from: a name, a folder, a GGUF file or a hub id."""
    data: Sources
    """Rows, as files, `format:file` or hub ids."""
    chat: bool = False
    """Put plain prompts into a user turn of the chat template; rows of messages always get it."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, e.g. {enable_thinking: false}."""
    layout: Layout = "step_by_step"
    """How rows of a question format are laid out, as LMSI asks them: cot has few-shot exemplars,
    standard and direct train on the answer alone."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows that is not trained on; the loss on them is told before and after."""
    seed: int = 0
    """Seeds the order of the rows, which are held out, and the trainer."""
    sft: SftConfig = SftConfig()
    """Fine-tuning."""

    @property
    def shown(self) -> PromptLayout:
        """How the model reads prompts, in training as in measuring."""
        return PromptLayout(chat=self.chat, chat_template_kwargs=self.chat_template_kwargs)


def config_of_words(
    model: str, data: Sequence[str], overrides: Sequence[str], limit: int | None
) -> WarmStartConfig:
    """Return the config of a command line; a key that is no field of it is one of `sft`.

    Raises:
        ConfigError: an override is unknown or does not fit.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        first = override.partition("=")[0].partition(".")[0]
        ours = first in WarmStartConfig.model_fields
        apply_override(tree, override if ours else f"sft.{override}")
    config = load(WarmStartConfig, {"model": model, "data": list(data), **tree}, "sft")
    sources = tuple(s.model_copy(update={"limit": s.limit or limit}) for s in config.data)
    return config.model_copy(update={"data": sources})


def warm_start(
    config: WarmStartConfig, out: Path, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Fine-tune the model and leave the result in `out`; return what was done, as in OUT/sft.json.

    Raises:
        SelfImproveError: with what happened, where, and what to do; nothing that is done is lost.
    """
    refuse_other_model(out)
    base = locate(config.model)
    run = Run(out, announce)
    try:
        read = run.rows("rows", lessons, config.data, config.layout)
        kept = run.rows("lessons", training_part, read, config.held_out, config.seed)
        model = run.train("training", fine_tune, base, kept, config.sft, config.shown, config.seed)
        told = _told(config, out, len(kept))
        if config.held_out:
            held = run.rows("held-out", held_out_part, read, config.held_out, config.seed)
            before = run.rows("loss-before", held_out_loss, base, held, config.shown)
            after = run.rows("loss-after", held_out_loss, model, held, config.shown)
            told["held_out"] = {"rows": len(held), "before": _mean(before), "after": _mean(after)}
        run.write("sft.json", told)
        put_on_top(Path(model.path), out)
    finally:
        run.close()
    return told


def refuse_other_model(out: Path) -> None:
    """Refuse a folder with a model that no command of this kind made.

    Raises:
        StoreError: it is one.
    """
    if (out / "config.json").exists() and not (out / "training").is_dir():
        raise StoreError(f"{out} holds a model that this command did not make: give another --out")


def lessons(sources: Sequence[Any], layout: Layout) -> Iterator[Lesson]:
    """Read the rows, unchanged."""
    yield from read_lessons(sources, layout)


def training_part(rows: Rows[Lesson], share: float, seed: int) -> Iterator[Lesson]:
    """All rows but those that are held out."""
    out = _held_out(rows, share, seed)
    yield from (row for row in rows if row.id not in out)


def held_out_part(rows: Rows[Lesson], share: float, seed: int) -> Iterator[Lesson]:
    """A random share of the rows."""
    out = _held_out(rows, share, seed)
    yield from (row for row in rows if row.id in out)


def _held_out(rows: Rows[Lesson], share: float, seed: int) -> set[str]:
    names = [row.id for row in rows]
    rng(seed, "sft held out").shuffle(names)
    count = max(round(share * len(names)), 1) if share else 0
    if count >= len(names) and names:
        raise DataError(f"{len(names)} rows are too few to hold out {share:.0%} of them")
    return set(names[:count])


def fine_tune(  # noqa: PLR0913  the inputs of the step, and where the store wants the model
    base: ModelRef,
    rows: Sequence[Lesson],
    config: SftConfig,
    layout: PromptLayout,
    seed: int,
    *,
    out: Path,
    checkpoints: Path,
) -> Trained:
    """Fine-tune on the rows; the loss is taken on the completions alone."""
    examples = [
        Example(_content(row, chat=layout.chat), _completion(row, chat=layout.chat), finished=True)
        for row in rows
    ]
    return train_sft(Path(base.path), examples, config, out=out, checkpoints=checkpoints, seed=seed,
                     shown=Shown(layout.chat_template_kwargs))  # fmt: skip


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


def held_out_loss(
    model: ModelRef, rows: Sequence[Lesson], layout: PromptLayout
) -> Iterator[RowLoss]:
    """Take the loss of each completion, without its end token.

    Raises:
        EngineError: the model cannot be loaded, or a row does not fit into its context.
    """
    chat = layout.chat
    config = EngineConfig(chat=chat, chat_template_kwargs=layout.chat_template_kwargs)
    with closing(open_engine(Path(model.path), config)) as engine:
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


def put_on_top(model: Path, out: Path) -> None:
    """Give the model's files a second name in `out`; config.json, which makes it a model, last."""
    with writing_to(out):
        files = sorted(model.iterdir(), key=lambda file: (file.name == "config.json", file.name))
        for file in files:
            partial = out / f"{file.name}.partial"
            partial.unlink(missing_ok=True)
            try:
                os.link(file, partial)
            except OSError:  # a file system without hard links, or a disk that is full: as below
                shutil.copyfile(file, partial)
            partial.replace(out / file.name)
