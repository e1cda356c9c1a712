"""Two systems compared from the command line: what `selfimprove eval head-to-head` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeAlias

from selfimprove.config import apply_override, load
from selfimprove.data.alpaca_eval import (
    ModelOutput,
    read_outputs,
    read_preferences,
    write_outputs,
)
from selfimprove.data.gamed_baselines import GamedBaselines, read_gamed_baselines
from selfimprove.data.sources import Source
from selfimprove.data.user_prompts import read_prompts
from selfimprove.errors import ConfigError, DataError
from selfimprove.evaluation.alpaca_eval_2 import length_controlled_win_rate
from selfimprove.evaluation.head_to_head import head_to_head
from selfimprove.files import make_folder, writing_to
from selfimprove.judges.judge import compare, judging_model
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.own_engine import ChatsAndJudges
from selfimprove.models import locate
from selfimprove.progress import track
from selfimprove.reasoning import parted
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.responses import respond
from selfimprove.sampling.served import serving
from selfimprove.types import Match, ModelRef, Outcome, Response, UserPrompt

__all__ = ["compare_systems", "recount"]

_CHUNK = 64
_RANDOM = "random"


class _Versus(ChatsAndJudges):
    """What may be overridden on the command line."""

    judge: JudgeConfig = JudgeConfig()
    """Who decides; `judge.model` is what --judge names."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.7, top_p=0.9, max_tokens=512)
    """How models answer, where the systems are models and not files."""


def recount(preferences: Path, gamed: Path | None = None) -> dict[str, Any]:
    """Count an AlpacaEval annotations file anew.

    Args:
        preferences: `annotations.json`.
        gamed: AlpacaEval 2's `df_gamed.csv`, for the length-controlled rate that it publishes; the
            annotations are then those of its evaluation set, in its order.

    Raises:
        DataError: a file cannot be read.
    """
    known = None if gamed is None else read_gamed_baselines(gamed)
    outcomes, first, second = read_preferences(preferences)
    told = head_to_head(outcomes, first=first, second=second, judge=preferences.name,
                        set=f"{len(outcomes)} annotations")  # fmt: skip
    return told.as_dict() | _as_published(outcomes, known, draws=1)


