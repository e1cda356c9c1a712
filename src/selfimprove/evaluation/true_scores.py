"""What responses are really worth, for measurement alone: by the oracle, or by a judge of its own.

The tiny world has an oracle; elsewhere the truth is the verdict of a judge that takes no part in
the training, or people's rankings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from selfimprove.data.demonstrations import read_ranked
from selfimprove.data.read import TINY
from selfimprove.data.sources import Source, distinct
from selfimprove.data.user_prompts import tiny_split
from selfimprove.evaluation.set_names import set_names
from selfimprove.seeds import rng
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.seeds_of_world import draft
from selfimprove.tiny.truth import score
from selfimprove.types import Response, Verdict
from selfimprove.unfinished import worth

__all__ = [
    "ORACLE_HIGHEST",
    "ORACLE_LOWEST",
    "Rated",
    "oracle_scores",
    "read_rated",
    "responses_of",
]

ORACLE_LOWEST: Final = 0.0
"""The least that the oracle of an embedded world gives."""
ORACLE_HIGHEST: Final = 5.0
"""The most that it gives."""
_DRAFTS = 4
_TINY_PROMPTS = 200


@dataclass(frozen=True, slots=True)
class Rated:
    """A response with what it is really worth, and only compared within its prompt."""

    response: Response
    truth: float
    set: str
    """The format and file that it is from, as no other source of the run is called."""
    known_by: Literal["oracle", "people"]
    """Who says what it is worth."""


def oracle_scores(responses: Sequence[Response]) -> list[Verdict]:
    """Score responses to prompts of an embedded world, 0 to 5; an unfinished one has the lowest score.

    One that a server failed to give has none.
    """
    return [
        Verdict(r.prompt_id, r.index, 0, None, "the server gave no response", "")
        if r.finish == "error"
        else Verdict(r.prompt_id, r.index, 0, _of_oracle(r), None, "")
        for r in responses
    ]


def _of_oracle(response: Response) -> float:
    told = float(score(response.prompt, response.text))
    return worth(told, response.is_finished, ORACLE_LOWEST) or ORACLE_LOWEST


def read_rated(sources: Sequence[Source], seed: int) -> list[Rated]:
    """Read held-out responses of known worth, on which judges are measured.

    A split of the tiny world gives drafts of every quality, scored by its oracle; a file of
    rankings gives its responses, the best with the highest truth.

    Raises:
        DataError: a file cannot be read or ranks nothing.
    """
    told = [
        (name, source, prompt)
        for name, source in zip(set_names(sources), sources, strict=True)
        for prompt in _told(source, seed)
    ]
    ids = distinct(prompt.id for _, _, prompt in told)  # two files may count their rows alike
    return [
        Rated(Response(id, prompt.text, index, text, "stop", 0), truth, name,
              "oracle" if source.format == TINY else "people")
        for id, (name, source, prompt) in zip(ids, told, strict=True)
        for index, (text, truth) in enumerate(prompt.responses)
    ]  # fmt: skip


class _Asked(NamedTuple):
    """A prompt, and its responses with what each is worth."""

    id: str
    text: str
    responses: list[tuple[str, float]]


def _told(source: Source, seed: int) -> Iterator[_Asked]:
    if source.format == TINY:
        yield from _tiny(source, seed)
        return
    for row in read_ranked((source,)).rows:
        yield _Asked(
            row.id, row.prompt, [(t, -float(rank)) for rank, t in enumerate(row.responses)]
        )


def _tiny(source: Source, seed: int) -> Iterator[_Asked]:
    split = source.source
    random = rng(seed, "judging set", split)
    made = enumerate(instructions(tiny_split(split), source.end or _TINY_PROMPTS))
    for number, asked in source.part(made):
        drafts = [draft(asked, random) for _ in range(_DRAFTS)]
        rated = [(text, float(score(asked.text, text))) for text in drafts]
        yield _Asked(f"{TINY}-{split}-{number}", asked.text, rated)


def responses_of(rated: Sequence[Rated]) -> list[Response]:
    """Return the responses alone, as a judge sees them."""
    return [r.response for r in rated]
