"""Seed data: demonstrations (IFT), judging examples (EFT) and responses that people ranked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar

from selfimprove.data import oasst
from selfimprove.data.dialogues import parsed, prompt_of, response_of
from selfimprove.data.llmbar import DecidedMatch, read_decided_matches
from selfimprove.data.overlap import same_text
from selfimprove.data.read import TINY
from selfimprove.data.replies import ONLY_REASONING, without_reasoning
from selfimprove.data.row import RowError, UnusableRow, value
from selfimprove.data.sources import Source, distinct
from selfimprove.data.user_prompts import tiny_split
from selfimprove.errors import DataError
from selfimprove.rows import Filtered, Funnel
from selfimprove.types import Demonstration, Ranked

__all__ = ["read_demonstrations", "read_ranked", "read_reviews"]

_TINY_COUNT = 400
_NOT_ENGLISH: Final = "not English"

Row = TypeVar("Row", Demonstration, Ranked)


def read_demonstrations(
    sources: Sequence[Source], seed: int, apart: Collection[str] = ()
) -> Filtered[Demonstration]:
    """Read instructions with good responses; of trees, English first turns with their best reply.

    Args:
        sources: files, hub ids or splits of the tiny world.
        seed: of what the tiny world writes.
        apart: prompts that are passed over before `limit` counts, as `same_text` gives them.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    rows: list[Demonstration] = []
    funnels: list[Funnel] = []
    for source in sources:
        if source.format == TINY:
            from selfimprove.tiny.seeds_of_world import demonstrations

            split = tiny_split(source.source)
            rows += source.part(demonstrations(split, source.end or _TINY_COUNT, seed))
        else:
            found = _part(source, *_answered(source), apart)
            rows += found.rows
            funnels += found.funnels
    return Filtered(_named(rows), tuple(funnels))


def _part(
    source: Source, name: str, rows: Iterable[Row | UnusableRow], apart: Collection[str] = ()
) -> Filtered[Row]:
    """Return what can be used of a source's part, but for prompts that are passed over."""
    return source.usable(
        name,
        (
            row
            for row in rows
            if isinstance(row, UnusableRow) or not apart or same_text(row.prompt) not in apart
        ),
    )


def _answered(source: Source) -> tuple[str, Iterator[Demonstration | UnusableRow]]:
    """Return what a file holds of prompts with a reply, and what it is called."""
    if source.format == "oasst":
        return "trees with a best reply", map(_best_reply, _trees(source))
    return _replies_of(source), _pairs(source)


def _replies_of(source: Source) -> str:
    return f"replies of {Path(source.source).name}"


def _trees(source: Source) -> Iterator[oasst.Tree]:
    return parsed(source.source, "oasst", oasst.parse, source.reshape)


def _pairs(source: Source) -> Iterator[Demonstration | UnusableRow]:
    """Yield prompts with replies, and what has none outside of reasoning."""
    name = source.format or "prompts"

    def parse(fields: Mapping[str, Any]) -> tuple[str, str]:
        return prompt_of(fields), without_reasoning(response_of(fields))

    for number, (prompt, response) in enumerate(parsed(source.source, name, parse, source.reshape)):
        if response:
            yield Demonstration(f"{name}-{number}", name, prompt, response)
        else:
            yield UnusableRow(ONLY_REASONING)


def _best_reply(tree: oasst.Tree) -> Demonstration | UnusableRow:
    """Return an English tree's reply of rank 0 (papers' IFT)."""
    if tree.language != oasst.LANGUAGE:
        return UnusableRow(_NOT_ENGLISH)
    if not tree.replies or tree.replies[0].rank != 0:
        return UnusableRow("no usable reply of rank 0")
    return Demonstration(f"oasst-{tree.id}", "oasst", tree.prompt, tree.replies[0].text)


def _named(rows: Sequence[Demonstration]) -> list[Demonstration]:
    names = distinct(row.id for row in rows)
    return [replace(row, id=name) for row, name in zip(rows, names, strict=True)]


