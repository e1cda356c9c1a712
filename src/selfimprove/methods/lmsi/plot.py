"""LMSI: Large Language Models Can Self-Improve (Huang et al., EMNLP 2023, arXiv:2210.11610).

    for each unlabelled question x:
        draw m reasoning paths at temperature T with a few-shot prompt      Sec. 3.1
        y~ = the majority answer; keep EVERY path that reaches it           Sec. 3.1
    write each kept path in four formats and fine-tune the model on them    Sec. 3.2, 3.3

Deviations, and choices where the paper is silent:
- Answers are compared by value (1/2 = 0.5), not as strings; a path without an answer never wins
  and stays in the denominator; a tie goes to the answer met first, and is counted.
- `formats.mix: one` writes each kept path in one format, drawn by seed, instead of in all four:
  the same mixture for a quarter of the training cost. The default is the paper's `all`.
- A path ends with the sentence that gives its answer; what the model invents behind it is not
  learned. A path that states no answer votes with the last number or option it names
  (`paths.reading: strict` leaves it out).
- A gate compares every student with its parent on held-out questions: `data.dev`, or a tenth of the
  training questions, which then are not learned from. The paper trains once, on all of them.
No gold answer is read in this file: measuring and the control arms belong to `evaluation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfimprove.answers.answers import read_draw
from selfimprove.answers.ballots import VotedQuestion, vote_each, weighted_votes
from selfimprove.data import question_prompts as layouts
from selfimprove.data.exemplars import Exemplar, ExemplarSet
from selfimprove.data.sources import training_questions
from selfimprove.evaluation.scoreboard import Scoreboard
from selfimprove.methods.lmsi import low_resource
from selfimprove.methods.lmsi.config import FormatsConfig, KeepConfig, LmsiConfig, PathsConfig
from selfimprove.methods.lmsi.held_out import decontamination, shown_exemplars
from selfimprove.rows import Batch, Drop, Filtered, Funnel, Rows
from selfimprove.sampling.engine import Engine, PromptLayout, SamplingConfig, draw_in_order
from selfimprove.sampling.served import Served
from selfimprove.seeds import rng
from selfimprove.store import Run
from selfimprove.training.export import Exporter
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown
from selfimprove.training.trainings import SupervisedTraining
from selfimprove.types import Example, Message, ModelRef, Question, ReasoningPath

__all__ = ["run"]


# --8<-- [start:plot]
def run(config: LmsiConfig, steps: Run) -> ModelRef:
    """Run every round and return the newest promoted model, as it leaves the run.

    Raises:
        SelfImproveError: bad data, a stale step, a model that cannot be loaded; nothing is lost.
    """
    teacher = steps.locate(config.model)
    base = steps.locate(config.student) if config.student else teacher
    export = Exporter(steps, config.export, base)
    board = Scoreboard(steps, config.data, config.evaluation, export)
    board.prepare(config.controls)

    # 0. Questions without answers, and the exemplars they are asked with (Sec. 4, 5.3).
    questions = steps.rows("questions", training_questions, config.data.train)
    apart = decontamination(config, steps)
    questions = board.hold_back(apart.questions("questions", questions), teacher)
    board.measure("base", base)
    if config.student:
        board.measure("teacher", teacher)
    if config.questions:
        questions = low_resource.write_questions(steps, teacher, questions, config)
        questions = board.clear_of_gate(apart.questions("own-questions", questions))
    if config.exemplars:
        sets = low_resource.write_exemplars(steps, teacher, questions, config)
    else:
        sets = shown_exemplars(apart, questions)

    newest, sampler = base, teacher
    for number in range(1, config.iterations + 1):
        name = f"round-{number}"
        # 1. Draw m reasoning paths for every question (Sec. 3.1).
        paths = steps.sharded(f"{name}-paths", draw_paths, questions, steps.asks(sampler), sets,
                              config.paths, steps.seed,
                              shard_items=config.paths.shard_questions)  # fmt: skip
        # 2. Vote, question by question (Sec. 3.1).
        votes = _vote(config, steps, name, questions, paths)
        # 3. Keep every path that agrees with the vote (Sec. 3.1).
        kept = steps.rows(f"{name}-kept", agreeing_paths, paths, votes, _threshold(config))
        # 4. Write them in mixed formats (Sec. 3.2) and fine-tune on them (Sec. 3.3).
        start = base if config.restart else newest
        examples, student = _learn(config, steps, name, start, (questions, kept, sets))
        board.watch(number, votes, kept)
        board.measure(name, student, parent=start, data=examples, round_number=number)
        newest = board.promote(name, parent=newest, child=student)
        sampler = sampler if newest == base else newest
        # Control arms: the same training on paths chosen otherwise.
        for control in config.controls if number == 1 else ():
            chosen = board.choose(control, paths, config.keep.max_per_question)
            examples, arm = _learn(config, steps, control, start, (questions, chosen, sets))
            board.measure(control, arm, parent=start, data=examples, kind="control")
    board.summarise("lmsi", "LMSI: Large Language Models Can Self-Improve", config.model,
                    overlaps=apart.told)  # fmt: skip
    return board.leaving(newest)


# --8<-- [end:plot]


def _vote(
    config: LmsiConfig,
    steps: Run,
    name: str,
    questions: Rows[Question],
    paths: Rows[ReasoningPath],
) -> Rows[VotedQuestion]:
    """Hold the vote; where every path counts alike, as it was held before there were weights."""
    if config.vote.weights is None:
        return steps.rows(f"{name}-votes", vote_each, questions, paths)
    return steps.rows(f"{name}-votes", weighted_votes, questions, paths, config.vote)


def _threshold(config: LmsiConfig) -> KeepConfig:
    """Questions of the model's own making must also pass their own confidence (Sec. 5.3)."""
    if config.questions is None:
        return config.keep
    floor = max(config.keep.min_confidence, config.questions.min_confidence)
    return config.keep.model_copy(update={"min_confidence": floor})


