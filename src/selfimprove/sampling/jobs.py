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
    "Rules",
    "broken_model",
    "drawn",
    "draws_of",
    "next_prompts",
    "refuse_nan",
    "taken_from",
]


@dataclass(frozen=True, slots=True)
class Job:
    """One draw to be made."""

    prompt: Encoded
    index: int


class End(NamedTuple):
    """Where a draw may end."""

    job: Job
    new: list[int]
    """Its tokens up to there."""
    ended: bool
    """Whether the last of them ends a text."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every row of one call."""

    sampling: SamplingConfig
    seed: int
    ends: Tensor
    """Tokens that end a text."""
    may_stop: Tensor | None
    """Which tokens can end a stop string; None when there are no stop strings."""
    texts: Texts

    def seeds(self, jobs: Sequence[Job]) -> Tensor:
        """Return the seed of each draw, int64, on the device of the rules."""
        named = [seed_of(self.seed, job.prompt.key, job.index) for job in jobs]
        return sent(torch.tensor(named, dtype=torch.long), self.ends.device)


class DrawLoop(Protocol):
    """Rows under way in one place; `draws_of` keeps it going."""

    ready: deque[Draw]
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


def taken_from(ready: deque[Draw]) -> Iterator[Draw]:
    """Yield finished draws, each once."""
    while ready:
        yield ready.popleft()


def next_prompts(queue: Iterable[Job], most: int) -> list[Encoded]:
    """Return the prompts that waiting draws need next, `most` of them."""
    prompts: dict[str, Encoded] = {}
    for job in queue:
        if job.prompt.key not in prompts and len(prompts) == most:
            break
        prompts[job.prompt.key] = job.prompt
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


def drawn(ends: Sequence[End], rules: Rules) -> list[Draw | None]:
    """Return the draw of each, or None where it is neither full nor at a stop string."""
    # The token that ends a text is no part of it.
    said = [(e.job.prompt.ids, e.new[:-1] if e.ended else e.new) for e in ends]
    texts = rules.texts.continuations(said)
    return [_drawn(end, text, rules) for end, text in zip(ends, texts, strict=True)]


def _drawn(end: End, text: str, rules: Rules) -> Draw | None:
    (job, new, ended), sampling, read = end, rules.sampling, end.job.prompt.ids
    thinking = rules.texts.is_thinking(read)
    before = cut(text, sampling.stop, thinking=thinking)
    if not ended and before is None and len(new) < sampling.max_tokens:
        return None
    finish: FinishReason = "stop" if ended or before is not None else "length"
    text = text if before is None else before
    return Draw(
        job.prompt.key, job.index, text, finish, len(read), len(new), tuple(new), thinking=thinking
    )
