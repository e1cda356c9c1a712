"""Responses to prompts as a user would write them: a sharded step of every method that needs some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfimprove.rows import Batch
from selfimprove.sampling.conversation import Asked, as_asked
from selfimprove.sampling.engine import Engine, SamplingConfig, draw_in_order
from selfimprove.sampling.own_words import own_words
from selfimprove.sampling.served import Served
from selfimprove.types import (
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

    def drawn(by: Engine, chunk: Sequence[UserPrompt]) -> Batch[Response]:
        asked_for = [(p.id, Request(p.id, p.text, 0, (Message("user", p.text),))) for p in chunk]
        return _drawn(by, asked_for, sampling, chat=model.chat, seed=seed)

    return model.each(chunks, drawn)


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

    def drawn(by: Engine, chunk: Sequence[Request]) -> Batch[Response]:
        asked_for = [(f"{r.prompt_id}#{r.index}", r) for r in chunk]
        return _drawn(by, asked_for, sampling, chat=model.chat, seed=seed)

    return model.each(chunks, drawn)


def _drawn(
    by: Engine,
    requests: Sequence[tuple[str, Request]],
    sampling: SamplingConfig,
    *,
    chat: bool,
    seed: int,
) -> Batch[Response]:
    """Draw responses to requests, each under a name by which it is seeded."""
    of = dict(requests)
    prompts = [Prompt(name, as_asked(r.turns, chat=chat)) for name, r in requests]
    draws = draw_in_order(by, prompts, sampling, seed=seed)
    rows = [
        Response(r.prompt_id, r.prompt, r.index + d.index, own.text.strip(), own.finish,
                 own.new_tokens, own.reasoning)
        for d in draws
        for r, own in ((of[d.key], own_words(d)),)
    ]  # fmt: skip
    read = sum(draw.prompt_tokens for draw in draws if draw.index == 0)
    return Batch(rows, sum(row.new_tokens for row in rows), read, by.identity)