def _learn(
    config: LmsiConfig,
    steps: Run,
    name: str,
    start: ModelRef,
    material: tuple[Rows[Question], Rows[ReasoningPath], tuple[ExemplarSet, ...]],
) -> tuple[Rows[TrainingRow], ModelRef]:
    examples = steps.rows(f"{name}-examples", mixed_formats, *material, config.formats, steps.seed)
    student = steps.train(f"{name}-model", fine_tune, start, examples, config.sft,
                          steps.engine.layout, steps.seed)  # fmt: skip
    return examples, student


def draw_paths(
    chunks: Sequence[Sequence[Question]],
    model: Served,
    sets: tuple[ExemplarSet, ...],
    config: PathsConfig,
    seed: int,
) -> Iterator[Batch[ReasoningPath]]:
    """Draw m paths a question, spread evenly over the exemplar sets of its dataset."""
    layout = layouts.chain_of_thought if config.layout == "cot" else layouts.standard
    ways = Counter(s.dataset for s in sets).most_common(1)[0][1]
    sampling = SamplingConfig(
        n=config.m // ways,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        stop=config.stop,
    )

    def drawn(sampler: Engine, chunk: Sequence[Question]) -> Batch[ReasoningPath]:
        asked = {
            f"{q.id}#{way}": (q, way, shown.exemplars)
            for q in chunk
            for way, shown in enumerate(s for s in sets if s.dataset == q.dataset)
        }
        prompts = [
            layouts.as_prompt(key, layout(q.text, shown), chat=model.chat)
            for key, (q, _, shown) in asked.items()
        ]
        draws = draw_in_order(sampler, prompts, sampling, seed=seed)
        rows = []
        for draw in draws:
            question, way, _ = asked[draw.key]
            read = read_draw(draw, question, config.reading)
            rows.append(ReasoningPath(question.id, draw.index * ways + way, read.text,
                                      read.answer, read.finish, draw.new_tokens,
                                      draw.reasoning))  # fmt: skip
        prompt_tokens = sum(d.prompt_tokens for d in draws if d.index == 0)
        sampled = sum(r.new_tokens for r in rows)
        return Batch(rows, sampled, prompt_tokens, sampler.identity)

    return model.each(chunks, drawn)


