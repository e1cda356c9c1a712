"""What a run on open-ended prompts measures: every arm's responses, its judge, the gate, lineage.

All arms answer the same held-out prompts; differences are taken prompt by prompt. Who measures
either gives points (`true_scores`), or, a pairwise judge, compares each arm with the one before it
(`win_rates`). Neither reaches any training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from selfimprove.errors import DataError
from selfimprove.evaluation.counted import lowest_of, means, unfinished
from selfimprove.evaluation.evaluator import Arm, Evaluator
from selfimprove.evaluation.head_to_head import HeadToHead
from selfimprove.evaluation.intervals import mean, paired
from selfimprove.evaluation.judge_quality import card
from selfimprove.evaluation.meetings import Meetings
from selfimprove.evaluation.open_prompts import (
    ResponsesConfig,
    held_out_prompts,
    validation_prompts,
)
from selfimprove.evaluation.summary import ArmKind
from selfimprove.evaluation.true_scores import (
    ORACLE_HIGHEST,
    ORACLE_LOWEST,
    Rated,
    oracle_scores,
    read_rated,
    responses_of,
)
from selfimprove.evaluation.win_rates import Comparing, score_of_wins
from selfimprove.judges.judge import asked_judge, highest_score, judge, lowest_score, mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.rows import Rows
from selfimprove.sampling.responses import respond
from selfimprove.training.export import Export
from selfimprove.types import ModelRef, Response, UserPrompt, Verdict

__all__ = ["ResponseArm", "ResponseBoard"]

Means = dict[str, float]

_KNOWN: Final = "held-out responses of known worth"
_ORACLE: Final = "the oracle of the tiny world"
_KNOWN_BY: Final = {"oracle": _ORACLE, "people": "people's rankings"}


@dataclass(frozen=True, slots=True)
class ResponseArm(Arm):
    """One measured model."""

    truth: tuple[Verdict, ...]
    """What the responses are really worth; none where a pairwise judge compares them."""

    @property
    def responses(self) -> Rows[Response]:
        """Its responses to the held-out prompts."""
        return self.rows

    def by_prompt(self, lowest: float | None) -> Means:
        """Return the mean true score of each prompt's responses; an unfinished one counts `lowest`."""
        return means(self.responses, mean_scores(self.truth), lowest)


