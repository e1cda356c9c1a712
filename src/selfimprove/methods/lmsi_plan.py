"""What an LMSI run would do and cost, told before it starts (`--dry-run`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from selfimprove.data.sources import count_questions, training_questions
from selfimprove.methods.lmsi import LmsiConfig
from selfimprove.models import is_here, is_hub_id, locate

__all__ = ["Needs", "PlannedStep", "needs", "plan"]

_CHARACTERS_A_TOKEN = 4  # of English text, roughly
_ROW_BYTES = 2  # on disk, a token of a stored path, compressed
_ADAM_BYTES = 16  # float32 weight, gradient and two moments, a parameter
_ADAPTER_SHARE = 0.02  # of the parameters, trained by LoRA at usual ranks


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step, with upper bounds of its cost; a run usually stays well below them."""

    name: str
    does: str
    tokens_sampled: int
    tokens_trained: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run asks of the machine, roughly."""

    memory_bytes: int
    """Of the largest step, without activations and the cache of the rows."""
    disk_bytes: int
    """Of the finished run, and the two checkpoints of the training that is under way."""


def needs(config: LmsiConfig, steps: Sequence[PlannedStep]) -> Needs | None:
    """Estimate memory and disk from the model's files; None for a hub id, which is not fetched.

    Raises:
        EngineError: there is no such model.
    """
    name = config.student or config.model
    if not is_here(name) and is_hub_id(name):
        return None
    learner = Path(locate(name).path)
    weights = sum(f.stat().st_size for f in learner.glob("*.safetensors"))
    count = sum(_parameters(f) for f in learner.glob("*.safetensors"))
    trained = sum(s.tokens_trained > 0 for s in steps)
    rows = sum(s.tokens_sampled + s.tokens_trained for s in steps) * _ROW_BYTES
    share = _ADAPTER_SHARE if config.sft.lora else 1.0
    training = int(_ADAM_BYTES * count * share) + (weights if config.sft.lora else 0)
    # A checkpoint holds the trained weights and their two moments, in float32.
    checkpoints = 2 * int(12 * count * share)
    return Needs(max(training, weights), trained * weights + checkpoints + rows)


def _parameters(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        return sum(prod(tensors.get_slice(k).get_shape()) for k in tensors.keys())  # noqa: SIM118


def plan(config: LmsiConfig, root: Path) -> list[PlannedStep]:
    """List the steps of a run in the order they happen, and which are done.

    Raises:
        DataError: a data file cannot be read.
    """
    return [
        PlannedStep(name, does, sampled, trained, (root / name / "done.json").exists())
        for name, does, sampled, trained in _steps(config)
    ]


_Line = tuple[str, str, int, int]


def _steps(config: LmsiConfig) -> Iterator[_Line]:
    questions = training_questions(config.data.train)
    asked = config.questions.count if config.questions else len(questions)
    held_out = count_questions(config.data.test) + count_questions(config.data.ood)
    gate = count_questions(config.data.dev or config.data.test)
    ask = config.evaluation
    measured = (
        held_out
        * ask.max_tokens
        * sum(ask.votes if mode == "self_consistency" else 1 for mode in ask.modes)
    )
    yield "eval-base", f"ask {held_out} held-out questions: {', '.join(ask.modes)}", measured, 0
    yield "questions", f"read {len(questions)} questions, no answers", 0, 0
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
        yield f"gate-{name}", f"compare on {gate} questions", gate * ask.max_tokens, 0
        for control in config.controls if number == 1 else ():
            yield f"{control}-model", f"fine-tune the control arm '{control}'", 0, trained
            yield f"eval-{control}", f"ask it {held_out} questions", measured, 0


def _tokens_trained(config: LmsiConfig, asked: int, characters: int) -> int:
    """All paths kept, each as long as allowed: an upper bound without the few-shot prefixes."""
    per_path = config.paths.max_tokens + characters // max(asked, 1) // _CHARACTERS_A_TOKEN
    formats = len(config.formats.use) if config.formats.mix == "all" else 1
    rows = asked * (config.keep.max_per_question or config.paths.m) * formats
    return int(rows * per_path * config.sft.epochs)