def agreeing_paths(
    paths: Sequence[ReasoningPath], votes: Sequence[VotedQuestion], keep: KeepConfig
) -> Filtered[ReasoningPath]:
    """Keep every path that reaches its question's majority answer."""
    of = {v.question_id: v for v in votes}
    kept: list[ReasoningPath] = []
    dropped: Counter[str] = Counter()
    per_question: Counter[str] = Counter()
    for path in paths:
        why = _why_dropped(path, of[path.question_id], keep, per_question[path.question_id])
        if why:
            dropped[why] += 1
        else:
            kept.append(path)
            per_question[path.question_id] += 1
    drops = tuple(Drop(why, count) for why, count in dropped.most_common())
    asked = Drop("question without any kept path", len(of) - len(per_question))
    return Filtered(
        kept,
        (
            Funnel("paths that agree with the vote", len(paths), len(kept), drops),
            Funnel("questions with a kept path", len(of), len(per_question), (asked,)),
        ),
    )


def _why_dropped(
    path: ReasoningPath, voted: VotedQuestion, keep: KeepConfig, already: int
) -> str | None:
    if path.answer is None:
        return "states no answer"
    if not path.is_finished:
        return "cut off within its answer's sentence"
    if path.index not in voted.agreeing:
        return "outvoted"
    if voted.confidence < keep.min_confidence:
        return "vote below min_confidence"
    if keep.max_per_question is not None and already >= keep.max_per_question:
        return "above max_per_question"
    return None


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One kept path in one format."""

    question_id: str
    format: str
    prompt: str
    completion: str


def mixed_formats(
    questions: Sequence[Question],
    kept: Sequence[ReasoningPath],
    sets: tuple[ExemplarSet, ...],
    config: FormatsConfig,
    seed: int,
) -> Filtered[TrainingRow]:
    """Write each kept path in the formats of the recipe."""
    of = {q.id: q for q in questions}
    rows = []
    for path in kept:
        draw = rng(seed, "formats", path.question_id, path.index)
        question = of[path.question_id]
        ways = [s.exemplars for s in sets if s.dataset == question.dataset]
        chosen = config.use if config.mix == "all" else (draw.choice(config.use),)
        rows += [_written(question, path, name, draw.choice(ways)) for name in chosen]
    unique = list(dict.fromkeys(rows)) if config.deduplicate else rows
    dropped = (Drop("identical row", len(rows) - len(unique)),)
    return Filtered(unique, (Funnel("training rows", len(rows), len(unique), dropped),))


def _written(
    question: Question, path: ReasoningPath, name: layouts.Layout, shown: tuple[Exemplar, ...]
) -> TrainingRow:
    answer = layouts.answer_only(layouts.stated(path.answer or "", question.answer_type))
    completion = path.text if name in layouts.REASONED else answer
    return TrainingRow(question.id, name, layouts.laid_out(name, question.text, shown), completion)


def fine_tune(
    base: ModelRef,
    rows: Sequence[TrainingRow],
    config: SftConfig,
    layout: PromptLayout,
    seed: int,
) -> SupervisedTraining:
    """Fine-tune on the rows; the loss is taken on the completions alone."""
    examples = [
        Example((Message("user", r.prompt),), r.completion.strip())
        if layout.chat
        else Example(r.prompt, r.completion)
        for r in rows
    ]
    return SupervisedTraining(Path(base.path), examples, config, seed,
                              Shown(layout.chat_template_kwargs))  # fmt: skip
