"""What a PIT run reports: every system's held-out responses, scored alike and compared in pairs.

A system is a way to a response: the policy, a step of improvement, a baseline. All answer the same
held-out prompts, draw i of one against draw i of the other. They are scored by R_P of the run, by the
tiny world's oracle where its prompts are asked, and by a judge where one is named; what is said first
is by the one that had no part in the training. A judge that gives no points, a pairwise one, is asked
about systems that are compared in full: each with the one it came from, and with where its chain began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from statistics import fmean
from typing import Any

from selfimprove.data.preferences import InFold, Preference, of_fold, read_preferences
from selfimprove.evaluation.counted import Scores, lowest_of, means, unfinished
from selfimprove.evaluation.evaluator import Arm, Evaluator
from selfimprove.evaluation.gap_quality import against_truth, four_gaps, gap_quality
from selfimprove.evaluation.head_to_head import HeadToHead
from selfimprove.evaluation.improvements_config import ImprovementsConfig
from selfimprove.evaluation.intervals import mean
from selfimprove.evaluation.meetings import Meetings
from selfimprove.evaluation.response_board import Means, difference
from selfimprove.evaluation.summary import ArmKind
from selfimprove.evaluation.true_scores import (
    ORACLE_HIGHEST,
    ORACLE_LOWEST,
    oracle_scores,
)
from selfimprove.evaluation.win_rates import Comparing, headline_of_wins, score_of_wins
from selfimprove.evaluation.win_tie_lose import signs_of, win_tie_lose
from selfimprove.judges.gap import four_of, gap_scores, reward_scores
from selfimprove.judges.judge import (
    asked_judge,
    highest_score,
    judge,
    judge_conversations,
    lowest_score,
    mean_scores,
)
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.reward_rows import Improved
from selfimprove.rows import Rows
from selfimprove.sampling.conversation import in_words
from selfimprove.store import Run
from selfimprove.tiny.truth import right_parts, score
from selfimprove.types import ModelRef, Response, Verdict

__all__ = ["PitBoard", "System", "held_out_preferences"]


def held_out_preferences(
    config: ImprovementsConfig,
    steps: Run,
    told: Rows[Preference],
    folds: Rows[InFold],
) -> Rows[Preference]:
    """Return the preferences that are measured on: nothing learns from them.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    if config.preferences:
        return steps.rows("held-out", read_preferences, config.preferences, steps.seed)
    return steps.rows("held-out", of_fold, told, folds, "test")


@dataclass(frozen=True, slots=True)
class System(Arm):
    """One way to a response, measured."""

    scores: dict[str, Scores]
    """By who gives points: reward, oracle, judge."""
    before: str | None
    """The system that it came from; None where nothing was before it."""

    @property
    def responses(self) -> Rows[Response]:
        """Its responses to the held-out prompts."""
        return self.rows

    def by_prompt(self, scorer: str, lowest: float | None) -> Means:
        """Return the mean score of each prompt's responses; an unfinished one counts `lowest`."""
        return means(self.responses, self.scores[scorer], lowest)