def read_reviews(sources: Sequence[Source], seed: int) -> Filtered[Demonstration]:
    """Read judging examples: what a judge is asked, and what it should say.

    A split of the tiny world gives reviews by its careless people; any other source is a file of
    prompts and responses, such as the `eft.jsonl` that `selfimprove data seeds` writes.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    rows: list[Demonstration] = []
    funnels: list[Funnel] = []
    for source in sources:
        if source.format == TINY:
            from selfimprove.tiny.seeds_of_world import reviews

            split = tiny_split(source.source)
            if source.skip:
                raise DataError(
                    f"tiny:{split}: its reviews are balanced as a whole: use limit, no slice"
                )
            rows += reviews(split, source.limit or _TINY_COUNT, seed)
        else:
            found = _part(source, _replies_of(source), _pairs(source))
            rows += found.rows
            funnels += found.funnels
    return Filtered(_named(rows), tuple(funnels))


def read_ranked(sources: Sequence[Source], apart: Collection[str] = ()) -> Filtered[Ranked]:
    """Read prompts with responses that people ranked.

    Trees (`oasst`), LLMBar's matches (`llmbar`: two outputs, and which of them is better), or rows
    with `responses` and `ranks` or `scores`.

    Args:
        sources: files or hub ids.
        apart: prompts that are passed over before `limit` counts, as `same_text` gives them.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    rows: list[Ranked] = []
    funnels: list[Funnel] = []
    for source in sources:
        found = _part(source, *_rated(source), apart)
        rows += found.rows
        funnels += found.funnels
    names = distinct(row.id for row in rows)
    named = [replace(row, id=name) for row, name in zip(rows, names, strict=True)]
    return Filtered(named, tuple(funnels))


def _rated(source: Source) -> tuple[str, Iterator[Ranked | UnusableRow]]:
    """Return what a file holds of prompts with ranked replies, and what it is called."""
    if source.format == "oasst":
        return "trees with ranked replies", map(_ranked_tree, _trees(source))
    if source.format == "llmbar":
        return _replies_of(source), map(_ranked_match, read_decided_matches(Path(source.source)))
    return _replies_of(source), _rankings(source)


def _ranked_tree(tree: oasst.Tree) -> Ranked | UnusableRow:
    if tree.language != oasst.LANGUAGE:
        return UnusableRow(_NOT_ENGLISH)
    if len(tree.ranked) < 2:
        return UnusableRow("fewer than two ranked replies")
    return Ranked(f"oasst-{tree.id}", "oasst", tree.prompt, tree.ranked)


def _ranked_match(one: DecidedMatch) -> Ranked:
    """Return a match as a ranking of two."""
    told = one.match.first, one.match.second
    best_first = told if one.first_is_better else told[::-1]
    return Ranked(one.match.id, "llmbar", one.match.prompt, best_first)


def _rankings(source: Source) -> Iterator[Ranked | UnusableRow]:
    """Yield what is ranked in a file, and rows of which too little is."""
    read = parsed(source.source, source.format or "prompts", _ranked_row, source.reshape)
    for number, row in enumerate(read):
        if len(row.responses) < 2:
            yield UnusableRow("fewer than two replies that differ in words and rank")
        else:
            yield replace(row, id=row.id or f"ranked-{number}")


def _ranked_row(fields: Mapping[str, Any]) -> Ranked:
    """Read any rated data: `responses` with `ranks` (0 the best) or `scores` (high is good).

    A reply that is given twice has its best rank; of equal ranks the first reply stands.
    """
    responses, ranks = value(fields, "responses", "completions"), fields.get("ranks")
    told = value(fields, "scores", "ratings") if ranks is None else ranks
    whole = _holds(responses, str) and _holds(told, int | float) and len(told) == len(responses)
    if not whole or len(responses) < 2:
        raise RowError("needs two or more 'responses', and as many 'ranks' or 'scores'")
    order = [-score for score in told] if ranks is None else told
    if len(set(order)) < 2:
        raise RowError("ranks all its responses alike")
    said = [without_reasoning(reply).strip() for reply in responses]
    ranks_of: dict[str, Any] = {}
    for place in sorted(range(len(said)), key=lambda n: order[n]):
        if said[place]:
            ranks_of.setdefault(said[place], order[place])
    best_first: dict[Any, str] = {}
    for reply, rank in ranks_of.items():
        best_first.setdefault(rank, reply)
    return Ranked(
        str(fields.get("id") or ""), "ranked", prompt_of(fields), tuple(best_first.values())
    )


def _holds(values: object, kind: type | UnionType) -> bool:
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    return is_list and all(isinstance(one, kind) for one in values)  # type: ignore[attr-defined]
