"""LMSI with fewer resources (Sec. 5.3): the model writes the questions, or the exemplars, itself.

questions: show a few real questions of one dataset in random order, let the model go on with new
ones, which belong to that dataset; keep those whose own vote is confident
exemplars: answer with 'Let's think step by step.', use the paths as few-shot exemplars
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pydantic import Field

from selfimprove.answers.answers import read_draw, reasoning_before_answer
from selfimprove.config import Config
from selfimprove.data import question_prompts as layouts
from selfimprove.data.exemplars import Exemplar, ExemplarSet
from selfimprove.errors import ConfigError, EngineError
from selfimprove.rows import Batch, Drop, Filtered, Funnel, Rows
from selfimprove.sampling.engine import Engine, SamplingConfig, draw_in_order
from selfimprove.sampling.served import Served
from selfimprove.seeds import rng
from selfimprove.store import Run
from selfimprove.types import AnswerType, FinishReason, ModelRef, Question, ReasoningPath

__all__ = ["ExemplarsConfig", "QuestionsConfig", "write_exemplars", "write_questions"]


class QuestionsConfig(Config):
    """Questions of the model's own making."""

    count: int = Field(default=1_000, ge=1)
    """New questions to ask for, as many of each dataset; fewer remain after the filters."""
    seeds: int = Field(default=10, ge=1)
    """Real questions of each dataset that are known. Paper: 10 for GSM8K."""
    shown: int = Field(default=4, ge=1)
    """Of these, so many are shown at a time, in random order."""
    temperature: float = Field(default=0.7, gt=0)
    """Of the drawing."""
    max_tokens: int = Field(default=128, ge=1)
    """Longest question."""
    min_confidence: float = Field(default=0.5, ge=0, le=1)
    """Learn only from questions whose vote share reaches this. Paper: 'high', no figure."""


class ExemplarsConfig(Config):
    """Few-shot exemplars of the model's own making."""

    sets: int = Field(default=20, ge=1)
    """Different prompts to spread the paths over. Paper: 20."""
    shots: int = Field(default=4, ge=1)
    """Exemplars a prompt. Paper: 4."""
    temperature: float = Field(default=0.7, gt=0)
    """Of the drawing."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest path."""


_OPEN_ENDED = ("number", "span", "yes_no")

Kind: TypeAlias = tuple[str, AnswerType]
"""A dataset, and how answers to its questions are read."""


class NeedsLess(Protocol):
    """The part of a recipe that this file reads."""

    @property
    def questions(self) -> QuestionsConfig | None: ...
    @property
    def exemplars(self) -> ExemplarsConfig | None: ...


@dataclass(frozen=True, slots=True)
class Written:
    """A text that the model wrote from the prompt called `key`, after questions of one kind."""

    key: str
    text: str
    dataset: str
    answer_type: AnswerType
    reasoning: str = ""
    """What it thought before it, between the marks of a reasoning block."""
    finish: FinishReason = "stop"


def write_questions(
    steps: Run, model: ModelRef, known: Rows[Question], config: NeedsLess
) -> Rows[Question]:
    """Return new questions, written by the model after a few known ones.

    Raises:
        ConfigError: all known questions come with choices; the model cannot write those.
        EngineError: nothing that the model wrote is a new question.
    """
    wanted = config.questions or QuestionsConfig()
    seeds = steps.rows("seed-questions", seed_questions, known, wanted.seeds, steps.seed)
    if not seeds:
        raise ConfigError(
            "questions: the training questions all come with choices, and a model can only write "
            "open-ended ones; leave `questions` out, or give data.train such as gsm8k"
        )
    written = steps.sharded("written-questions", draw_questions, range(wanted.count),
                            steps.asks(model), seeds, wanted, steps.seed, shard_items=256)  # fmt: skip
    made = steps.rows("own-questions", new_questions, written, seeds)
    if not made:
        raise EngineError(
            f"none of the {len(written)} texts that {model.name} wrote is a new question: raise "
            "questions.count or questions.max_tokens, or give more questions.seeds"
        )
    return made


def seed_questions(known: Sequence[Question], count: int, seed: int) -> Filtered[Question]:
    """Choose `count` open-ended questions of each dataset, and of each answer type within it."""
    open_ended = [q for q in known if q.answer_type in _OPEN_ENDED]
    chosen = [
        q
        for kind, some in _by_kind(open_ended).items()
        for q in rng(seed, "seed questions", *kind).sample(some, k=min(count, len(some)))
    ]
    drops = (
        Drop("comes with choices", len(known) - len(open_ended)),
        Drop("not drawn", len(open_ended) - len(chosen)),
    )
    return Filtered(chosen, (Funnel("seed questions", len(known), len(chosen), drops),))


def _by_kind(questions: Sequence[Question]) -> dict[Kind, list[Question]]:
    found: dict[Kind, list[Question]] = {}
    for q in questions:
        found.setdefault((q.dataset, q.answer_type), []).append(q)
    return found


def draw_questions(
    chunks: Sequence[Sequence[int]],
    model: Served,
    seeds: Sequence[Question],
    config: QuestionsConfig,
    seed: int,
) -> Iterator[Batch[Written]]:
    """Show a few seed questions of one kind in random order and let the model write the next.

    The kinds take turns: what follows questions of one dataset is a question of that dataset.
    """
    sampling = SamplingConfig(
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        stop=("\nQ:", "\nA:", "\n\n"),
    )
    kinds = list(_by_kind(seeds).items())

    def written(sampler: Engine, chunk: Sequence[int]) -> Batch[Written]:
        asked = {f"own-{i}": (i, *kinds[i % len(kinds)]) for i in chunk}
        prompts = [
            layouts.as_prompt(key, _list_of(some, config, seed, i), chat=model.chat)
            for key, (i, _, some) in asked.items()
        ]
        draws = draw_in_order(sampler, prompts, sampling, seed=seed)
        rows = [
            Written(d.key, d.text, *asked[d.key][1], reasoning=d.reasoning, finish=d.finish)
            for d in draws
        ]
        sampled, read = (sum(d.new_tokens for d in draws), sum(d.prompt_tokens for d in draws))
        return Batch(rows, sampled, read, sampler.identity)

    return model.each(chunks, written)


