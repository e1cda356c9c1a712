"""Accuracy of a model on labelled questions: greedy, by vote (maj@k), and at best (pass@k).

Three ways of asking, as in LMSI's Table 3: standard prompting (answer at once) and chain of thought,
both greedy, and self-consistency: k sampled chains of thought and their majority. Every figure is
given by two readings, strict (a stated answer) and flexible (else the last number or option).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from selfimprove.answers.answers import Reading, matches, read_draw, vote
from selfimprove.config import Config
from selfimprove.data.exemplars import Exemplar, exemplars_for
from selfimprove.data.question_prompts import as_prompt, chain_of_thought, standard
from selfimprove.errors import DataError
from selfimprove.evaluation.intervals import Estimate, Paired, mean, paired
from selfimprove.rows import Batch
from selfimprove.sampling.engine import Engine, SamplingConfig, draw_in_order
from selfimprove.sampling.served import Served
from selfimprove.types import AnswerType, Draw, Labelled, Prompt

__all__ = [
    "Answered",
    "AskConfig",
    "HeldOut",
    "Mode",
    "Score",
    "answer_questions",
    "calibration",
    "domain_name",
    "greedy_hits",
    "majorities",
    "pass_at_k",
    "scores",
]

Mode = Literal["standard", "cot", "self_consistency"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A labelled question and the set it is reported under."""

    set: str
    domain: Literal["in", "out"]
    labelled: Labelled


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of one model to one held-out question."""

    question_id: str
    set: str
    domain: str
    mode: str
    index: int
    text: str
    answer: str | None
    answer_type: str
    gold: tuple[str, ...]
    correct: bool
    new_tokens: int
    flexible: str | None = None
    """The answer by the flexible reading, where `answer` and `correct` are by the strict one."""
    flexible_correct: bool = False
    reasoning: str = ""
    """What the model thought before it, between the marks of a reasoning block."""


class AskConfig(Config):
    """How a model is asked when it is measured."""

    modes: tuple[Mode, ...] = ("standard", "cot", "self_consistency")
    """standard and cot are greedy; self_consistency samples `votes` chains of thought."""
    votes: int = Field(default=32, ge=1)
    """Paths a question in a vote. Paper: 32 (Sec. 4)."""
    temperature: float = Field(default=0.7, gt=0)
    """Of the sampled paths. Paper: 0.7 before LMSI, 1.2 after it (Sec. 4)."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest answer. Paper: 256 (Sec. 4)."""
    stop: tuple[str, ...] = ("\nQ:",)
    """Strings that end an answer: a model shown exemplars goes on with the next question."""


def answer_questions(
    chunks: Sequence[Sequence[HeldOut]],
    model: Served,
    ask: AskConfig,
    seed: int,
) -> Iterator[Batch[Answered]]:
    """Ask every question in every mode; one batch of answers a chunk.

    Raises:
        EngineError: the model cannot be loaded, or a prompt does not fit its context.
    """

    def answered(sampler: Engine, chunk: Sequence[HeldOut]) -> Batch[Answered]:
        rows: list[Answered] = []
        prompt_tokens = 0
        for mode in ask.modes:
            prompts = [_prompt(item, mode, chat=model.chat) for item in chunk]
            draws = draw_in_order(sampler, prompts, _sampling(mode, ask), seed=seed)
            held = {p.key: item for p, item in zip(prompts, chunk, strict=True)}
            rows += [_answered(held[d.key], mode, d) for d in draws]
            prompt_tokens += sum(d.prompt_tokens for d in draws if d.index == 0)
        sampled = sum(r.new_tokens for r in rows)
        return Batch(rows, sampled, prompt_tokens, sampler.identity)

    return model.each(chunks, answered)