@dataclass
class PitBoard(Evaluator[System]):
    """Measures the systems of a run: its arms."""

    config: ImprovementsConfig
    reward: ModelRef
    """R_P."""
    aside: list[System] = field(default_factory=list)
    """Measured for a table of their own; the others are compared with each other."""
    compared: list[tuple[str, str]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    """Further figures of the summary."""

    def measure_gaps(self, gap_model: ModelRef, held_out: Rows[Preference]) -> None:
        """Measure R_PIT, and the difference of plain rewards beside it, on held-out preferences."""
        four = self.steps.rows("held-out-gaps-asked", four_of, held_out)
        for name, model, by_difference in (
            ("gap", gap_model, False),
            ("difference", self.reward, True),
        ):
            scored = self.steps.sharded(f"held-out-gaps-{name}", gap_scores, four,
                                        self.steps.asks(model), by_difference,
                                        shard_items=4 * self.config.shard_prompts)  # fmt: skip
            gaps = four_gaps(held_out.items, scored.items)
            told = gap_quality(gaps, len(held_out))
            if self.config.scorer == "oracle":
                told["truth"] = against_truth(gaps, _worth(held_out.items))
            self.told.setdefault("gap_models", {})[name] = told

    def add(  # noqa: PLR0913  what lineage and report say of a system
        self,
        name: str,
        kind: ArmKind,
        model: ModelRef,
        responses: Rows[Response],
        asked: Rows[Improved],
        *,
        against: Sequence[str] = (),
        parent: ModelRef | None = None,
        round_number: int = 0,
        aside: bool = False,
    ) -> System:
        """Score a system's responses by everyone who scores.

        Args:
            name: of the system.
            kind: what it is to the report.
            model: that made the responses.
            responses: to the held-out prompts.
            asked: the same responses as a reward model reads them.
            against: systems that it is compared with in full, first the one it came from.
            parent: the model it came from.
            round_number: of improvement.
            aside: for a table of its own alone.
        """
        scores = {"reward": self._rewards(name, asked)}
        if self.config.scorer == "oracle":
            truth = self.steps.rows(f"{name}-truth", oracle_scores, responses)
            scores["oracle"] = mean_scores(truth)
        if self.config.judge is not None and not self.config.compares:
            by = self.config.judge
            scores["judge"] = mean_scores(self._verdicts(by, name, model, responses, asked))
        system = System(name, kind, round_number, model, model, parent, None, responses, scores,
                        before=next(iter(against), None))  # fmt: skip
        (self.aside if aside else self.arms).append(system)
        self.compared += [(name, other) for other in against]
        return system

    def _verdicts(
        self,
        config: JudgeConfig,
        name: str,
        model: ModelRef,
        responses: Rows[Response],
        asked: Rows[Improved],
    ) -> Rows[Verdict]:
        """Let the judge give points: a reward model reads the turns, others the prompt in words."""
        by, step = asked_judge(self.steps, config, model), f"{name}-verdicts"
        most = self.config.shard_prompts
        if config.kind == "reward_model":
            return self.steps.sharded(step, judge_conversations, asked, by, config,
                                      shard_items=most)  # fmt: skip
        return self.steps.sharded(step, judge, responses, by, config, self.steps.seed,
                                  shard_items=most)  # fmt: skip

    def _rewards(self, name: str, asked: Rows[Improved]) -> Scores:
        scored = self.steps.sharded(f"{name}-rewards", reward_scores, asked,
                                    self.steps.asks(self.reward),
                                    shard_items=self.config.shard_prompts)  # fmt: skip
        return {(s.prompt_id, s.index): s.score for s in scored if s.score is not None}

    def system(self, name: str) -> System:
        """Return a system by its name."""
        return next(s for s in (*self.arms, *self.aside) if s.name == name)

    def head_to_head(self, first: str, second: str) -> HeadToHead:
        """Compare two systems, draw by draw, by the first scorer."""
        return self._meetings.between(self.system(first), self.system(second))

    @cached_property
    def _meetings(self) -> Meetings[System]:
        return self._decided_by(self.config.scorer)

    def _decided_by(self, scorer: str) -> Meetings[System]:
        by = None
        if scorer == "judge" and self.config.judge is not None and self.config.compares:
            by = Comparing(self.steps, self.config.judge,
                           self.config.shard_prompts * self.config.draws)  # fmt: skip
        return Meetings(scorer, self.set_name, lambda system: system.scores[scorer], by,
                        systems=lambda: [*self.arms, *self.aside])  # fmt: skip

    @property
    def set_name(self) -> str:
        """The held-out prompts, in words."""
        named = [f"{s.format} {s.source.rsplit('/', 1)[-1]}" for s in self.config.preferences]
        return ", ".join(named) or "held-out part of the preferences"

    @property
    def right_parts(self) -> Callable[[str, str], frozenset[str]] | None:
        """What of a response is right, where that is known; None: nobody knows."""
        return right_parts if self.config.scorer == "oracle" else None

    def summarise(self, model: str, *, start: str, last: str) -> None:
        """Write summary.json and lineage.json, from which the report is made."""
        base, found = self.system(start), {} if self._by_wins else self._by_prompt()
        told = {
            "head_to_head": [self.head_to_head(a, b).as_dict() for a, b in self.compared],
            "pairs_of_systems": self._pairs(),
            **self.told,
        }
        headline = self._headline(base, self.system(last), found)
        scores = {s.name: self._scores(s, base, found) for s in self.arms}
        roles = {s.name: (s.name, None) for s in self.arms}
        title = "Implicit self-improvement (PIT)"
        about = {"method": "pit", "title": title, "model": model, "headline": headline}
        self.write(about, scores, roles, told)

    @property
    def _by_wins(self) -> bool:
        """Whether the first word has a judge that compares."""
        return self.config.scorer == "judge" and self.config.compares

    def _by_prompt(self) -> dict[str, Means]:
        """Return every system's mean score of each prompt by the first scorer, by its name.

        An unfinished response counts the lowest of the scale, or of all systems.
        """
        scorer, (lowest, _) = self.config.scorer, self._scale
        if lowest is None:
            lowest = lowest_of((s.responses, s.scores[scorer]) for s in self.arms)
        return {s.name: s.by_prompt(scorer, lowest) for s in self.arms}

    @property
    def _scale(self) -> tuple[float | None, float | None]:
        """The lowest and the highest score of the first scorer; None: its scale has no such end."""
        if self.config.scorer == "oracle":
            return ORACLE_LOWEST, ORACLE_HIGHEST
        if self.config.scorer == "judge" and self.config.judge is not None:
            return lowest_score(self.config.judge), highest_score(self.config.judge)
        return None, None

    def _headline(self, base: System, last: System, found: Mapping[str, Means]) -> dict[str, Any]:
        if self._by_wins:
            return headline_of_wins(self.head_to_head(last.name, base.name), base=base.name,
                                    on=self.set_name, prompts=len(base.responses))  # fmt: skip
        scorer, before, after = self.config.scorer, found[base.name], found[last.name]
        told = difference(before, after)
        return {
            "metric": _METRICS[scorer],
            "set": self.set_name,
            "arm": last.name,
            "before": fmean(before.values()),
            "after": fmean(after.values()),
            "difference": told["difference"],
            "interval": told["interval"],
            "n": len(before),
            "unit": "points",
            "highest": self._scale[1],
        }

    def _scores(
        self, system: System, base: System, found: Mapping[str, Means]
    ) -> list[dict[str, Any]]:
        told = self._wins(system, base) if self._by_wins else self._points(system, base, found)
        tokens, cut = fmean(r.new_tokens for r in system.responses), unfinished(system.responses)
        return [{**told, "mean_tokens": tokens, "unfinished": cut}] if told else []

    def _wins(self, system: System, base: System) -> dict[str, Any] | None:
        """Return the win rate against the system before; the base's where the two are compared."""
        if system.before is None:
            return None
        meets_base = (system.name, base.name) in self.compared
        return score_of_wins(
            self.head_to_head(system.name, system.before),
            self.head_to_head(system.name, base.name) if meets_base else None,
        )

    def _points(self, system: System, base: System, found: Mapping[str, Means]) -> dict[str, Any]:
        ours = found[system.name]
        told = mean(list(ours.values()))
        return {
            "set": self.set_name,
            "domain": "in",
            "mode": "sampled",
            "metric": "mean score",
            "value": told.value,
            "interval": [told.low, told.high],
            "n": told.n,
            "unanswered": len(system.responses) - len(system.scores[self.config.scorer]),
            "versus_base": None if system is base else difference(found[base.name], ours),
        }

    def _pairs(self) -> list[dict[str, Any]]:
        """Compare every two systems by everyone who gives points, those compared in full by all."""
        found = [
            {"first": a.name, "second": b.name, "scorer": scorer, **win_tie_lose(signs)}
            for a, b in combinations(self.arms, 2)
            for scorer in a.scores
            if (signs := signs_of(self._decided_by(scorer).outcomes(a, b)))
        ]
        for a, b in self.compared if self.config.compares else ():
            met = self._decided_by("judge").outcomes(self.system(a), self.system(b))
            told = win_tie_lose(signs_of(met))
            found.append({"first": a, "second": b, "scorer": "judge", **told})
        return found


_METRICS = {
    "oracle": "mean score of responses",
    "judge": "mean score of responses, by the judge",
    "reward": "mean reward of responses, by R_P",
}


def _worth(held_out: Sequence[Preference]) -> dict[str, tuple[float, float]]:
    return {
        p.id: (
            float(score(in_words(p.prompt), p.chosen)),
            float(score(in_words(p.prompt), p.rejected)),
        )
        for p in held_out
    }
