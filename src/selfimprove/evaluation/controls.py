"""Control arms: the same training on paths chosen otherwise than by the vote.

`unfiltered` trains on every path: does the vote matter, or would any fine-tuning do?
`gold` trains on the paths that reach the gold answer: the upper bound of any such filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from selfimprove.judges.answers import matches
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.types import Labelled, ReasoningPath

__all__ = ["Control", "kept_by_gold", "unfiltered"]

Control = Literal["unfiltered", "gold"]


def unfiltered(paths: Sequence[ReasoningPath]) -> Filtered[ReasoningPath]:
    """Keep every path that states an answer at all, and came to its end: half a text is not imitated."""
    stated = [p for p in paths if p.answer is not None]
    kept = [p for p in stated if p.is_finished]
    dropped = (
        Drop("states no answer", len(paths) - len(stated)),
        Drop("cut off within its answer's sentence", len(stated) - len(kept)),
    )
    return Filtered(kept, (Funnel("unfiltered", len(paths), len(kept), dropped),))


def kept_by_gold(
    paths: Sequence[ReasoningPath], labelled: Sequence[Labelled]
) -> Filtered[ReasoningPath]:
    """Keep the paths that reach the gold answer, and their end."""
    of = {item.question.id: item for item in labelled}
    right = [p for p in paths if _is_right(p, of[p.question_id])]
    kept = [p for p in right if p.is_finished]
    dropped = (
        Drop("not the gold answer", len(paths) - len(right)),
        Drop("cut off within its answer's sentence", len(right) - len(kept)),
    )
    return Filtered(kept, (Funnel("kept by gold", len(paths), len(kept), dropped),))


def _is_right(path: ReasoningPath, item: Labelled) -> bool:
    answer = path.answer
    return answer is not None and matches(answer, item.gold, item.question.answer_type)
