"""What responses are really worth, for measurement alone: by the oracle, or by a judge of its own.

The tiny world has an oracle; elsewhere the truth is the verdict of a judge that takes no part in
the training, or people's rankings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from selfimprove.data.demonstrations import read_ranked
from selfimprove.data.read import TINY
from selfimprove.data.sources import Source, distinct
from selfimprove.data.user_prompts import tiny_split
from selfimprove.seeds import rng
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.oracle import score
from selfimprove.tiny.seeds_of_world import draft
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
"""The least that the tiny world's oracle gives."""
ORACLE_HIGHEST: Final = 5.0
"""The most that it gives."""
_DRAFTS = 4
_TINY_PROMPTS = 200


@dataclass(frozen=True, slots=True)
class Rated:
    """A response with what it is really worth, and only compared within its prompt."""

    response: Response
    truth: float
    source: str = ""
    """The format and file that it is from."""


def oracle_scores(responses: Sequence[Response]) -> list[Verdict]:
    """Score responses to prompts of the tiny world, 0 to 5; an unfinished one has the lowest score.

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
    told = [(source, *one) for source in sources for one in _told(source, seed)]
    names = distinct(prompt_id for _, prompt_id, _ in told)  # two files may count their rows alike
    return [
        Rated(replace(row.response, prompt_id=name), row.truth, named)
        for name, (source, _, rows) in zip(names, told, strict=True)
        for named in (f"{source.format} {Path(source.source).name}".strip(),)
        for row in rows
    ]


def _told(source: Source, seed: int) -> Iterator[tuple[str, list[Rated]]]:
    """Yield each prompt of a source with its rated responses."""
    if source.format == TINY:
        yield from _tiny(source, seed)
        return
    for row in read_ranked((source,)).rows:
        yield (
            row.id,
            [
                _rated(row.id, row.prompt, rank, text, -float(rank))
                for rank, text in enumerate(row.responses)
            ],
        )


def _tiny(source: Source, seed: int) -> Iterator[tuple[str, list[Rated]]]:
    split = source.source
    random = rng(seed, "judging set", split)
    made = enumerate(instructions(tiny_split(split), source.end or _TINY_PROMPTS))
    for number, asked in source.part(made):
        name, rated = f"{TINY}-{split}-{number}", []
        for index in range(_DRAFTS):
            text = draft(asked, random)
            rated.append(_rated(name, asked.text, index, text, float(score(asked.text, text))))
        yield name, rated


def _rated(prompt_id: str, prompt: str, index: int, text: str, truth: float) -> Rated:
    return Rated(Response(prompt_id, prompt, index, text, "stop", 0), truth)


def responses_of(rated: Sequence[Rated]) -> list[Response]:
    """Return the responses alone, as a judge sees them."""
    return [r.response for r in rated]
