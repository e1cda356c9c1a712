"""Systems of a board against each other, draw by draw on the held-out prompts.

Who decides either gives points, and the higher ones win, or compares each two systems itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from selfimprove.evaluation.counted import Scores
from selfimprove.evaluation.head_to_head import HeadToHead, head_to_head, matches
from selfimprove.evaluation.win_rates import Answering, Comparing, mirrored
from selfimprove.judges.judge import outcome
from selfimprove.rows import Rows
from selfimprove.types import Match, ModelRef, Outcome, Response

__all__ = ["Meetings", "by_points", "outcomes_of"]


class Measured(Answering, Protocol):
    """A system as a board measured it."""

    @property
    def measured(self) -> ModelRef: ...


S = TypeVar("S", bound=Measured)


@dataclass
class Meetings(Generic[S]):
    """Comparisons of every two systems that are asked for, each made once."""

    judge: str
    """Who decides, in words."""
    set: str
    """The held-out prompts, in words."""
    points: Callable[[S], Scores]
    """Of a system's responses, where the judge gives some."""
    comparing: Comparing | None
    """The judge, where it compares."""
    systems: Callable[[], Sequence[S]]
    """All so far, in the order in which they were measured."""
    _told: dict[tuple[str, str], HeadToHead] = field(default_factory=dict)

    def between(self, first: S, second: S) -> HeadToHead:
        """Compare two systems.

        Raises:
            DataError: no match has a result, or the two did not answer the same prompts equally often.
        """
        names = first.name, second.name
        if names not in self._told:
            self._told[names] = head_to_head(self.outcomes(first, second), first=first.name,
                                             second=second.name, judge=self.judge, set=self.set)  # fmt: skip
        return self._told[names]

    def outcomes(self, first: S, second: S) -> Sequence[Outcome]:
        """Return how each match of two systems ends.

        Raises:
            DataError: the two did not answer the same prompts equally often.
        """
        if self.comparing is None:
            return by_points(first.responses, second.responses, self.points(first),
                             self.points(second))  # fmt: skip
        order = [system.name for system in self.systems()]
        if order.index(first.name) > order.index(second.name):
            return self.comparing.outcomes(first, second, current=first.measured).items
        # Each two are judged once, the later against the earlier.
        return mirrored(self.comparing.outcomes(second, first, current=second.measured))


def by_points(
    first: Rows[Response], second: Rows[Response], ours: Scores, theirs: Scores
) -> list[Outcome]:
    """Let the responses with more points win, draw by draw.

    Raises:
        DataError: the two did not answer the same prompts equally often.
    """
    return outcomes_of(matches(first.items, second.items), ours, theirs)


def outcomes_of(
    matched: Sequence[Match],
    first: Scores,
    second: Scores,
) -> list[Outcome]:
    """Let the higher score win each match; equal scores are a tie, a missing one is unscored.

    A match with an unfinished response is decided by that, whatever the scores.
    """
    outcomes = []
    for match in matched:
        # Draw i of a prompt meets draw i: the id ends in the draw's index.
        key = (match.prompt_id, int(match.id.rsplit("#", 1)[1]))
        outcomes.append(outcome(match, first.get(key), second.get(key)))
    return outcomes
