"""Scores by a trained reward model: plain rewards R_P(x, y), and gaps r_gap(x, y, y_ref).

A gap comes from R_PIT, or, as the paper's natural baseline, from the difference of two plain rewards.
Which of the two a folder gives follows from what its training noted in its config; asking a plain
reward model for gaps therefore needs `by_difference`, and asking R_PIT for that is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from selfimprove.data.improvement_prompts import ImprovementTemplate, rendered, unrendered
from selfimprove.data.preferences import Preference
from selfimprove.errors import EngineError
from selfimprove.judges.own_reward import reward_scorer
from selfimprove.judges.reward_rows import Gain, Improved, Scored, Scores
from selfimprove.rows import Batch
from selfimprove.sampling.conversation import Spoken, as_asked
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Served
from selfimprove.sampling.shortening import inside

if TYPE_CHECKING:
    from selfimprove.sampling.scalar_model import ScalarModel

__all__ = ["FOUR", "GapScorer", "four_of", "gap_gains", "gap_scores", "reward_scores"]

FOUR: Final = ("wl", "ww", "ll", "lw")
"""The gaps of one preference, by candidate and reference: w chosen, l rejected."""

_TOO_LONG: Final = "longer than the reward model's context"


def four_of(preferences: Sequence[Preference]) -> list[Improved]:
    """Return the four gaps to be read of each preference; `index` is the place in `FOUR`."""
    told = []
    for p in preferences:
        text = {"w": p.chosen, "l": p.rejected}
        told += [
            Improved(p.id, i, p.prompt, text[pair[0]], text[pair[1]]) for i, pair in enumerate(FOUR)
        ]
    return told


def gap_scores(
    chunks: Sequence[Sequence[Improved]],
    model: Served,
    by_difference: bool = False,
) -> Iterator[Batch[Scored]]:
    """Score how much better each candidate is than its reference, chunk by chunk.

    Raises:
        EngineError: the folder holds no reward model, or not the kind that is asked for.
    """
    scorer = model.scorer(partial(GapScorer, by_difference=by_difference))
    for chunk in chunks:
        yield Batch(_told(chunk, scorer.told(chunk)), engine=scorer.identity)


def gap_gains(
    chunks: Sequence[Sequence[Improved]], model: Served, by_difference: bool = False
) -> Iterator[Batch[Gain]]:
    """Score by how much each candidate wins over its reference, chunk by chunk.

    Raises:
        EngineError: the folder holds no reward model, or not the kind that is asked for.
    """
    scorer = model.scorer(partial(GapScorer, by_difference=by_difference))
    for chunk in chunks:
        yield Batch(scorer.gains(chunk), engine=scorer.identity)


def reward_scores(chunks: Sequence[Sequence[Improved]], model: Served) -> Iterator[Batch[Scored]]:
    """Score each candidate by itself with a plain reward model, chunk by chunk.

    Raises:
        EngineError: the folder holds no plain reward model.
    """
    scorer = model.scorer(reward_scorer)
    for chunk in chunks:
        yield Batch(_told(chunk, scorer.told(chunk)), engine=scorer.identity)


def _told(chunk: Sequence[Improved], told: Scores) -> list[Scored]:
    return [
        Scored(row.prompt_id, row.index, score, _TOO_LONG if score is None else None)
        for row, score in zip(chunk, told.scores, strict=True)
    ]


@final
class GapScorer:
    """A gap reward model in memory; or a plain one, whose differences are then the gaps."""

    def __init__(self, path: Path, engine: EngineConfig, *, by_difference: bool = False) -> None:
        self._read: Callable[[Sequence[Improved]], Scores]
        if by_difference:
            plain = reward_scorer(path, engine)
            self._read, self.identity = plain.differences, plain.identity
            return
        from selfimprove.sampling.scalar_model import load_scalar_model

        model = load_scalar_model(path, engine)
        self._read, self.identity = _gap_reader(path, model), model.identity

    def told(self, rows: Sequence[Improved]) -> Scores:
        """Return r_gap(x, y, y_ref) of each candidate.

        What 0 means is not fixed by the training: `gains` tells.
        """
        return self._read(rows)

    def gains(self, rows: Sequence[Improved]) -> list[Gain]:
        """Return by how much each candidate wins over its reference."""
        # Side by side, as both are read behind the same request.
        both = [told for row in rows for told in (row, _over_itself(row))]
        scores = self.told(both).scores
        return [
            Gain(row.prompt_id, row.index, gap, still,
                 _TOO_LONG if gap is None or still is None else None)
            for row, gap, still in zip(rows, scores[::2], scores[1::2], strict=True)
        ]  # fmt: skip


def _over_itself(row: Improved) -> Improved:
    return replace(row, candidate=row.reference, finished=row.reference_finished)


def _gap_reader(path: Path, model: ScalarModel) -> Callable[[Sequence[Improved]], Scores]:
    if model.settings.get("reads") != "gap":
        raise EngineError(
            f"{path} is no gap reward model: train one, or take the difference of plain rewards"
        )
    chat, template = model.settings["chat"], ImprovementTemplate(**model.settings["template"])
    within = inside(partial(unrendered, template), partial(rendered, template))

    def told(rows: Sequence[Improved]) -> Scores:
        asked = (as_asked(rendered(template, r.prompt, r.reference), chat=chat) for r in rows)
        pairs = zip(asked, rows, strict=True)
        scores, tokens = model.read(
            [[Spoken(x, r.candidate, r.finished)] for x, r in pairs], within
        )
        return Scores([score for (score,) in scores], tokens)

    return told
