"""Whether a trained model takes its parent's place: head-to-head by the parent's own judgement.

The paper stops early by such comparisons with a stronger model (Sec. 3.1); here the judge is the one
that made the training pairs, or any other that the recipe names, on prompts held out for this. The
truth that arms are reported by has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfimprove.evaluation.head_to_head import HeadToHead, head_to_head
from selfimprove.evaluation.meetings import by_points
from selfimprove.evaluation.open_prompts import ResponsesConfig, validation_prompts
from selfimprove.evaluation.win_rates import Comparing, from_even
from selfimprove.judges.judge import asked_judge, judge, mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.rows import Rows
from selfimprove.sampling.responses import respond
from selfimprove.store import Run
from selfimprove.training.export import Export
from selfimprove.types import ModelRef, Response, Verdict

__all__ = ["Decision", "Gate"]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model with its responses to the validation prompts."""

    name: str
    model: ModelRef
    responses: Rows[Response]


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
        return {
            "round": round_number,
            "promoted": self.promoted,
            **from_even(best),
            "n": best.n,
            "set": "validation prompts",
            "reason": self.reason,
            "tried": [t.as_dict() for t in self.tried],
        }


@dataclass(frozen=True, slots=True)
class Gate:
    """Compares models, as they leave the run, on the validation prompts."""

    steps: Run
    config: ResponsesConfig
    judge: JudgeConfig
    export: Export

    def decide(
        self, parent: tuple[str, ModelRef], children: Sequence[tuple[str, ModelRef]]
    ) -> Decision:
        """Choose the child that wins most against its parent; the parent stays if that is worse.

        Without validation prompts the last child is chosen and promoted unseen.
        """
        if not self.config.validation:
            return Decision(
                *children[-1],
                promoted=True,
                reason="no gate: there are no evaluation.validation prompts",
                tried=(),
            )
        before = self._answering(*parent)
        tried = tuple(self._compare(self._answering(*child), before) for child in children)
        best = max(tried, key=lambda told: told.win_rate)
        promoted = best.win_rate >= 0.5
        word = "not worse than" if promoted else "worse than"
        reason = (
            f"{best.first} is {word} {before.name} by {best.judge}: "
            f"{best.wins} won, {best.losses} lost, {best.ties} tied"
        )
        return Decision(best.first, dict(children)[best.first], promoted, reason, tried)

    def _answering(self, name: str, model: ModelRef) -> _Candidate:
        prompts = validation_prompts(self.steps, self.config)
        asked = self.steps.asks(self.export(name, model))
        responses = self.steps.sharded(f"{name}-validation", respond, prompts, asked,
                                       self.config.sampling, self.steps.seed,
                                       shard_items=self.config.shard_prompts)  # fmt: skip
        return _Candidate(name, model, responses)

    def _compare(self, child: _Candidate, parent: _Candidate) -> HeadToHead:
        """Compare the two as the parent judges: match by match where its judge compares."""
        if self.judge.kind == "pairwise":
            by = Comparing(self.steps, self.judge, self._shard)
            outcomes = by.outcomes(child, parent, of="validation", current=parent.model).items
        else:
            ours, theirs = (self._scores(one, by=parent) for one in (child, parent))
            outcomes = tuple(by_points(child.responses, parent.responses, ours, theirs))
        return head_to_head(outcomes, first=child.name, second=parent.name,
                            judge=self._judged_by(parent),
                            set="validation prompts")  # fmt: skip

    def _scores(self, one: _Candidate, by: _Candidate) -> dict[tuple[str, int], float]:
        verdicts: Rows[Verdict] = self.steps.sharded(
            f"{one.name}-validation-by-{by.name}", judge, one.responses,
            asked_judge(self.steps, self.judge, by.model), self.judge, self.steps.seed,
            shard_items=self._shard)  # fmt: skip
        return mean_scores(verdicts)

    def _judged_by(self, parent: _Candidate) -> str:
        """Return who decides, in words: the parent itself, unless the recipe names another judge."""
        if self.judge.kind == "random":
            return "a random judge"
        if self.judge.function is not None:
            return f"the function {self.judge.function}"
        if self.judge.is_self:
            return f"{parent.name}'s own judgement"
        return f"the {self.judge.kind} judge {self.judge.model}"

    @property
    def _shard(self) -> int:
        """Responses a shard: whole prompts."""
        return self.config.shard_prompts * self.config.draws