def _as_published(
    outcomes: Sequence[Outcome], known: GamedBaselines | None, *, draws: int
) -> dict[str, Any]:
    """Return AlpacaEval 2's own rate, where its baselines are known."""
    if known is None:
        return {}
    places = [number // draws for number in range(len(outcomes))]
    return {"alpaca_eval_2": asdict(length_controlled_win_rate(outcomes, places, known))}


def compare_systems(  # noqa: PLR0913  two systems, a judge, prompts, how, and a seed
    first: str,
    second: str,
    judge: str,
    overrides: Sequence[str],
    *,
    prompts: str | None,
    limit: int | None,
    seed: int,
    outputs: Path | None = None,
    gamed: Path | None = None,
) -> dict[str, Any]:
    """Compare two `model_outputs.json` files, or two models that answer a file of prompts.

    Args:
        first: a file of outputs, or a model: tiny, a folder, a hub id.
        second: likewise.
        judge: a model that judges.
        overrides: fields of `judge`, `sampling` and `engine`, e.g. judge.kind=pairwise.
        prompts: format:file; needed where a system is a model.
        limit: compare on the first so many prompts.
        seed: of responses and verdicts.
        outputs: a folder for the responses of models, as `model_outputs.json` files.
        gamed: AlpacaEval 2's `df_gamed.csv`, where the prompts are AlpacaEval's in its order.

    Raises:
        ConfigError: an override is unknown, or prompts are missing.
        DataError: a file cannot be read, or the two answered different prompts.
        StoreError: `outputs` cannot be written.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        apply_override(tree, override)
    named = {"model": judge, **({"kind": _RANDOM, "votes": 1} if judge == _RANDOM else {})}
    told = tree.get("judge") or {}
    by = {**named, **told} if isinstance(told, dict) else told
    config = load(_Versus, {**tree, "judge": by}, "overrides")
    if config.judge.model == "self":
        raise ConfigError("--judge self: there is no run whose model it could be; name a model")
    known = None if gamed is None else read_gamed_baselines(gamed)
    # Whatever can fail for the files and names that were given fails before the first token.
    if outputs is not None:
        make_folder(outputs)
        with writing_to(outputs), TemporaryFile(dir=outputs):
            pass
    by = judging_model(config.judge, ModelRef("", "", ""))
    systems = [_system(name, prompts, limit) for name in (first, second)]
    _refuse_different_prompts(*systems, draws=config.sampling.n)
    ours, theirs = (_outputs(system, config, seed) for system in systems)
    if outputs is not None:
        for name, rows in (("first", ours), ("second", theirs)):
            first_draws = list({o.instruction: o for o in reversed(rows)}.values())[::-1]
            write_outputs(outputs / f"{name}.json", first_draws)
    matched = _matches(ours, theirs)
    outcomes = _decide(matched, by, config, seed)
    told = head_to_head(outcomes, first=_name(ours, first), second=_name(theirs, second),
                        judge=f"{config.judge.kind} {judge}",
                        set=f"{len({m.prompt_id for m in matched})} prompts")  # fmt: skip
    draws = config.sampling.n if any(isinstance(s, _Answering) for s in systems) else 1
    return told.as_dict() | _as_published(outcomes, known, draws=draws)


@dataclass(frozen=True, slots=True)
class _Answering:
    """A model that is to answer prompts."""

    model: ModelRef
    source: Source
    prompts: list[UserPrompt]


_System: TypeAlias = "list[ModelOutput] | _Answering"


def _system(name: str, prompts: str | None, limit: int | None) -> _System:
    if name.endswith(".json"):
        told = read_outputs(Path(name))[:limit]
        return [_spoken(one) for one in told]
    if prompts is None:
        raise ConfigError(
            f"{name} is no .json file of outputs: as a model it needs --prompts format:file"
        )
    kind, colon, file = prompts.partition(":")
    source = Source(source=file if colon else prompts, format=kind if colon else "", limit=limit)
    return _Answering(locate(name), source, read_prompts((source,)))


def _spoken(given: ModelOutput) -> ModelOutput:
    """Return an output without its reasoning; where that never closes, there is no response."""
    said = parted(given.output)
    return replace(given, output=said.response, finish=given.finish if said.finished else "length")


def _refuse_different_prompts(first: _System, second: _System, *, draws: int) -> None:
    ours, theirs = (
        [p.text for p in system.prompts for _ in range(draws)]
        if isinstance(system, _Answering)
        else [o.instruction for o in system]
        for system in (first, second)
    )
    if not ours or ours != theirs:
        raise DataError(
            f"the two systems ({len(ours)} and {len(theirs)} responses) did not answer the same "
            "prompts in the same order: compare files made from one prompt set; a file holds one "
            "response a prompt, so against it a model draws one (sampling.n=1)"
        )


def _outputs(system: _System, config: _Versus, seed: int) -> list[ModelOutput]:
    if not isinstance(system, _Answering):
        return system
    asked, name = system.prompts, system.model.name
    chunks = [asked[i : i + _CHUNK] for i in range(0, len(asked), _CHUNK)]
    with serving(system.model, config.engine) as model:
        batches = respond(chunks, model, config.sampling, seed)
        rows: list[Response] = [r for b in track(batches, name, len(chunks)) for r in b.rows]
    return [ModelOutput(system.source.format, r.prompt, r.text, name, r.finish) for r in rows]


def _matches(ours: Sequence[ModelOutput], theirs: Sequence[ModelOutput]) -> list[Match]:
    prompts: dict[str, str] = {}  # several draws of one prompt are resampled together
    return [
        Match(str(number), prompts.setdefault(one.instruction, str(number)), one.instruction,
              one.output, other.output, one.finish, other.finish)
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1)
    ]  # fmt: skip


def _decide(matched: Sequence[Match], by: ModelRef, config: _Versus, seed: int) -> list[Outcome]:
    chunks = [matched[i : i + _CHUNK] for i in range(0, len(matched), _CHUNK)]
    with serving(by, config.judge.engine or config.engine) as judge:
        batches = compare(chunks, judge, config.judge, seed)
        return [o for batch in track(batches, "matches", len(chunks)) for o in batch.rows]


def _name(rows: Sequence[ModelOutput], given: str) -> str:
    return rows[0].generator if rows else given
