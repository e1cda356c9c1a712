"""What a run measures: every arm on the same held-out questions, the gate, lineage and summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from pydantic import Field

from selfimprove.answers.answers import Reading
from selfimprove.answers.ballots import VotedQuestion
from selfimprove.data.read import read_labelled
from selfimprove.data.sources import DataConfig, Source
from selfimprove.errors import DataError
from selfimprove.evaluation.accuracy import (
    Answered,
    AskConfig,
    HeldOut,
    Mode,
    Score,
    answer_questions,
    calibration,
    domain_name,
    greedy_hits,
    scores,
)
from selfimprove.evaluation.controls import Control, kept_by_gold, unfiltered
from selfimprove.evaluation.evaluator import Arm, Evaluator
from selfimprove.evaluation.gate import (
    Verdict,
    compare,
    held_back,
    needs_votes,
    not_reported,
    to_learn_from,
    with_majorities,
)
from selfimprove.evaluation.intervals import Paired, mean, paired
from selfimprove.evaluation.label_quality import label_quality
from selfimprove.evaluation.labels import known_labels, read_labels
from selfimprove.evaluation.set_names import set_names
from selfimprove.rows import Rows
from selfimprove.training.export import Export
from selfimprove.types import Labelled, ModelRef, Question, ReasoningPath

__all__ = ["EvaluationConfig", "Scoreboard", "calibrations", "read_held_out", "score_figures"]

Kind = Literal["base", "method", "control"]

_NO_GATE: Final = (
    "no gate: there is no data.dev, and too few training questions to hold some of them back"
)


class EvaluationConfig(AskConfig):
    """How the arms of a run are measured."""

    temperature_after: float | None = Field(default=None, gt=0)
    """Of votes after training, when it differs. Paper: 1.2, as training lowers the entropy."""
    control_modes: tuple[Mode, ...] | None = None
    """How control arms are asked; cot alone compares them with the method. None: in all `modes`."""
    shard_questions: int = Field(default=128, ge=1)
    """Questions a shard; a kill loses at most one shard."""

    def asking(self, kind: Kind) -> AskConfig:
        """Return how a base, a trained model or a control arm is asked."""
        asked = {name: getattr(self, name) for name in AskConfig.model_fields}
        if kind != "base" and self.temperature_after is not None:
            asked["temperature"] = self.temperature_after
        if kind == "control" and self.control_modes is not None:
            asked["modes"] = self.control_modes
        return AskConfig(**asked)


@dataclass
class Scoreboard(Evaluator[Arm]):
    """Measures models as a run makes them, by their answers to labelled questions."""

    data: DataConfig
    config: EvaluationConfig
    export: Export
    _verdicts: dict[str, Verdict] = field(default_factory=dict)
    _votes: dict[int, tuple[Rows[VotedQuestion], Rows[ReasoningPath]]] = field(default_factory=dict)
    """Of each round, with the paths that it kept."""
    _gate_set: Rows[HeldOut] | None = None
    """The questions on which the gate decides; None: there is no gate."""
    _gate_name: str = ""

    def prepare(self, controls: Sequence[Control]) -> None:
        """Read all that is measured on before a token is sampled: a missing file costs nothing yet.

        Raises:
            DataError: a file cannot be read, an answer is missing where one is needed, or there is
                nothing to measure on.
        """
        if not any(item.domain == "in" for item in self._held_out()):
            raise DataError("data.test holds no question: the run's result is measured on it")
        if "gold" in controls:
            self._labels()
        self._known_labels()

    def hold_back(self, questions: Rows[Question], sampler: ModelRef) -> Rows[Question]:
        """Set the gate's questions apart, and return the training questions that remain.

        Args:
            questions: the training questions.
            sampler: draws the paths; its votes are the labels of questions without gold answers.

        Raises:
            DataError: there is nothing to learn from, or every question of `data.dev` is reported.
        """
        if not questions:
            raise DataError("data.train holds no question: there is nothing to learn from")
        if self.data.dev:
            self._take_dev()
            return questions
        apart = self.steps.rows("gate-questions", held_back, questions, self.data.train,
                                self._held_out(), self.steps.seed)  # fmt: skip
        if not apart:
            return questions
        self._gate_set, self._gate_name = apart, "held-back training questions"
        if needs_votes(apart.items):
            ask = self.config.asking("base").model_copy(update={"modes": ("self_consistency",)})
            voted = self._ask("gate-votes", apart, sampler, ask)
            labelled = self.steps.rows("gate-labels", with_majorities, apart, voted)
            self._gate_set = labelled if labelled else None
            self._gate_name += f", agreement with the vote of {sampler.name}"
        return self.steps.rows("learned-questions", to_learn_from, questions, apart)

    def clear_of_gate(self, questions: Rows[Question]) -> Rows[Question]:
        """Return the questions of a model's own making that the gate does not ask."""
        if self._gate_set is None:
            return questions
        return self.steps.rows("learned-own-questions", to_learn_from, questions, self._gate_set)

    def _take_dev(self) -> None:
        dev = self.steps.rows(
            "dev-questions", read_held_out, tuple(("in", s) for s in self.data.dev)
        )
        kept = self.steps.rows("gate-questions", not_reported, dev, self._held_out())
        if not kept:
            raise DataError(
                f"data.dev: each of its {len(dev)} questions is one of data.test or data.ood, and a "
                "model must not be chosen by what is reported; give others, or leave data.dev out"
            )
        self._gate_set, self._gate_name = kept, "dev"

    def _held_out(self) -> Rows[HeldOut]:
        sources = tuple(("in", s) for s in self.data.test) + tuple(
            ("out", s) for s in self.data.ood
        )
        return self.steps.rows("held-out", read_held_out, sources)

    def _labels(self) -> Rows[Labelled]:
        return self.steps.rows("gold-labels", read_labels, self.data.train)

    def _known_labels(self) -> Rows[Labelled]:
        """Gold answers of training questions, where there are any: for measuring alone."""
        return self.steps.rows("known-labels", known_labels, self.data.train)

    def measure(
        self,
        name: str,
        model: ModelRef,
        *,
        parent: ModelRef | None = None,
        data: Rows[Any] | None = None,
        kind: Kind | None = None,
        round_number: int = 0,
    ) -> None:
        """Ask `model`, as it leaves the run, all held-out questions, in every mode."""
        kind = kind or ("method" if parent else "base")
        measured = self.export(name, model) if parent else model
        answers = self._ask(f"eval-{name}", self._held_out(), measured, self.config.asking(kind))
        self.arms.append(Arm(name, kind, round_number, model, measured, parent, data, answers))

    def _ask(
        self, step: str, questions: Rows[HeldOut], model: ModelRef, ask: AskConfig
    ) -> Rows[Answered]:
        return self.steps.sharded(step, answer_questions, questions, self.steps.asks(model), ask,
                                  self.steps.seed,
                                  shard_items=self.config.shard_questions)  # fmt: skip

    def watch(
        self, round_number: int, votes: Rows[VotedQuestion], kept: Rows[ReasoningPath]
    ) -> None:
        """Remember a round's votes, to tell in the end how good they were as labels."""
        self._votes[round_number] = (votes, kept)

    def promote(self, name: str, *, parent: ModelRef, child: ModelRef) -> ModelRef:
        """Return the child, or the parent when the child is worse on the gate's questions."""
        if self._gate_set is None:
            self._verdicts[name] = Verdict(True, _NO_GATE)
            return child
        ask = self.config.asking("base").model_copy(update={"modes": ("cot",)})
        one, other = self._arm_of(parent), self._arm_of(child)
        before = self._ask(f"gate-{one.name}", self._gate_set, one.measured, ask)
        after = self._ask(f"gate-{other.name}", self._gate_set, other.measured, ask)
        self._verdicts[name] = compare(before.items, after.items)
        return child if self._verdicts[name].promoted else parent

    def leaving(self, model: ModelRef) -> ModelRef:
        """Return a measured model as it leaves the run."""
        return self._arm_of(model).measured

    def _arm_of(self, model: ModelRef) -> Arm:
        return next(a for a in self.arms if a.model == model)

    def choose(
        self, control: Control, paths: Rows[ReasoningPath], most: int | None
    ) -> Rows[ReasoningPath]:
        """Choose the paths of a control arm, at most so many a question, as the method does."""
        if control == "unfiltered":
            return self.steps.rows("unfiltered-kept", unfiltered, paths, most)
        return self.steps.rows("gold-kept", kept_by_gold, paths, self._labels(), most)

    def summarise(
        self, method: str, title: str, model: str, *, overlaps: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Write summary.json and lineage.json, from which the report is made.

        Args:
            method: its name in recipes.
            title: of the page.
            model: what the recipe calls it.
            overlaps: between training and held-out data, as `Decontamination` counted them.
        """
        base = self.arms[0]
        told = {
            "calibration": [c for arm in self.arms for c in calibrations(arm.name, arm.rows.items)],
            "gate": [self._gate(arm) for arm in self.arms if arm.name in self._verdicts],
            "labels": self._label_qualities(),
            "overlaps": list(overlaps),
        }
        scored = {arm.name: _scores_of(arm, base) for arm in self.arms}
        roles = {arm.name: (_role(arm), self._verdicts.get(arm.name)) for arm in self.arms}
        about = {"method": method, "title": title, "model": model, "headline": self._headline(base)}
        self.write(about, scored, roles, told)

    def _label_qualities(self) -> list[dict[str, Any]]:
        """Compare the votes with gold answers, now that nothing can learn from them any more."""
        labelled = self._known_labels()
        told = (
            label_quality(number, votes.items, kept.items, labelled.items)
            for number, (votes, kept) in self._votes.items()
        )
        return [figures for figures in told if figures is not None]

    def _headline(self, base: Arm) -> dict[str, Any]:
        """Greedy chain-of-thought accuracy of the newest promoted model against the base's."""
        promoted = [a for a in self.arms if a.name in self._verdicts]
        kept = [a for a in promoted if self._verdicts[a.name].promoted]
        last = kept[-1] if kept else base
        strict, flexible = _change(base, last, "strict"), _change(base, last, "flexible")
        return {
            "metric": "greedy chain-of-thought accuracy",
            "set": domain_name(base.rows.items, "in"),
            "arm": last.name,
            **strict,
            # A gain in how answers are stated, and not in what they are, shows here.
            "flexible": None if flexible == strict else flexible,
        }

    def _gate(self, arm: Arm) -> dict[str, Any]:
        verdict = self._verdicts[arm.name]
        return {
            "round": arm.round,
            "promoted": verdict.promoted,
            "difference": verdict.difference,
            "interval": verdict.interval,
            "n": verdict.n,
            "set": self._gate_name if self._gate_set else None,
            "reason": verdict.reason,
        }


def _role(arm: Arm) -> str:
    return {"base": "base", "method": "student"}.get(arm.kind, f"control:{arm.name}")


def read_held_out(
    sources: Sequence[tuple[Literal["in", "out"], Source]],
) -> list[HeldOut]:
    """Read labelled questions; a set is called after its format and file or split."""
    names = set_names([source for _, source in sources])
    return [
        HeldOut(name, domain, labelled)
        for name, (domain, s) in zip(names, sources, strict=True)
        for labelled in s.part(read_labelled(s.source, s.format, limit=s.end, reshape=s.reshape))
    ]


def _change(base: Arm, last: Arm, reading: Reading) -> dict[str, Any]:
    of_base, of_last = _in_domain_hits(base, reading), _in_domain_hits(last, reading)
    against = paired([of_base[q] for q in of_last], list(of_last.values()))
    return {
        "before": mean(list(of_base.values())).value,
        "after": mean(list(of_last.values())).value,
        "difference": against.difference,
        "interval": [against.low, against.high],
        "n": len(of_last),
    }


def _in_domain_hits(arm: Arm, reading: Reading) -> dict[str, float]:
    return greedy_hits([a for a in arm.rows if a.domain == "in"], reading=reading)


def _scores_of(arm: Arm, base: Arm) -> list[dict[str, Any]]:
    against = None if arm is base else base.rows.items
    return [score_figures(s) for s in scores(arm.rows.items, against)]


def score_figures(score: Score) -> dict[str, Any]:
    """Return a score as JSON data."""
    estimate = score.estimate
    figures = {
        name: getattr(score, name)
        for name in ("set", "domain", "mode", "metric", "unanswered", "mean_tokens")
    }
    figures |= {
        "value": estimate.value,
        "interval": [estimate.low, estimate.high],
        "n": estimate.n,
        "versus_base": _against(score.versus_base),
        "flexible": {
            "value": score.flexible.value,
            "interval": [score.flexible.low, score.flexible.high],
            "unanswered": score.flexible_unanswered,
            "versus_base": _against(score.flexible_versus_base),
        },
    }
    return figures


def _against(paired: Paired | None) -> dict[str, Any] | None:
    return paired and {
        "difference": paired.difference,
        "interval": [paired.low, paired.high],
        "wins": paired.wins,
        "losses": paired.losses,
        "ties": paired.ties,
    }


def calibrations(arm: str, answers: Sequence[Answered]) -> list[dict[str, Any]]:
    """Return the vote's calibration on every set that was voted on."""
    found = []
    for name in dict.fromkeys(a.set for a in answers):
        bins = calibration([a for a in answers if a.set == name])
        total = sum(b.n for b in bins)
        if total:
            error = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / total
            found.append(
                {
                    "arm": arm,
                    "set": name,
                    "bins": [asdict(b) for b in bins],
                    "expected_calibration_error": error,
                }
            )
    return found
