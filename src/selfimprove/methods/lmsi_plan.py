"""The steps of an LMSI run, and what they would cost at most."""

from __future__ import annotations

from collections.abc import Iterator

from selfimprove.data.sources import count_questions, training_questions
from selfimprove.evaluation.accuracy import AskConfig
from selfimprove.evaluation.gate import held_back, needs_votes, to_learn_from
from selfimprove.evaluation.scoreboard import read_held_out
from selfimprove.methods.lmsi_config import LmsiConfig
from selfimprove.methods.plan import CHARACTERS_A_TOKEN, Line, Use

__all__ = ["lines", "uses"]


def lines(config: LmsiConfig) -> Iterator[Line]:
    """Yield the steps of a run in the order they happen.

    Raises:
        DataError: a data file cannot be read.
    """
    questions = training_questions(config.data.train)
    reported = read_held_out(tuple(("in", s) for s in (*config.data.test, *config.data.ood)))
    held_out, ask = len(reported), config.evaluation
    apart = (
        [] if config.data.dev else held_back(questions, config.data.train, reported, config.seed)
    )
    learned = len(to_learn_from(questions, apart).rows)
    asked = config.questions.count if config.questions else learned
    gate = count_questions(config.data.dev) if config.data.dev else len(apart)
    measured = held_out * _tokens_a_question(ask)
    measured_control = held_out * _tokens_a_question(ask.asking("control"))
    yield "eval-base", f"ask {held_out} held-out questions: {', '.join(ask.modes)}", measured, 0
    yield "questions", f"read {len(questions)} questions, no answers", 0, 0
    if apart:
        yield "gate-questions", f"hold {gate} of them back for the gate", 0, 0
    if needs_votes(apart):
        yield (
            "gate-votes",
            "vote on them: they have no answers",
            gate * ask.votes * ask.max_tokens,
            0,
        )
    if config.questions:
        sampled = config.questions.count * config.questions.max_tokens
        yield "written-questions", f"write {asked} new questions", sampled, 0
    if config.exemplars:
        sampled = config.exemplars.sets * config.exemplars.shots * config.exemplars.max_tokens
        yield "own-exemplars", f"write {config.exemplars.sets} exemplar sets", sampled, 0
    trained = _tokens_trained(config, asked, sum(len(q.text) for q in questions) or asked)
    for number in range(1, config.iterations + 1):
        name, m = f"round-{number}", config.paths.m
        drawn = asked * m * config.paths.max_tokens
        yield f"{name}-paths", f"draw {m} paths for {asked} questions", drawn, 0
        yield f"{name}-votes", f"vote on {asked} questions", 0, 0
        yield f"{name}-kept", "keep the paths that agree with the vote", 0, 0
        yield f"{name}-examples", f"write them as {', '.join(config.formats.use)}", 0, 0
        yield f"{name}-model", "fine-tune", 0, trained
        yield f"eval-{name}", f"ask {held_out} held-out questions again", measured, 0
        if gate:
            yield f"gate-{name}", f"compare on {gate} questions", gate * ask.max_tokens, 0
        for control in config.controls if number == 1 else ():
            yield f"{control}-model", f"fine-tune the control arm '{control}'", 0, trained
            yield f"eval-{control}", f"ask it {held_out} questions", measured_control, 0


def uses(config: LmsiConfig) -> Iterator[Use]:
    """Yield which models a run holds, and for what."""
    learner = config.student or config.model
    yield Use("draw paths, measure", config.model, config.engine)
    yield Use("fine-tune", learner, config.sft)
    if config.student:
        yield Use("measure the student", config.student, config.engine)


def _tokens_a_question(ask: AskConfig) -> int:
    draws = sum(ask.votes if mode == "self_consistency" else 1 for mode in ask.modes)
    return draws * ask.max_tokens


def _tokens_trained(config: LmsiConfig, asked: int, characters: int) -> int:
    """All paths kept, each as long as allowed: an upper bound without the few-shot prefixes."""
    per_path = config.paths.max_tokens + characters // max(asked, 1) // CHARACTERS_A_TOKEN
    formats = len(config.formats.use) if config.formats.mix == "all" else 1
    rows = asked * (config.keep.max_per_question or config.paths.m) * formats
    return int(rows * per_path * config.sft.epochs)
