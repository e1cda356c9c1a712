"""Responses to prompts as a user would write them: a sharded step of every method that needs some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfimprove.rows import Batch
from selfimprove.sampling.conversation import Asked, as_asked
from selfimprove.sampling.engine import Engine, SamplingConfig, draw_in_order
from selfimprove.sampling.own_words import own_words
from selfimprove.sampling.served import Served
from selfimprove.types import (
    Draw,
    FinishReason,
    Message,
    Prompt,
    Request,
    Response,
    UserPrompt,
)

__all__ = ["answer", "as_content", "asked", "respond"]


def as_content(text: str, *, chat: bool) -> Asked:
    """Return a user's words as models get them: a turn, for the chat template or in plain text."""
    return as_asked((Message("user", text),), chat=chat)


def asked(key: str, text: str, *, chat: bool) -> Prompt:
    """Return a user's words as a prompt."""
    return Prompt(key, as_content(text, chat=chat))


def respond(
    chunks: Sequence[Sequence[UserPrompt]],
    model: Served,
    sampling: SamplingConfig,
    seed: int,
) -> Iterator[Batch[Response]]:
    """Draw `sampling.n` responses a prompt, in the order of the prompts.

    Raises:
        EngineError: a prompt does not fit the model's context, or the model cannot be loaded.
    """
    with model.open() as sampler:
        for chunk in chunks:
            of = {prompt.id: prompt for prompt in chunk}
            prompts = [asked(p.id, p.text, chat=model.chat) for p in chunk]
            draws = draw_in_order(sampler, prompts, sampling, seed=seed)
            rows = [Response(d.key, of[d.key].text, d.index, *_said(d)) for d in draws]
            yield _batch(sampler, draws, rows)


def answer(
    chunks: Sequence[Sequence[Request]],
    model: Served,
    sampling: SamplingConfig,
    seed: int,
) -> Iterator[Batch[Response]]:
    """Draw `sampling.n` responses a request, in the order of the requests.

    Raises:
        EngineError: a request does not fit the model's context, or the model cannot be loaded.
    """
    with model.open() as sampler:
        for chunk in chunks:
            of = {f"{r.prompt_id}#{r.index}": r for r in chunk}
            prompts = [Prompt(key, as_asked(r.turns, chat=model.chat)) for key, r in of.items()]
            draws = draw_in_order(sampler, prompts, sampling, seed=seed)
            pairs = [(of[d.key], d) for d in draws]
            rows = [Response(r.prompt_id, r.prompt, r.index + d.index, *_said(d)) for r, d in pairs]
            yield _batch(sampler, draws, rows)


def _said(draw: Draw) -> tuple[str, FinishReason, int, str]:
    own = own_words(draw)
    return own.text.strip(), own.finish, own.new_tokens, own.reasoning


def _batch(by: Engine, draws: Sequence[Draw], rows: list[Response]) -> Batch[Response]:
    read = sum(draw.prompt_tokens for draw in draws if draw.index == 0)
    return Batch(rows, sum(row.new_tokens for row in rows), read, by.identity)
