"""What a Self-Rewarding run reports: its rounds, its judges, every comparison of its models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean
from typing import Any, Final, Protocol

from selfimprove.evaluation.collapse import collapse
from selfimprove.evaluation.promotion import Decision
from selfimprove.evaluation.response_board import Means, ResponseArm, ResponseBoard
from selfimprove.evaluation.win_rates import headline_of_wins
from selfimprove.judges.judge import mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.rows import Rows
from selfimprove.types import Demonstration, Response, UserPrompt, Verdict

__all__ = ["SelfRewardingBoard"]

_TOPICS: Final = 20
_WORD: Final = re.compile(r"[^\W\d_]{3,}")


class ScoredPair(Protocol):
    """A preference pair as it is described here."""

    @property
    def chosen_score(self) -> float:
        """Mean score of the chosen response."""
        ...

    @property
    def rejected_score(self) -> float:
        """Mean score of the rejected response."""
        ...

    @property
    def chosen_tokens(self) -> int:
        """Length of the chosen response."""
        ...

    @property
    def rejected_tokens(self) -> int:
        """Length of the rejected response."""
        ...


class Round(Protocol):
    """What one model made for the next."""

    @property
    def candidates(self) -> Rows[Response]:
        """Its responses."""
        ...

    @property
    def judge(self) -> JudgeConfig:
        """Who judged them."""
        ...

    @property
    def verdicts(self) -> Rows[Verdict]:
        """What the judge said of them."""
        ...

    @property
    def pairs(self) -> Rows[Any]:
        """The pairs that came of it, each a `ScoredPair`."""
        ...


@dataclass
class SelfRewardingBoard(ResponseBoard):
    """A board that also describes the rounds of a run."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    written: list[dict[str, Any]] = field(default_factory=list)
    collapses: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    _judgements: dict[str, Decision] = field(default_factory=dict)

    def watch(
        self,
        number: int,
        name: str,
        prompts: Rows[UserPrompt],
        seeds: Sequence[Demonstration],
        made: Round,
    ) -> None:
        """Describe a round: its prompts, its judge on its own candidates, its pairs."""
        self.watch_judge(name, made.candidates, made.verdicts, made.judge)
        self.rounds.append({"round": number, "step": made.pairs.folder.name, **_pairs_told(made)})
        own, first = [p.text for p in prompts], [d.prompt for d in seeds]
        self.written.append({"round": number, "step": prompts.folder.name, "kept": len(prompts),
                             "lengths": _lengths(own, first), "topics": _topics(own, first)})  # fmt: skip

    def note(self, number: int, child: str, decision: Decision) -> None:
        """Keep the gate's decision for the report and the lineage."""
        self._judgements[child] = decision
        self.decisions.append(decision.as_dict(number))

    def summarise(
        self,
        method: str,
        title: str,
        model: str,
        *,
        last: str,
        overlaps: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Write summary.json and lineage.json, from which the report is made.

        Args:
            method: its name in recipes.
            title: of the page.
            model: what the recipe calls it.
            last: the arm that was promoted last.
            overlaps: between training and held-out data, as `Decontamination` counted them.
        """
        base, found = self.arm("m1"), self.by_prompt()
        told = {
            "head_to_head": [self.against(a, b).as_dict() for a, b in self._compared()],
            "judge_cards": self.cards,
            "pairs": self.rounds,
            "own_prompts": self.written,
            "collapse": self._collapses(),
            "gate": self.decisions,
            "overlaps": list(overlaps),
        }
        scores = {arm.name: self._scores(arm, base, found) for arm in self.arms}
        roles = {a.name: (_role(a), self._judgements.get(a.name)) for a in self.arms}
        headline = self._headline(base, self.arm(last), found)
        about = {"method": method, "title": title, "model": model, "headline": headline}
        self.write(about, scores, roles, told)

    def _compared(self) -> Iterable[tuple[ResponseArm, ResponseArm]]:
        """Yield the later against the earlier of all models, and every control against its start."""
        line = [arm for arm in self.arms if arm.kind != "control"]
        for earlier, later in combinations(line, 2):
            yield later, earlier
        for control in (arm for arm in self.arms if arm.kind == "control"):
            start = next(arm for arm in self.arms if arm.model == control.parent)
            yield control, start
            yield next(a for a in self.arms if a.kind == "method"), control

    def _headline(
        self, base: ResponseArm, last: ResponseArm, found: Mapping[str, Means]
    ) -> dict[str, Any]:
        if self.config.compares:
            told = None if last is base else self.against(last, base)
            return headline_of_wins(told, base=base.name, on=self.set_name,
                                    prompts=len(self.held_out()))  # fmt: skip
        return self._headline_of_points(base, last, found)

    def _headline_of_points(
        self, base: ResponseArm, last: ResponseArm, found: Mapping[str, Means]
    ) -> dict[str, Any]:
        before, after = (self.points_of(arm, base, found) for arm in (base, last))
        told = after["versus_base"] or {"difference": 0.0, "interval": [0.0, 0.0]}
        return {
            "metric": "mean score of responses",
            "set": self.set_name,
            "arm": last.name,
            "before": before["value"],
            "after": after["value"],
            "difference": told["difference"],
            "interval": told["interval"],
            "n": before["n"],
            "unit": "points",
            "highest": self.highest,
        }

    def _scores(
        self, arm: ResponseArm, base: ResponseArm, found: Mapping[str, Means]
    ) -> list[dict[str, Any]]:
        told = self.score_of(arm, base, found)
        return [told] if told else []

    def _collapses(self) -> list[dict[str, Any]]:
        """Look at the measured responses of every model for signs of collapse, in order."""
        told: list[dict[str, Any]] = []
        before = None
        for arm in (arm for arm in self.arms if arm.kind != "control"):
            before = collapse(arm.name, arm.responses.items, mean_scores(arm.truth), before)
            # A judge that compares tells no scores, so no ties of them either.
            unknown = {"share_ties": None} if self.config.compares else {}
            told.append({**before.as_dict(), **unknown})
        return told


def _role(arm: ResponseArm) -> str:
    return f"control:{arm.name}" if arm.kind == "control" else arm.name


def _pairs_told(made: Round) -> dict[str, Any]:
    pairs: Sequence[ScoredPair] = made.pairs.items
    scores = mean_scores(made.verdicts)
    prompts = {r.prompt_id for r in made.candidates}
    judged: dict[str, set[float]] = {}
    for (prompt, _), score in scores.items():
        judged.setdefault(prompt, set()).add(score)
    histogram = Counter(round(score) for score in scores.values())
    return {
        "prompts": len(prompts),
        "pairs": len(pairs),
        "ties": sum(len(found) == 1 for found in judged.values()),
        "unscored": len(made.candidates) - len(scores),
        "chosen_score": _mean(p.chosen_score for p in pairs),
        "rejected_score": _mean(p.rejected_score for p in pairs),
        "chosen_tokens": _mean(p.chosen_tokens for p in pairs),
        "rejected_tokens": _mean(p.rejected_tokens for p in pairs),
        "score_histogram": [{"score": s, "count": n} for s, n in sorted(histogram.items())],
    }


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None


def _lengths(own: Sequence[str], seeds: Sequence[str]) -> list[dict[str, int]]:
    """Count prompts by their number of words."""
    ours, theirs = (Counter(len(t.split()) for t in texts) for texts in (own, seeds))
    return [{"tokens": n, "own": ours[n], "seed": theirs[n]} for n in sorted({*ours, *theirs})]


def _topics(own: Sequence[str], seeds: Sequence[str]) -> list[dict[str, Any]]:
    """Count the prompts that hold a word, for the commonest words of both sets together."""
    ours, theirs = (
        Counter(w for t in texts for w in {x.lower() for x in _WORD.findall(t)})
        for texts in (own, seeds)
    )
    both = sorted(ours + theirs, key=lambda w: (-(ours[w] + theirs[w]), w))[:_TOPICS]
    return [{"word": w, "own": ours[w], "seed": theirs[w]} for w in both]
