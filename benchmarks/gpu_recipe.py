"""Sampling as a run does it, shard by shard: LMSI's paths, and an evaluation; beside the bare engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_models import folder_of
from gpu_parts import Setting
from machine import say

# isort: split
from sampling_workloads import sentence

from selfimprove.data.exemplars import ExemplarSet, exemplars_for
from selfimprove.data.question_prompts import as_prompt, chain_of_thought
from selfimprove.evaluation.accuracy import AskConfig, HeldOut, answer_questions
from selfimprove.evaluation.scoreboard import EvaluationConfig
from selfimprove.files import read_json
from selfimprove.methods.lmsi.config import PathsConfig
from selfimprove.methods.lmsi.plot import draw_paths
from selfimprove.models import locate
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.open import open_engine
from selfimprove.seeds import rng
from selfimprove.store import Run
from selfimprove.types import Labelled, Question

__all__ = ["recipe"]

_FORMAT = "gsm8k"


def recipe(setting: Setting, name: str) -> dict[str, Any]:
    """Time LMSI's paths and an evaluation in shards of the usual size, and the same paths in one call."""
    model = locate(str(folder_of(setting, name)))
    engine = EngineConfig(device=setting.device, dtype=setting.dtype)
    paths = _paths(setting)
    shard = 2 if setting.tiny else paths.shard_questions
    asked = _questions(2 * shard)
    shown = (ExemplarSet(_FORMAT, exemplars_for(_FORMAT)),)
    held = [HeldOut("made", "in", Labelled(q, ("7",))) for q in asked]
    ask = AskConfig(modes=("cot", "self_consistency"), votes=paths.m // 2,
                    max_tokens=paths.max_tokens)  # fmt: skip
    run = Run(setting.scratch / "run", engine=engine)
    by = run.asks(model)
    run.sharded("paths", draw_paths, asked, by, shown, paths, 0, shard_items=shard)
    run.held.free()
    measured = 2 if setting.tiny else EvaluationConfig().shard_questions
    run.sharded("evaluation", answer_questions, held, by, ask, 0, shard_items=measured)
    run.close()
    bare = _bare(Path(model.path), asked, paths, engine)
    told = {step: _rates(run.root / step) for step in ("paths", "evaluation")}
    for step, rates in told.items():
        say(f"  {step}: {rates['tokens_per_s']:,.0f} tokens/s, loading and all")
    say(f"  the same paths in one call of the engine: {bare:,.0f} tokens/s")
    return {**told, "bare_tokens_per_s": round(bare, 1),
            "share_of_bare": round(told["paths"]["last_shard_tokens_per_s"] / bare, 3)}  # fmt: skip


def _paths(setting: Setting) -> PathsConfig:
    if setting.tiny:
        return PathsConfig(m=2, max_tokens=6)
    return PathsConfig(m=8 if setting.quick else 16, max_tokens=64)


def _questions(count: int) -> list[Question]:
    draw = rng(0, "benchmark questions")
    told = (" ".join(sentence(draw) for _ in range(3)) for _ in range(count))
    return [
        Question(f"made-{n}", _FORMAT, f"{text} How many in all?", "number")
        for n, text in enumerate(told)
    ]


def _rates(step: Path) -> dict[str, Any]:
    """Return what a step's shards were made at; the first holds the loading of the model."""
    whole = read_json(step / "done.json")
    last = read_json(sorted(step.glob("shard-*.json"))[-1])
    return {
        "tokens": whole["tokens_sampled"],
        "seconds": whole["seconds"],
        "shards": whole["shards"],
        "tokens_per_s": round(whole["tokens_sampled"] / whole["seconds"], 1),
        "last_shard_tokens_per_s": round(last["tokens_sampled"] / last["seconds"], 1),
    }


def _bare(
    folder: Path, asked: Sequence[Question], paths: PathsConfig, config: EngineConfig
) -> float:
    prompts = [
        as_prompt(q.id, chain_of_thought(q.text, exemplars_for(_FORMAT)), chat=False) for q in asked
    ]
    sampling = SamplingConfig(n=paths.m, temperature=paths.temperature,
                              max_tokens=paths.max_tokens, stop=paths.stop)  # fmt: skip
    engine = open_engine(folder, config)
    began = time.perf_counter()
    tokens = sum(draw.new_tokens for draw in engine.draw(prompts, sampling, seed=0))
    seconds = time.perf_counter() - began
    engine.close()
    return tokens / seconds
