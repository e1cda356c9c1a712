"""PIT at inference (Algorithm 2): y_0 = M_P(x), then y_k = M_PIT(x, y_{k-1}), again and again.

The paper leaves open when to stop, and shows that more steps are not always better. Here a number of
steps is fixed, or a chain ends before its first step that does not win, and stays ended. A step wins if
the gap reward of the new response over the old one is above that of the old one over itself (what
zero means is not fixed by R_PIT's training), and the new response is finished, unless the old one was
not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from selfimprove.config import Config
from selfimprove.data.improvement_prompts import improvement_template, rendered
from selfimprove.judges.gap import gap_gains
from selfimprove.judges.reward_rows import Gain, Improved
from selfimprove.rows import Drop, Filtered, Funnel, Rows
from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.engine import SamplingConfig, Temperature
from selfimprove.sampling.responses import answer
from selfimprove.seeds import seed_of
from selfimprove.store import Run
from selfimprove.types import Message, ModelRef, Request, Response

__all__ = [
    "Conversation",
    "ImproveConfig",
    "Link",
    "compared",
    "finished_steps",
    "improve",
    "requests",
    "stopped",
    "wins",
]


def _several(value: object) -> object:
    """Accept one temperature for all steps."""
    return value if isinstance(value, list | tuple) else (value,)


class ImproveConfig(Config):
    """How responses are improved."""

    steps: int = Field(default=3, ge=1)
    """How often. Paper: studied up to 5."""
    temperature: Annotated[
        tuple[Temperature, ...],
        BeforeValidator(_several, json_schema_input_type=Temperature | tuple[Temperature, ...]),
    ] = Field(default=(0.5,), min_length=1)
    """Of each step; the last one holds for all that follow. Paper: best at 0.4 to 0.6."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of every step."""
    min_gap: float = 0.0
    """By how much a step must win, where the chain is to stop by itself."""

    def sampling(self, step: int, max_tokens: int) -> SamplingConfig:
        """Return how step 1, 2, ... is drawn: once for each response."""
        temperature = self.temperature[min(step, len(self.temperature)) - 1]
        return SamplingConfig(temperature=temperature, top_p=self.top_p, max_tokens=max_tokens)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A prompt of one or more turns; the last one is the user's."""

    id: str
    turns: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """One step of improvement: the new responses, and what R_PIT says of them."""

    responses: Rows[Response]
    gains: Rows[Gain]


def requests(conversations: Sequence[Conversation]) -> list[Request]:
    """Return what M_P is asked: the prompts as they stand."""
    return [Request(c.id, in_words(c.turns), 0, c.turns) for c in conversations]


def asked_for_more(
    conversations: Sequence[Conversation], responses: Sequence[Response], template: str
) -> list[Request]:
    """Return what M_PIT is asked: to improve each of the responses."""
    words, turns = improvement_template(template), {c.id: c.turns for c in conversations}
    return [
        Request(r.prompt_id, r.prompt, r.index, rendered(words, turns[r.prompt_id], r.text))
        for r in responses
    ]


def improve(  # noqa: PLR0913  what is improved, by which models, how, and how it is stored
    steps: Run,
    name: str,
    conversations: Rows[Conversation],
    start: Rows[Response],
    model: ModelRef,
    gap_model: ModelRef,
    config: ImproveConfig,
    template: str,
    *,
    max_tokens: int,
    by_difference: bool,
    shard_items: int,
    first: int = 1,
) -> list[Link]:
    """Improve responses step by step, from step `first` on; step k is stored as `NAME-yk-responses` and `NAME-yk-gains`.

    What M_PIT wrote at step k is `NAME-yk-drawn`; where that was cut off, the response stays.

    Raises:
        EngineError: a response is too long to be improved in the model's context.
    """
    chain: list[Link] = []
    held = start
    for step in range(first, first + config.steps):
        asked = steps.rows(f"{name}-y{step}-asked", asked_for_more, conversations, held, template)
        drawn = steps.sharded(f"{name}-y{step}-drawn", answer, asked, steps.asks(model),
                              config.sampling(step, max_tokens),
                              seed_of(steps.seed, "improve", step),
                              shard_items=shard_items)  # fmt: skip
        better = steps.rows(f"{name}-y{step}-responses", finished_steps, held, drawn)
        told = steps.rows(f"{name}-y{step}-compared", compared, conversations, better, held)
        gains = steps.sharded(f"{name}-y{step}-gains", gap_gains, told, steps.asks(gap_model),
                              by_difference, shard_items=shard_items)  # fmt: skip
        chain.append(Link(better, gains))
        held = better
    return chain


def finished_steps(old: Sequence[Response], new: Sequence[Response]) -> Filtered[Response]:
    """Return the new responses, but the old one where the new one is unfinished and the old is not."""
    before = {(r.prompt_id, r.index): r for r in old}
    pairs = [(before[r.prompt_id, r.index], r) for r in new]
    rows = [was if was.is_finished and not r.is_finished else r for was, r in pairs]
    stayed = sum(was is row for (was, _), row in zip(pairs, rows, strict=True))
    still = sum(not row.is_finished for row in rows)
    drops = (Drop("cut off: the response before it stays", stayed),
             Drop("cut off, as the one before it", still))  # fmt: skip
    kept = len(new) - stayed - still
    found = tuple(drop for drop in drops if drop.count)
    return Filtered(rows, (Funnel("finished responses", len(new), kept, found),))


def compared(
    conversations: Sequence[Conversation], new: Sequence[Response], old: Sequence[Response]
) -> list[Improved]:
    """Return what R_PIT reads: each new response over the old one."""
    turns = {c.id: c.turns for c in conversations}
    before = {(r.prompt_id, r.index): r for r in old}
    pairs = ((r, before[r.prompt_id, r.index]) for r in new)
    return [
        Improved(r.prompt_id, r.index, turns[r.prompt_id], r.text, was.text,
                 finished=r.is_finished, reference_finished=was.is_finished)
        for r, was in pairs
    ]  # fmt: skip


def wins(gain: float | None, min_gap: float, *, finished: bool, was_finished: bool) -> bool:
    """Tell whether a step wins; a chain that is to stop by itself ends before one that does not.

    A finished response wins against an unfinished one, and never loses to one.

    Args:
        gain: of the step, as `Gain.won` tells; None: it could not be read.
        min_gap: what the gain must be above.
        finished: the new response came to its end.
        was_finished: the old one did.

    >>> wins(0.5, 0.0, finished=True, was_finished=True)
    True
    >>> wins(0.5, 0.0, finished=False, was_finished=True)
    False
    """
    if finished != was_finished:
        return finished
    return gain is not None and gain > min_gap


def stopped(
    start: Sequence[Response],
    steps: Sequence[Sequence[Response]],
    gains: Sequence[Sequence[Gain]],
    min_gap: float,
) -> list[Response]:
    """Return what each chain holds before its first step that does not win.

    Args:
        start: y_0 of each chain.
        steps: y_1, y_2, ... of the chains, step by step.
        gains: of each step.
        min_gap: what a gain must be above.
    """
    held = {(r.prompt_id, r.index): r for r in start}
    going = set(held)
    for new, told in zip(steps, gains, strict=True):
        better = {(r.prompt_id, r.index): r for r in new}
        won = {(g.prompt_id, g.index): g.won for g in told}
        going = {
            key
            for key in going
            if wins(won[key], min_gap, finished=better[key].is_finished,
                    was_finished=held[key].is_finished)
        }  # fmt: skip
        held |= {key: better[key] for key in going}
    return list(held.values())
