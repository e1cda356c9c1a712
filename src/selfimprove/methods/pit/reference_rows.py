"""What M_P, M_PIT and R_PIT are asked where it is measured whether they read the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from selfimprove.data.improvement_prompts import improvement_template, rendered
from selfimprove.judges.reward_rows import Improved
from selfimprove.methods.pit.inference import Conversation
from selfimprove.rows import Batch
from selfimprove.sampling.conversation import as_asked, in_words
from selfimprove.sampling.engine import Engine
from selfimprove.sampling.served import Served
from selfimprove.types import Prompt, Request, Response

__all__ = [
    "Expected",
    "asked_plainly",
    "asked_to_improve",
    "by_prompt",
    "expected",
    "first_ones",
    "grid",
]


@dataclass(frozen=True, slots=True)
class Expected:
    """How probable a text is to M_PIT behind one reference."""

    prompt_id: str
    index: int
    """Of the reference, among the prompt's."""
    nats: float
    """The text's log-probability."""


def first_ones(prompts: Sequence[Conversation], most: int) -> list[Conversation]:
    """Return the prompts that are looked at."""
    return list(prompts)[:most]


def asked_plainly(prompts: Sequence[Conversation]) -> list[Request]:
    """Return what M_P is asked."""
    return [Request(c.id, in_words(c.turns), 0, c.turns) for c in prompts]


def asked_to_improve(
    prompts: Sequence[Conversation], held: Sequence[Response], which: str, template: str
) -> list[Request]:
    """Return what M_PIT is asked: to improve the prompt's own response, another one, or a placebo.

    Args:
        prompts: that are looked at.
        held: responses of M_P to each.
        which: own is the first response, other the second, placebo the first one of the next prompt.
        template: of the request.
    """
    words, of = improvement_template(template), by_prompt(held)
    asked = list(prompts)
    later = [*asked[1:], asked[0]]
    chosen = {
        "own": [of[c.id][0] for c in prompts],
        "other": [of[c.id][1] for c in prompts],
        "placebo": [of[c.id][0] for c in later],
    }[which]
    return [
        Request(c.id, in_words(c.turns), 0, rendered(words, c.turns, reference.text))
        for c, reference in zip(prompts, chosen, strict=True)
    ]


def by_prompt(rows: Sequence[Response]) -> dict[str, list[Response]]:
    """Return rows that stand prompt by prompt, by prompt."""
    return {key: list(some) for key, some in groupby(rows, key=lambda row: row.prompt_id)}


def grid(prompts: Sequence[Conversation], held: Sequence[Response]) -> list[Improved]:
    """Return every response of a prompt as a candidate over every one as a reference."""
    turns = {c.id: c.turns for c in prompts}
    rows = []
    for key, some in by_prompt(held).items():
        if any(r.finish == "error" for r in some):
            continue
        pairs = ((candidate, reference) for candidate in some for reference in some)
        rows += [
            Improved(key, index, turns[key], y.text, ref.text, finished=y.is_finished,
                     reference_finished=ref.is_finished)
            for index, (y, ref) in enumerate(pairs)
        ]  # fmt: skip
    return rows


def expected(
    chunks: Sequence[Sequence[Response]],
    prompts: Sequence[Conversation],
    held: Sequence[Response],
    pit: Served,
    template: str,
) -> Iterator[Batch[Expected]]:
    """Take the log-probability of each text behind each reference of its prompt, in the references' order.

    Raises:
        EngineError: a reference and a text do not fit the model's context.
    """
    words, of = improvement_template(template), by_prompt(held)
    turns = {c.id: c.turns for c in prompts}

    def scored(by: Engine, chunk: Sequence[Response]) -> Batch[Expected]:
        asked = [
            (r, index, rendered(words, turns[r.prompt_id], reference.text))
            for r in chunk
            for index, reference in enumerate(of[r.prompt_id])
        ]
        pairs = [
            (Prompt(f"{r.prompt_id}#{index}", as_asked(x, chat=pit.chat)), r.text)
            for r, index, x in asked
        ]
        told = zip(asked, by.logprobs(pairs), strict=True)
        return Batch([Expected(r.prompt_id, index, sum(nats)) for (r, index, _), nats in told],
                    engine=by.identity)  # fmt: skip

    return pit.each(chunks, scored)
