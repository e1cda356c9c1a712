"""Control arms: the same training on paths chosen otherwise than by the vote.

`unfiltered` trains on every path: does the vote matter, or would any fine-tuning do?
`gold` trains on the paths that reach the gold answer: the upper bound of any such filter.
A limit of paths a question holds for them as for the method: they train on as much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from selfimprove.answers.answers import matches
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.types import Labelled, ReasoningPath

__all__ = ["Control", "kept_by_gold", "unfiltered"]

Control = Literal["unfiltered", "gold"]


def unfiltered(paths: Sequence[ReasoningPath], most: int | None) -> Filtered[ReasoningPath]:
    """Keep every path that states an answer at all, at most so many a question."""
    stated = [p for p in paths if p.answer is not None]
    return _ended("unfiltered", Drop("states no answer", len(paths) - len(stated)), stated, most)


def kept_by_gold(
    paths: Sequence[ReasoningPath], labelled: Sequence[Labelled], most: int | None
) -> Filtered[ReasoningPath]:
    """Keep the paths that reach the gold answer, at most so many a question."""
    of = {item.question.id: item for item in labelled}
    right = [p for p in paths if _is_right(p, of[p.question_id])]
    return _ended("kept by gold", Drop("not the gold answer", len(paths) - len(right)), right, most)


def _ended(
    name: str, first: Drop, chosen: Sequence[ReasoningPath], most: int | None
) -> Filtered[ReasoningPath]:
    """Keep of the chosen ones those that came to their end: half a text is not imitated."""
    ended = [p for p in chosen if p.is_finished]
    seen: Counter[str] = Counter()
    kept = []
    for path in ended:
        seen[path.question_id] += 1
        if most is None or seen[path.question_id] <= most:
            kept.append(path)
    dropped = [first, Drop("cut off within its answer's sentence", len(chosen) - len(ended))]
    if most is not None:
        dropped.append(Drop("above max_per_question", len(ended) - len(kept)))
    total = first.count + len(chosen)
    return Filtered(kept, (Funnel(name, total, len(kept), tuple(dropped)),))


def _is_right(path: ReasoningPath, item: Labelled) -> bool:
    answer = path.answer
    return answer is not None and matches(answer, item.gold, item.question.answer_type)
