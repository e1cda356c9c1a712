"""Systems under a judge that gives no points: it compares them, and their worth is a share of wins.

Draw i of a system meets draw i of the other on every held-out prompt, in both orders; a win that one
order alone sees is a tie, and ties count half, as AlpacaEval counts. So one draw a prompt suffices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from selfimprove.evaluation.head_to_head import HeadToHead, matches
from selfimprove.judges.judge import asked_judge, compare
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.rows import Rows
from selfimprove.store import Run
from selfimprove.types import ModelRef, Outcome, Response

__all__ = ["Comparing", "from_even", "headline_of_wins", "mirrored", "score_of_wins"]

_EVEN: Final = 0.5


class Answering(Protocol):
    """A system as it is compared here."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> ModelRef: ...
    @property
    def responses(self) -> Rows[Response]: ...


@dataclass(frozen=True, slots=True)
class Comparing:
    """A pairwise judge at work in a run; each comparison is a step, made once."""

    steps: Run
    judge: JudgeConfig
    shard_matches: int
    """Matches a shard; a kill loses at most one shard."""

    def outcomes(
        self, first: Answering, second: Answering, *, of: str = "", current: ModelRef
    ) -> Rows[Outcome]:
        """Let the judge decide every match of two systems, in both orders.

        Args:
            first: a win is its win.
            second: its opponent.
            of: which of their responses meet, where it is not those that are reported.
            current: the model that judges where the judge is `self`.

        Raises:
            DataError: the two did not answer the same prompts equally often.
            JudgeError: too many matches got no result.
        """
        step = "-".join([*([of] if of else []), first.name, "against", second.name])
        pairs = self.steps.rows(f"{step}-matches", matches, first.responses, second.responses)
        by = asked_judge(self.steps, self.judge, current)
        return self.steps.sharded(step, compare, pairs, by, self.judge, self.steps.seed,
                                  shard_items=self.shard_matches)  # fmt: skip


def mirrored(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the same matches as the other system sees them."""
    return [
        replace(
            o,
            preference=None if o.preference is None else 1 - o.preference,
            first_length=o.second_length,
            second_length=o.first_length,
        )
        for o in outcomes
    ]


def from_even(told: HeadToHead) -> dict[str, Any]:
    """Return how far the win rate is from that of an even match, with its interval."""
    low, high = told.win_rate_interval
    return {
        "difference": told.win_rate - _EVEN,
        "interval": [low - _EVEN, high - _EVEN],
        "wins": told.wins,
        "losses": told.losses,
        "ties": told.ties,
    }


def score_of_wins(told: HeadToHead, versus_base: HeadToHead | None) -> dict[str, Any]:
    """Return an arm's win rate against the arm before it as its score, as JSON data."""
    return {
        "set": told.set,
        "domain": "in",
        "mode": "sampled",
        "metric": "win rate",
        "against": told.second,
        "value": told.win_rate,
        "interval": list(told.win_rate_interval),
        "n": told.prompts,
        "unanswered": told.unscored,
        "versus_base": versus_base and from_even(versus_base),
    }


def headline_of_wins(
    told: HeadToHead | None, *, base: str, on: str, prompts: int
) -> dict[str, Any]:
    """Return the headline: the win rate of what the method ended with against where it started.

    Args:
        told: the comparison; None where the method ended with the base itself, which is even.
        base: where it started.
        on: the held-out prompts, in words.
        prompts: how many there are.
    """
    found = from_even(told) if told else {"difference": 0.0, "interval": [0.0, 0.0]}
    return {
        "metric": f"win rate against {base}",
        "set": on,
        "arm": told.first if told else base,
        "before": _EVEN,
        "after": told.win_rate if told else _EVEN,
        "difference": found["difference"],
        "interval": found["interval"],
        "n": told.prompts if told else prompts,
        "unit": "wins",
    }