def _list_of(seeds: Sequence[Question], config: QuestionsConfig, seed: int, number: int) -> str:
    shown = rng(seed, "shown questions", number).sample(seeds, k=min(config.shown, len(seeds)))
    return "\n\n".join([*(f"Q: {q.text}" for q in shown), "Q:"])


def new_questions(written: Sequence[Written], seeds: Sequence[Question]) -> Filtered[Question]:
    """Keep what ends as a question does and was not asked before, upper and lower case taken as equal.

    Questions end with a question mark, or with the word that a seed of their kind without one ends
    with: `not ( True ) and False is`, `(3 + 4) =`.
    """
    seen = {q.text.casefold() for q in seeds}
    ends = {(q.dataset, q.answer_type, word) for q in seeds if (word := _last_word(q.text))}
    kept: list[Question] = []
    dropped: Counter[str] = Counter()
    for row in written:
        text = row.text.strip()
        if row.finish != "stop":
            dropped["cut off by max_tokens"] += 1
        elif (
            not text.endswith("?") and (row.dataset, row.answer_type, _last_word(text)) not in ends
        ):
            dropped["not a question"] += 1
        elif text.casefold() in seen:
            dropped["asked before"] += 1
        else:
            seen.add(text.casefold())
            kept.append(Question(row.key, row.dataset, text, row.answer_type))
    drops = tuple(Drop(why, count) for why, count in dropped.most_common())
    return Filtered(kept, (Funnel("own questions", len(written), len(kept), drops),))


def _last_word(text: str) -> str | None:
    words = text.split()
    return words[-1] if len(words) > 1 else None


def write_exemplars(
    steps: Run, model: ModelRef, known: Rows[Question], config: NeedsLess
) -> tuple[ExemplarSet, ...]:
    """Return exemplar sets whose reasoning the model wrote itself, without any exemplar.

    Raises:
        EngineError: too few paths of a dataset state an answer.
    """
    wanted = config.exemplars or ExemplarsConfig()
    asked = steps.rows("exemplar-questions", exemplar_questions, known, wanted, steps.seed)
    paths = steps.sharded("exemplar-paths", solve, asked, steps.asks(model), wanted, steps.seed,
                          shard_items=256)  # fmt: skip
    made = steps.rows("own-exemplars", own_exemplars, asked, paths, wanted, steps.seed)
    return made.items


def exemplar_questions(
    known: Sequence[Question], config: ExemplarsConfig, seed: int
) -> list[Question]:
    """Choose as many questions of every dataset as its exemplar sets have places."""
    chosen: list[Question] = []
    for dataset in sorted({q.dataset for q in known}):
        some = [q for q in known if q.dataset == dataset]
        count = min(len(some), config.sets * config.shots)
        chosen += rng(seed, "exemplar questions").sample(some, k=count)
    return chosen


def solve(
    chunks: Sequence[Sequence[Question]], model: Served, config: ExemplarsConfig, seed: int
) -> Iterator[Batch[ReasoningPath]]:
    """Answer every question step by step, once, without an exemplar."""
    sampling = SamplingConfig(
        temperature=config.temperature, max_tokens=config.max_tokens, stop=("\nQ:",)
    )

    def solved(sampler: Engine, chunk: Sequence[Question]) -> Batch[ReasoningPath]:
        asked = {f"exemplar-{q.id}": q for q in chunk}
        prompts = [
            layouts.as_prompt(key, layouts.step_by_step(q.text), chat=model.chat)
            for key, q in asked.items()
        ]
        draws = draw_in_order(sampler, prompts, sampling, seed=seed)
        read = [(asked[d.key], read_draw(d, asked[d.key], "strict")) for d in draws]
        rows = [
            ReasoningPath(q.id, 0, r.text, r.answer, r.finish, d.new_tokens, d.reasoning)
            for d, (q, r) in zip(draws, read, strict=True)
        ]
        return Batch(rows, sum(d.new_tokens for d in draws),
                    sum(d.prompt_tokens for d in draws), sampler.identity)  # fmt: skip

    return model.each(chunks, solved)


def own_exemplars(
    asked: Sequence[Question], paths: Sequence[ReasoningPath], config: ExemplarsConfig, seed: int
) -> list[ExemplarSet]:
    """Group the paths that state an answer into sets, each of one dataset.

    Raises:
        EngineError: they are too few for a set.
    """
    solved: dict[str, list[Exemplar]] = {q.dataset: [] for q in asked}
    for question, path in zip(asked, paths, strict=True):
        reasoning = reasoning_before_answer(path.text)
        if path.answer is not None and reasoning:
            shown = layouts.stated(path.answer, question.answer_type)
            solved[question.dataset].append(Exemplar(question.text, reasoning, shown))
    made: list[ExemplarSet] = []
    for dataset, some in solved.items():
        if len(some) < config.shots:
            raise EngineError(
                f"the model solved {len(some)} {dataset} questions step by step, {config.shots} are "
                "needed for an exemplar set: use the shipped exemplars"
            )
        for number in range(config.sets):
            shown_ones = rng(seed, "own exemplars", dataset, number).sample(some, k=config.shots)
            made.append(ExemplarSet(dataset, tuple(shown_ones)))
    return made
