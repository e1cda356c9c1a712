"""A run with responses, verdicts and a pair, as many as one likes, without any model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from selfimprove.rows import Batch, Filtered, Funnel
from selfimprove.store import Run
from selfimprove.types import Response

HOSTILE = "</script><img src=x onerror=alert(1)> <b>bold</b> {{ 7 * 7 }} \u2028 end"


@dataclass(frozen=True, slots=True)
class Scored:
    prompt_id: str
    index: int
    vote: int
    score: float | None
    unscored: str | None


@dataclass(frozen=True, slots=True)
class Pair:
    prompt: str
    chosen: str
    rejected: str


def respond(chunks: list[list[int]], length: int) -> Iterator[Batch[Response]]:
    """Text 7 is hostile; each is longer in tokens than the one before."""
    for chunk in chunks:
        rows = [Response(f"p{i // 4}", f"Prompt {i // 4} of an owl", i % 4,
                         HOSTILE if i == 7 else f"Text {i}: " + "word " * length, "stop", 10 + i)
                for i in chunk]  # fmt: skip
        yield Batch(rows)


def judge(responses: list[Response]) -> Filtered[Scored]:
    """Scores go from 0 to 4; one in fifty cannot be read."""
    scored = [Scored(r.prompt_id, r.index, 0, None if i % 50 == 49 else float(i % 5), None)
              for i, r in enumerate(responses)]  # fmt: skip
    return Filtered(scored, ())


def pair(responses: list[Response], verdicts: list[Scored]) -> Filtered[Pair]:
    first = list(responses)[:4]
    pairs = [Pair(first[0].prompt, first[3].text, first[0].text)]
    return Filtered(pairs, (Funnel("pairs", len(verdicts), 1),))


def made(root: Path, count: int, length: int = 3) -> Path:
    """Make a run with `count` responses, four a prompt, their verdicts and one pair."""
    with closing(Run(root)) as run:
        run.write("recipe.json", {"method": "own.py:METHOD", "model": "tiny", "seed": 0})
        responses = run.sharded("m1-candidates", respond, range(count), length, shard_items=5_000)
        verdicts = run.rows("m1-verdicts", judge, responses)
        run.rows("m1-pairs", pair, responses, verdicts)
    return root
