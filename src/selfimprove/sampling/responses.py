"""Responses to prompts as a user would write them: a sharded step of every method that needs some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from selfimprove.rows import Batch
from selfimprove.sampling.engine import EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.open import open_engine
from selfimprove.types import Message, ModelRef, Prompt, Response, UserPrompt

__all__ = ["as_content", "asked", "respond"]


def as_content(text: str, *, chat: bool) -> str | tuple[Message, ...]:
    """Return a user's words as models get them: a turn of the chat template, or plain text."""
    return (Message("user", text),) if chat else text


def asked(key: str, text: str, *, chat: bool) -> Prompt:
    """Return a user's words as a prompt."""
    return Prompt(key, as_content(text, chat=chat))


def respond(
    chunks: Sequence[Sequence[UserPrompt]],
    model: ModelRef,
    sampling: SamplingConfig,
    engine: EngineConfig,
    seed: int,
) -> Iterator[Batch[Response]]:
    """Draw `sampling.n` responses a prompt, in the order of the prompts.

    Raises:
        EngineError: a prompt does not fit the model's context, or the model cannot be loaded.
    """
    with closing(open_engine(Path(model.path), engine)) as sampler:
        for chunk in chunks:
            of = {prompt.id: prompt for prompt in chunk}
            prompts = [asked(p.id, p.text, chat=engine.chat) for p in chunk]
            draws = draw_in_order(sampler, prompts, sampling, seed=seed)
            rows = [
                Response(d.key, of[d.key].text, d.index, d.text.strip(), d.finish, d.new_tokens)
                for d in draws
            ]
            prompt_tokens = sum(d.prompt_tokens for d in draws if d.index == 0)
            yield Batch(rows, sum(r.new_tokens for r in rows), prompt_tokens)