def _prompt(item: HeldOut, mode: Mode, *, chat: bool) -> Prompt:
    question = item.labelled.question
    shown: tuple[Exemplar, ...] = exemplars_for(question.dataset)
    layout = standard if mode == "standard" else chain_of_thought
    return as_prompt(f"{item.set}/{question.id}", layout(question.text, shown), chat=chat)


def _sampling(mode: Mode, ask: AskConfig) -> SamplingConfig:
    sampled = mode == "self_consistency"
    return SamplingConfig(
        n=ask.votes if sampled else 1,
        temperature=ask.temperature if sampled else 0.0,
        max_tokens=ask.max_tokens,
        stop=ask.stop,
    )


def _answered(item: HeldOut, mode: Mode, draw: Draw) -> Answered:
    question, gold = item.labelled.question, item.labelled.gold
    answer = read_draw(draw, question, "strict").answer
    # A stated answer is the same by both readings.
    flexible = read_draw(draw, question, "flexible").answer if answer is None else answer
    return Answered(
        question_id=question.id,
        set=item.set,
        domain=item.domain,
        mode=mode,
        index=draw.index,
        text=draw.text,
        answer=answer,
        answer_type=question.answer_type,
        gold=gold,
        correct=answer is not None and matches(answer, gold, question.answer_type),
        new_tokens=draw.new_tokens,
        flexible=flexible,
        flexible_correct=flexible is not None and matches(flexible, gold, question.answer_type),
        reasoning=draw.reasoning,
    )


@dataclass(frozen=True, slots=True)
class Score:
    """One figure of one model on one set."""

    set: str
    domain: str
    mode: str
    metric: str
    estimate: Estimate
    unanswered: int
    """Answers in which no answer could be found; they count as wrong."""
    mean_tokens: float
    versus_base: Paired | None
    flexible: Estimate
    """The same figure where a text that states no answer gives the last number or option it names."""
    flexible_unanswered: int
    flexible_versus_base: Paired | None


def scores(rows: Sequence[Answered], base: Sequence[Answered] | None = None) -> list[Score]:
    """Return every figure of a model, each paired with the base's on the same questions.

    Where a domain has several sets, the first figures are over all of their questions together.

    Raises:
        DataError: the base answered other questions.
    """
    grouped, of_base = (_by_set_and_mode([*_together(r), *r]) for r in (rows, base or ()))
    return [
        score
        for key, answers in grouped.items()
        for score in _scores_of(key, answers, of_base.get(key))
    ]


def domain_name(rows: Sequence[Answered], domain: str) -> str:
    """Return what a domain's questions are called together: as its only set, or by how many it has."""
    names = dict.fromkeys(row.set for row in rows if row.domain == domain)
    if len(names) == 1:
        return next(iter(names))
    return f"all {len(names)} sets" if domain == "in" else f"all {len(names)} sets out of domain"


def _together(rows: Sequence[Answered]) -> Iterator[Answered]:
    """Yield the answers to the sets of a domain as those to one more, where there are several."""
    for domain in ("in", "out"):
        name = domain_name(rows, domain)
        for row in rows:
            if row.domain == domain and row.set != name:
                yield replace(row, set=name, question_id=f"{row.set}/{row.question_id}")


_Key = tuple[str, str, str]  # set, domain, mode


def _by_set_and_mode(rows: Sequence[Answered]) -> dict[_Key, list[Answered]]:
    grouped: dict[_Key, list[Answered]] = defaultdict(list)
    for row in rows:
        grouped[row.set, row.domain, row.mode].append(row)
    return dict(grouped)


def _scores_of(
    key: _Key, answers: Sequence[Answered], base: Sequence[Answered] | None
) -> Iterator[Score]:
    strict, of_base = _metrics(key[2], answers), _metrics(key[2], base or ())
    flexible = _metrics(key[2], _flexibly(answers))
    flexible_of_base = _metrics(key[2], _flexibly(base or ()))
    for metric, by_question in strict.items():
        yield Score(
            *key,
            metric=metric,
            estimate=mean(list(by_question.values())),
            unanswered=sum(a.answer is None for a in answers),
            mean_tokens=sum(a.new_tokens for a in answers) / len(answers),
            versus_base=_paired(of_base[metric], by_question) if base else None,
            flexible=mean(list(flexible[metric].values())),
            flexible_unanswered=sum(a.answer is None for a in _flexibly(answers)),
            flexible_versus_base=_paired(flexible_of_base[metric], flexible[metric])
            if base
            else None,
        )


