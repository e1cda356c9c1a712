"""Draws that are asked for, what holds for all of them, and the loop that makes them, wherever rows live."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from selfimprove.errors import EngineError
from selfimprove.reasoning import cut
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.sending import sent
from selfimprove.sampling.texts import Texts
from selfimprove.seeds import seed_of
from selfimprove.types import Draw, FinishReason

__all__ = [
    "DrawLoop",
    "End",
    "Job",
    "Made",
    "Rules",
    "broken_model",
    "drawn",
    "draws_of",
    "jobs_of",
    "next_prompts",
    "refuse_nan",
    "seeds_of",
    "taken_from",
]


@dataclass(frozen=True, slots=True)
class Rules:
    """How draws are made; those of one call share it."""

    sampling: SamplingConfig
    ends: Tensor
    """Tokens that end a text."""
    may_stop: Tensor | None
    """Which tokens can end a stop string; None when there are no stop strings."""
    texts: Texts

    @property
    def manner(self) -> tuple[float, int, float, tuple[str, ...]]:
        """What rows must share whose tokens are chosen together."""
        how = self.sampling
        return how.temperature, how.top_k, how.top_p, how.stop


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One draw to be made."""

    prompt: Encoded
    """The same object for every draw of a prompt."""
    index: int
    rules: Rules
    seed: int
    """Of its randomness, all of it."""
    watched: bool = False
    """Somebody reads along, token by token."""


class Made(NamedTuple):
    """A draw that was made."""

    job: Job
    draw: Draw


class End(NamedTuple):
    """Where a draw may end."""

    job: Job
    new: list[int]
    """Its tokens up to there."""
    ended: bool
    """Whether the last of them ends a text."""


def jobs_of(
    prompts: Sequence[Encoded], rules: Rules, seed: int, *, watched: bool = False
) -> list[Job]:
    """Return all draws of prompts: what is random of one comes from the seed, its prompt's key and its index."""
    return [
        Job(prompt, index, rules, seed_of(seed, prompt.key, index), watched)
        for prompt in prompts
        for index in range(rules.sampling.n)
    ]


def seeds_of(jobs: Sequence[Job], device: torch.device) -> Tensor:
    """Return the seed of each draw, int64."""
    return sent(torch.tensor([job.seed for job in jobs], dtype=torch.long), device)


class DrawLoop(Protocol):
    """Rows under way in one place; `draws_of` keeps it going."""

    ready: deque[Made]
    """Finished draws that nobody has taken yet."""

    @property
    def under_way(self) -> list[Job]:
        """Draws begun and not finished."""
        ...

    def advance(self, queue: deque[Job]) -> None:
        """Let waiting draws join, and bring all rows forward; a job leaves the queue as its row begins."""
        ...


def draws_of(loop: DrawLoop, queue: deque[Job]) -> Iterator[Draw]:
    """Make every draw of the queue.

    When this raises, the loop still has the draws that are `under_way`, and `ready` ones.
    """
    while queue or loop.under_way:
        loop.advance(queue)
        yield from taken_from(loop.ready)


def taken_from(ready: deque[Made]) -> Iterator[Draw]:
    """Yield finished draws, each once."""
    while ready:
        yield ready.popleft().draw


def next_prompts(queue: Iterable[Job], most: int) -> list[Encoded]:
    """Return the prompts that waiting draws need next, `most` of them."""
    prompts: dict[int, Encoded] = {}
    for job in queue:
        if id(job.prompt) not in prompts and len(prompts) == most:
            break
        prompts[id(job.prompt)] = job.prompt
    return list(prompts.values())


def refuse_nan(logits: Tensor, first: Job) -> None:
    """Refuse logits of prompts, of which `first` has one, where any is NaN.

    Raises:
        EngineError: one is.
    """
    if logits.isnan().any():
        raise broken_model(f"prompt {first.prompt.key!r} or one beside it")


def broken_model(prompt: str) -> EngineError:
    """Return the error of a model that has no answer to a prompt."""
    return EngineError(
        f"the model answers {prompt} with NaN: its weights are broken, or its dtype overflows "
        "(try dtype=float32)"
    )


def drawn(ends: Sequence[End]) -> list[Draw | None]:
    """Return the draw of each, or None where it is neither full nor at a stop string."""
    if not ends:
        return []
    # The token that ends a text is no part of it.
    said = [(e.job.prompt.ids, e.new[:-1] if e.ended else e.new) for e in ends]
    texts = ends[0].job.rules.texts.continuations(said)
    return [_drawn(end, text) for end, text in zip(ends, texts, strict=True)]


def _drawn(end: End, text: str) -> Draw | None:
    (job, new, ended), sampling, read = end, end.job.rules.sampling, end.job.prompt.ids
    thinking = job.rules.texts.is_thinking(read)
    before = cut(text, sampling.stop, thinking=thinking)
    if not ended and before is None and len(new) < sampling.max_tokens:
        return None
    finish: FinishReason = "stop" if ended or before is not None else "length"
    text = text if before is None else before
    return Draw(
        job.prompt.key, job.index, text, finish, len(read), len(new), tuple(new), thinking=thinking
    )
