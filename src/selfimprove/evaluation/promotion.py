"""Whether a trained model takes its parent's place: head-to-head by the parent's own judgement.

The paper stops early by such comparisons with a stronger model (Sec. 3.1); here the judge is the one
that made the training pairs, or any other that the recipe names, on prompts held out for this. The
truth that arms are reported by has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfimprove.data.user_prompts import read_prompts
from selfimprove.evaluation.head_to_head import HeadToHead, head_to_head, matches
from selfimprove.evaluation.response_board import ResponsesConfig, outcomes_of
from selfimprove.judges.judge import JudgeConfig, judge, judging_model, mean_scores
from selfimprove.rows import Rows
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.responses import respond
from selfimprove.store import Run
from selfimprove.types import ModelRef, Response, Verdict

__all__ = ["Decision", "Gate"]

_Judged = tuple[Rows[Response], Rows[Verdict]]


@dataclass(frozen=True, slots=True)
class Decision:
    """Which of a parent's trained checkpoints won, and whether it took the parent's place."""

    chosen: str
    child: ModelRef
    """The chosen one."""
    promoted: bool
    reason: str
    tried: tuple[HeadToHead, ...]
    """Every checkpoint against the parent."""

    def as_dict(self, round_number: int) -> dict[str, Any]:
        """Return the decision as the report reads it; the difference is from an even match."""
        best = next((t for t in self.tried if t.first == self.chosen), None)
        if best is None:
            return {"round": round_number, "promoted": self.promoted, "reason": self.reason}
        low, high = best.win_rate_interval
        return {
            "round": round_number,
            "promoted": self.promoted,
            "difference": best.win_rate - 0.5,
            "interval": [low - 0.5, high - 0.5],
            "n": best.n,
            "set": "validation prompts",
            "reason": self.reason,
            "tried": [t.as_dict() for t in self.tried],
        }


@dataclass(frozen=True, slots=True)
class Gate:
    """Compares models on the validation prompts."""

    steps: Run
    config: ResponsesConfig
    judge: JudgeConfig
    engine: EngineConfig
    seed: int

    def decide(
        self, parent: tuple[str, ModelRef], children: Sequence[tuple[str, ModelRef]]
    ) -> Decision:
        """Choose the child that wins most against its parent; the parent stays if that is worse.

        Without validation prompts the last child is chosen and promoted unseen.
        """
        name, model = parent
        if not self.config.validation:
            return Decision(*children[-1], promoted=True, reason="no validation prompts", tried=())
        by = judging_model(self.judge, model)
        before = self._judged(name, model, (name, by))
        tried = tuple(
            self._compare((child, self._judged(child, one, (name, by))), (name, before))
            for child, one in children
        )
        best = max(tried, key=lambda told: told.win_rate)
        promoted = best.win_rate >= 0.5
        word = "not worse than" if promoted else "worse than"
        reason = (
            f"{best.first} is {word} {name} by {name}'s own judgement: {best.wins} won, "
            f"{best.losses} lost, {best.ties} tied"
        )
        return Decision(best.first, dict(children)[best.first], promoted, reason, tried)

    def _judged(self, name: str, model: ModelRef, judged_by: tuple[str, ModelRef]) -> _Judged:
        step, (judge_name, by) = f"{name}-validation", judged_by
        prompts = self.steps.rows("validation-prompts", read_prompts, self.config.validation)
        responses = self.steps.sharded(step, respond, prompts, model, self.config.sampling,
                                       self.engine, self.seed,
                                       shard_items=self.config.shard_prompts)  # fmt: skip
        verdicts = self.steps.sharded(f"{step}-by-{judge_name}", judge, responses, by, self.judge,
                                      self.engine, self.seed,
                                      shard_items=self.config.shard_prompts * self.config.draws)  # fmt: skip
        return responses, verdicts

    def _compare(self, child: tuple[str, _Judged], parent: tuple[str, _Judged]) -> HeadToHead:
        (first, (ours, our_scores)), (second, (theirs, their_scores)) = child, parent
        outcomes = outcomes_of(
            matches(ours.items, theirs.items), mean_scores(our_scores), mean_scores(their_scores)
        )
        return head_to_head(outcomes, first=first, second=second,
                            judge=f"{second}'s own judgement", set="validation prompts")  # fmt: skip
