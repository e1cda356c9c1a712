"""Seed data: demonstrations (IFT), judging examples (EFT) and responses that people ranked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from selfimprove.data import oasst
from selfimprove.data.dialogues import parsed, prompt_of, response_of
from selfimprove.data.llmbar import DecidedMatch, read_decided_matches
from selfimprove.data.overlap import same_text
from selfimprove.data.read import TINY
from selfimprove.data.replies import ONLY_REASONING, without_reasoning
from selfimprove.data.row import RowError, value
from selfimprove.data.sources import Source, distinct
from selfimprove.data.user_prompts import tiny_split
from selfimprove.errors import DataError
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.types import Demonstration, Ranked

__all__ = ["read_demonstrations", "read_ranked", "read_reviews"]

_TINY_COUNT = 400

_log = logging.getLogger(__name__)

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
        elif source.format == "oasst":
            trees = list(parsed(source.source, "oasst", oasst.parse))
            best, funnel = _best_replies(trees)
            rows += source.part(_others(best, apart))
            funnels.append(funnel)
        else:
            lost = Counter[str]()
            told = list(source.part(_others(_pairs(source, lost), apart)))
            rows += told
            funnels += _lost(source, len(told), lost)
    return Filtered(_named(rows), tuple(funnels))


def _others(rows: Iterable[Row], apart: Collection[str]) -> Iterator[Row]:
    """Yield the rows whose prompt is none of `apart`."""
    return (row for row in rows if not apart or same_text(row.prompt) not in apart)


def _pairs(source: Source, lost: Counter[str]) -> Iterator[Demonstration]:
    """Yield prompts with replies; `lost` counts those of which the reply is nothing but reasoning."""
    name = source.format or "prompts"

    def parse(fields: Mapping[str, Any]) -> Demonstration:
        return Demonstration(name, name, prompt_of(fields), without_reasoning(response_of(fields)))

    for number, row in enumerate(parsed(source.source, name, parse)):
        if row.response:
            yield replace(row, id=f"{name}-{number}")
        else:
            lost[ONLY_REASONING] += 1


def _lost(source: Source, kept: int, lost: Counter[str]) -> list[Funnel]:
    """Return a funnel of a file of which rows were lost; none where there was no such row."""
    name = f"replies of {Path(source.source).name}"
    return [_funnel(name, kept + lost.total(), kept, lost)] if lost else []


def _best_replies(trees: Sequence[oasst.Tree]) -> tuple[list[Demonstration], Funnel]:
    """Keep English trees with a reply of rank 0 (papers' IFT)."""
    kept, dropped = [], Counter[str]()
    for tree in trees:
        if tree.language != oasst.LANGUAGE:
            dropped["not English"] += 1
        elif not tree.replies or tree.replies[0].rank != 0:
            dropped["no usable reply of rank 0"] += 1
        else:
            kept.append(
                Demonstration(f"oasst-{tree.id}", "oasst", tree.prompt, tree.replies[0].text)
            )
    return kept, _funnel("trees with a best reply", len(trees), len(kept), dropped)


def _funnel(name: str, given: int, kept: int, dropped: Counter[str]) -> Funnel:
    return Funnel(name, given, kept, tuple(Drop(w, n) for w, n in dropped.most_common()))


def _named(rows: Sequence[Demonstration]) -> list[Demonstration]:
    names = distinct(row.id for row in rows)
    return [replace(row, id=name) for row, name in zip(rows, names, strict=True)]


def read_reviews(sources: Sequence[Source], seed: int) -> list[Demonstration]:
    """Read judging examples: what a judge is asked, and what it should say.

    A split of the tiny world gives reviews by its careless people; any other source is a file of
    prompts and responses, such as the `eft.jsonl` that `selfimprove data seeds` writes.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    rows: list[Demonstration] = []
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
            lost = Counter[str]()
            rows += source.part(_pairs(source, lost))
            if lost:
                _log.warning(
                    "%s: %d rows left out: %s", source.source, lost.total(), ", ".join(lost)
                )
    return _named(rows)


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
        if source.format == "oasst":
            found, funnel = _ranked_trees(list(parsed(source.source, "oasst", oasst.parse)))
            funnels.append(funnel)
        elif source.format == "llmbar":
            found = [_ranked_match(one) for one in read_decided_matches(Path(source.source))]
        else:
            told = parsed(source.source, source.format or "prompts", _ranked_row)
            named = [replace(row, id=row.id or f"ranked-{n}") for n, row in enumerate(told)]
            found = [row for row in named if all(row.responses)]
            lost = Counter({ONLY_REASONING: len(named) - len(found)})
            funnels += _lost(source, len(found), +lost)
        rows += source.part(_others(found, apart))
    names = distinct(row.id for row in rows)
    named = [replace(row, id=name) for row, name in zip(rows, names, strict=True)]
    return Filtered(named, tuple(funnels))


def _ranked_trees(trees: Sequence[oasst.Tree]) -> tuple[list[Ranked], Funnel]:
    kept, dropped = [], Counter[str]()
    for tree in trees:
        if tree.language != oasst.LANGUAGE:
            dropped["not English"] += 1
        elif len(tree.ranked) < 2:
            dropped["fewer than two ranked replies"] += 1
        else:
            kept.append(Ranked(f"oasst-{tree.id}", "oasst", tree.prompt, tree.ranked))
    return kept, _funnel("trees with ranked replies", len(trees), len(kept), dropped)


def _ranked_match(one: DecidedMatch) -> Ranked:
    """Return a match as a ranking of two."""
    told = one.match.first, one.match.second
    best_first = told if one.first_is_better else told[::-1]
    return Ranked(one.match.id, "llmbar", one.match.prompt, best_first)


def _ranked_row(fields: Mapping[str, Any]) -> Ranked:
    """Read any rated data: `responses` with `ranks` (0 the best) or `scores` (high is good)."""
    responses = value(fields, "responses", "completions")
    ranks = fields.get("ranks")
    order = ranks if ranks is not None else [-s for s in value(fields, "scores", "ratings")]
    if len(order) != len(responses) or len(responses) < 2:
        raise RowError("needs two or more 'responses', and as many 'ranks' or 'scores'")
    told = dict.fromkeys(sorted(order))
    best_first = [next(r for r, o in zip(responses, order, strict=True) if o == k) for k in told]
    if len(best_first) < 2:
        raise RowError("ranks all its responses alike")
    said = tuple(without_reasoning(reply) for reply in best_first)
    return Ranked(str(fields.get("id") or ""), "ranked", prompt_of(fields), said)
