"""LMSI with fewer resources (Sec. 5.3): the model writes the questions, or the exemplars, itself.

questions: show a few real questions of one dataset in random order, let the model go on with new
ones, which belong to that dataset; keep those whose own vote is confident
exemplars: answer with 'Let's think step by step.', use the paths as few-shot exemplars
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from pydantic import Field

from selfimprove.config import Config
from selfimprove.data import question_prompts as layouts
from selfimprove.data.exemplars import Exemplar, ExemplarSet
from selfimprove.errors import ConfigError, EngineError
from selfimprove.judges.answers import read_draw, reasoning_before_answer
from selfimprove.rows import Batch, Drop, Filtered, Funnel, Rows
from selfimprove.sampling.engine import Engine, EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.open import open_engine
from selfimprove.seeds import rng
from selfimprove.store import Run
from selfimprove.types import AnswerType, FinishReason, ModelRef, Question

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
    @property
    def engine(self) -> EngineConfig: ...
    @property
    def seed(self) -> int: ...


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
    seeds = steps.rows("seed-questions", seed_questions, known, wanted.seeds, config.seed)
    if not seeds:
        raise ConfigError(
            "questions: the training questions all come with choices, and a model can only write "
            "open-ended ones; leave `questions` out, or give data.train such as gsm8k"
        )
    written = steps.sharded("written-questions", draw_questions, range(wanted.count), model, seeds,
                            wanted, config.engine, config.seed, shard_items=256)  # fmt: skip
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
    model: ModelRef,
    seeds: Sequence[Question],
    config: QuestionsConfig,
    engine: EngineConfig,
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
    with closing(open_engine(Path(model.path), engine)) as sampler:
        for chunk in chunks:
            asked = {f"own-{i}": (i, *kinds[i % len(kinds)]) for i in chunk}
            prompts = [
                layouts.as_prompt(key, _list_of(some, config, seed, i), chat=engine.chat)
                for key, (i, _, some) in asked.items()
            ]
            draws = draw_in_order(sampler, prompts, sampling, seed=seed)
            rows = [
                Written(d.key, d.text, *asked[d.key][1], reasoning=d.reasoning, finish=d.finish)
                for d in draws
            ]
            sampled, read = (sum(d.new_tokens for d in draws), sum(d.prompt_tokens for d in draws))
            yield Batch(rows, sampled, read, sampler.identity)


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
    """Return exemplar sets whose reasoning the model wrote itself, without any exemplar."""
    wanted = config.exemplars or ExemplarsConfig()
    made = steps.rows("own-exemplars", own_exemplars, known, model, wanted, config.engine,
                      config.seed)  # fmt: skip
    return made.items


def own_exemplars(
    known: Sequence[Question],
    model: ModelRef,
    config: ExemplarsConfig,
    engine: EngineConfig,
    seed: int,
) -> list[ExemplarSet]:
    """Solve a few questions of every dataset step by step and group the paths into sets."""
    made: list[ExemplarSet] = []
    with closing(open_engine(Path(model.path), engine)) as sampler:
        for dataset in sorted({q.dataset for q in known}):
            questions = [q for q in known if q.dataset == dataset]
            solved = _solve(sampler, questions, config, chat=engine.chat, seed=seed)
            if len(solved) < config.shots:
                raise EngineError(
                    f"{model.name} solved {len(solved)} {dataset} questions step by step, "
                    f"{config.shots} are needed for an exemplar set: use the shipped exemplars"
                )
            for number in range(config.sets):
                shown = rng(seed, "own exemplars", dataset, number).sample(solved, k=config.shots)
                made.append(ExemplarSet(dataset, tuple(shown)))
    return made


def _solve(
    sampler: Engine,
    questions: Sequence[Question],
    config: ExemplarsConfig,
    *,
    chat: bool,
    seed: int,
) -> list[Exemplar]:
    """Answer as many questions as the sets have places, and keep the paths that state an answer."""
    count = min(len(questions), config.sets * config.shots)
    asked = {
        f"exemplar-{q.id}": q for q in rng(seed, "exemplar questions").sample(questions, k=count)
    }
    prompts = [
        layouts.as_prompt(key, layouts.step_by_step(q.text), chat=chat) for key, q in asked.items()
    ]
    sampling = SamplingConfig(
        temperature=config.temperature, max_tokens=config.max_tokens, stop=("\nQ:",)
    )
    solved = []
    for draw in draw_in_order(sampler, prompts, sampling, seed=seed):
        question = asked[draw.key]
        read = read_draw(draw, question, "strict")
        reasoning = reasoning_before_answer(read.text)
        if read.answer is not None and reasoning:
            shown = layouts.stated(read.answer, question.answer_type)
            solved.append(Exemplar(question.text, reasoning, shown))
    return solved