def _flexibly(answers: Sequence[Answered]) -> list[Answered]:
    """Where nothing is stated, take what is named; a stated answer is the same by both readings."""
    return [
        replace(a, answer=a.flexible, correct=a.flexible_correct) if a.answer is None else a
        for a in answers
    ]


def _paired(before: dict[str, float], after: dict[str, float]) -> Paired:
    if before.keys() != after.keys():
        raise DataError("the two models answered different questions and cannot be paired")
    return paired([before[q] for q in after], list(after.values()))


def _metrics(mode: str, answers: Sequence[Answered]) -> dict[str, dict[str, float]]:
    """Return metric -> question id -> value in [0, 1]."""
    by_question = _by_question(answers)
    if mode != "self_consistency":
        return {"accuracy": {q: float(a[0].correct) for q, a in by_question.items()}}
    k = max((len(a) for a in by_question.values()), default=1)
    return {
        f"maj@{k}": {q: float(_majority_is_right(a)) for q, a in by_question.items()},
        "sampled accuracy": {q: sum(x.correct for x in a) / len(a) for q, a in by_question.items()},
        f"pass@{k}": {
            q: pass_at_k(len(a), sum(x.correct for x in a), k) for q, a in by_question.items()
        },
    }


def _by_question(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    grouped: dict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        grouped[answer.question_id].append(answer)
    return dict(grouped)


def _majority_is_right(answers: Sequence[Answered]) -> bool:
    kind = _type_of(answers)
    winner = vote([a.answer for a in answers], kind).answer
    return winner is not None and matches(winner, answers[0].gold, kind)


def majorities(answers: Sequence[Answered]) -> dict[str, str | None]:
    """Return question id -> the majority of its sampled answers, read flexibly; None: there is none."""
    voted = _by_question([a for a in answers if a.mode == "self_consistency"])
    return {
        question: vote([a.answer for a in _flexibly(found)], _type_of(found)).answer
        for question, found in voted.items()
    }


def _type_of(answers: Sequence[Answered]) -> AnswerType:
    return answers[0].answer_type


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of pass@k from n draws (Chen et al., 2021, Eq. 1).

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    from math import comb

    k = min(k, n)
    return 1.0 - comb(n - correct, k) / comb(n, k)


def greedy_hits(
    rows: Sequence[Answered], mode: Mode = "cot", reading: Reading = "strict"
) -> dict[str, float]:
    """Return question id -> 1.0 where the greedy answer is right, else 0.0."""
    read = rows if reading == "strict" else _flexibly(rows)
    return {f"{r.set}/{r.question_id}": float(r.correct) for r in read if r.mode == mode}


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions whose vote share falls into [low, high): how often their majority is right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def calibration(rows: Sequence[Answered], bins: int = 5) -> list[Bin]:
    """Return accuracy of the majority by vote share (LMSI, Fig. 2); empty bins are left out."""
    held: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    voted = [r for r in rows if r.mode == "self_consistency"]
    for answers in _by_question(voted).values():
        share = vote([a.answer for a in answers], _type_of(answers)).confidence
        held[min(int(share * bins), bins - 1)].append((share, _majority_is_right(answers)))
    return [
        Bin(
            low=index / bins,
            high=(index + 1) / bins,
            n=len(found),
            confidence=sum(share for share, _ in found) / len(found),
            accuracy=sum(right for _, right in found) / len(found),
        )
        for index, found in sorted(held.items())
    ]