@dataclass
class ResponseBoard(Evaluator[ResponseArm]):
    """Measures models as a run makes them, by their responses to open-ended prompts."""

    config: ResponsesConfig
    export: Export
    cards: list[dict[str, Any]] = field(default_factory=list)

    def prepare(self) -> None:
        """Read all that is measured on before anything is trained: a missing file costs nothing yet.

        Raises:
            DataError: a file cannot be read, or holds nothing to measure on.
        """
        asked = self.held_out()
        if not asked:
            raise DataError(f"evaluation.prompts: {self.set_name} holds no prompt to measure on")
        if self.config.validation:
            validation_prompts(self.steps, self.config)
        if self.config.judging:
            self._judging_set()

    def held_out(self) -> Rows[UserPrompt]:
        """Return the prompts that arms are measured on: not to be learned from."""
        return held_out_prompts(self.steps, self.config)

    def measure(
        self,
        name: str,
        model: ModelRef,
        kind: ArmKind,
        *,
        parent: ModelRef | None = None,
        data: Rows[Any] | None = None,
        round_number: int = 0,
    ) -> ResponseArm:
        """Let a model, as it leaves the run, answer the held-out prompts; score its responses.

        Raises:
            DataError: a judge that compares decided no match with the arm before, or another one
                scored none of the responses.
            JudgeError: too many responses or matches of a shard got no score.
        """
        measured = self.export(name, model) if parent else model
        responses = self.steps.sharded(f"{name}-responses", respond, self.held_out(),
                                       self.steps.asks(measured), self.config.sampling,
                                       self.steps.seed,
                                       shard_items=self.config.shard_prompts)  # fmt: skip
        arm = ResponseArm(name, kind, round_number, model, measured, parent, data, responses,
                  self._true_scores(f"{name}-truth", responses, measured))  # fmt: skip
        self.arms.append(arm)
        # At once: a judge that decides nothing, or gives no score, must not wait for further training.
        if not self.config.compares:
            self.points_of(arm, arm, self.by_prompt())
        elif before := self.before(arm):
            self.against(arm, before)
        return arm

    def _true_scores(
        self, step: str, responses: Rows[Response], current: ModelRef
    ) -> tuple[Verdict, ...]:
        if self.config.compares:
            return ()
        if self.config.judge is None:
            return self.steps.rows(step, oracle_scores, responses).items
        by = asked_judge(self.steps, self.config.judge, current)
        return self.steps.sharded(step, judge, responses, by, self.config.judge, self.steps.seed,
                                  shard_items=self._shard).items  # fmt: skip

    @property
    def _shard(self) -> int:
        return self.config.shard_prompts * self.config.draws

    def measure_judge(self, name: str, model: ModelRef, config: JudgeConfig) -> None:
        """Measure an arm, as it leaves the run, as a judge on held-out responses of known worth."""
        if not self.config.judging:
            return
        rated = self._judging_set()
        shown = self.steps.rows("judging-responses", responses_of, rated)
        measured = self.export(name, model)
        said = self.steps.sharded(f"{name}-judging", judge, shown,
                                  asked_judge(self.steps, config, measured), config,
                                  self.steps.seed,
                                  shard_items=self._shard,
                                  together=_prompt_of)  # fmt: skip
        for one in dict.fromkeys(r.set for r in rated):
            of_set = [r for r in rated if r.set == one]
            self._add_card(name, of_set, said, highest_score(config))

    def _add_card(
        self, name: str, rated: Sequence[Rated], said: Rows[Verdict], highest: float | None
    ) -> None:
        """Keep a judge's card on the responses of one set."""
        truth = {(r.response.prompt_id, r.response.index): r.truth for r in rated}
        verdicts = [v for v in said if (v.prompt_id, v.index) in truth]
        told = card(responses_of(rated), verdicts, truth, highest=highest)
        self.cards.append({"arm": name, "set": f"{_KNOWN} ({rated[0].set})",
                           "truth": _KNOWN_BY[rated[0].known_by], **told})  # fmt: skip

    def _judging_set(self) -> Rows[Rated]:
        return self.steps.rows("judging-set", read_rated, self.config.judging, self.steps.seed)

    def watch_judge(
        self, name: str, candidates: Rows[Response], verdicts: Rows[Verdict], config: JudgeConfig
    ) -> None:
        """Describe how a judge judged candidates of its own; beside the truth where there is one."""
        truth = None
        if self.config.scorer == "oracle":
            scored = self.steps.rows(f"{name}-candidates-truth", oracle_scores, candidates)
            truth = mean_scores(scored)
        told = card(candidates.items, verdicts.items, truth, highest=highest_score(config))
        known_by = _ORACLE if truth else None
        self.cards.append({"arm": name, "set": "its own candidates", "truth": known_by, **told})

    @property
    def highest(self) -> float | None:
        """The best score of who measures the arms; None: the scale has no end."""
        return ORACLE_HIGHEST if self.config.judge is None else highest_score(self.config.judge)

    @property
    def truth_name(self) -> str:
        """What the truth is, in words."""
        if self.config.judge is None:
            return _ORACLE
        return f"{self.config.judge.kind} judge {self.config.judge.model}"

    # ---- comparisons

    def before(self, arm: ResponseArm) -> ResponseArm | None:
        """Return what an arm is first compared with: a control's start, else the model before it."""
        if arm.kind == "control":
            return next((a for a in self.arms if a.model == arm.parent), None)
        line = [a for a in self.arms if a.kind != "control"]
        place = [a.name for a in line].index(arm.name)
        return line[place - 1] if place else None

    def against(self, first: ResponseArm, second: ResponseArm) -> HeadToHead:
        """Compare two arms, draw by draw, on the held-out prompts.

        Raises:
            DataError: no match has a result.
        """
        return self._meetings.between(first, second)

    @cached_property
    def _meetings(self) -> Meetings[ResponseArm]:
        by = None
        if self.config.judge is not None and self.config.compares:
            by = Comparing(self.steps, self.config.judge, self._shard)
        return Meetings(self.truth_name, self.set_name, lambda arm: mean_scores(arm.truth), by,
                        systems=lambda: self.arms)  # fmt: skip

    @property
    def set_name(self) -> str:
        """The held-out prompts, in words."""
        return ", ".join(f"{s.format} {s.source.rsplit('/', 1)[-1]}" for s in self.config.prompts)

    def by_prompt(self) -> dict[str, Means]:
        """Return every arm's mean true score of each prompt, by the arm's name."""
        lowest = self._lowest()
        return {arm.name: arm.by_prompt(lowest) for arm in self.arms}

    def score_of(
        self, arm: ResponseArm, base: ResponseArm, found: Mapping[str, Means]
    ) -> dict[str, Any] | None:
        """Return an arm's mean true score, or its win rate against the arm before it.

        The first arm of all has nothing before it, and no win rate.

        Args:
            arm: of the board.
            base: what it is compared with.
            found: `by_prompt` of all arms.

        Raises:
            DataError: none of its responses has a score, or none of its matches a result.
        """
        told = (
            self._wins_of(arm, base) if self.config.compares else self.points_of(arm, base, found)
        )
        tokens = sum(r.new_tokens for r in arm.responses) / len(arm.responses)
        return told and {**told, "mean_tokens": tokens, "unfinished": unfinished(arm.responses)}

    def _wins_of(self, arm: ResponseArm, base: ResponseArm) -> dict[str, Any] | None:
        before = self.before(arm)
        if before is None:
            return None
        against_base = None if arm is base else self.against(arm, base)
        return score_of_wins(self.against(arm, before), against_base)

    def points_of(
        self, arm: ResponseArm, base: ResponseArm, found: Mapping[str, Means]
    ) -> dict[str, Any]:
        """Return an arm's mean true score, and its difference from the base, prompt by prompt.

        `found` is `by_prompt` of all arms.

        Raises:
            DataError: none of its responses has a score.
        """
        ours = found[arm.name]
        if not ours:
            raise DataError(
                f"none of the responses of {arm.name} was scored by the {self.truth_name}: nothing "
                "can be reported; choose another evaluation.judge"
            )
        estimate = mean(list(ours.values()))
        return {
            "set": self.set_name,
            "domain": "in",
            "mode": "sampled",
            "metric": "mean score",
            "value": estimate.value,
            "interval": [estimate.low, estimate.high],
            "n": estimate.n,
            "unanswered": sum(v.score is None for v in arm.truth),
            "versus_base": None if arm is base else difference(found[base.name], ours),
        }

    def _lowest(self) -> float | None:
        """Return what an unfinished response counts: the lowest of the scale, or of all arms."""
        scale = ORACLE_LOWEST if self.config.judge is None else lowest_score(self.config.judge)
        told = ((arm.responses, mean_scores(arm.truth)) for arm in self.arms)
        return lowest_of(told) if scale is None else scale


def _prompt_of(response: Response) -> str:
    """Return what a judge that compares needs in one shard: all responses of a prompt."""
    return response.prompt_id


def difference(before: Means, after: Means) -> dict[str, Any]:
    """Return after minus before over the prompts that both have scores for."""
    both = [prompt for prompt in before if prompt in after]
    told = paired([before[p] for p in both], [after[p] for p in both])
    return {
        "difference": told.difference,
        "interval": [told.low, told.high],
        "wins": told.wins,
        "losses": told.losses,
        "ties": told.ties,
    }
