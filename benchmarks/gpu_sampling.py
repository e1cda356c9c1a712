"""Sampling bare: the built-in engine, `generate` beside it, and vLLM where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from gpu_models import cost_of, endless_of, folder_of
from gpu_parts import Setting
from machine import say

# isort: split
import torch
from generate_side import Baseline, Generate, Speed, common_prefix
from other_engines import Job, vllm_runs
from sampling import equal_greedy, ours
from sampling_workloads import WORKLOADS, Size, random_words
from transformers import AutoTokenizer

from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.open import open_engine

__all__ = ["cost_of_token", "greedy", "prompts", "sampling", "vllm"]

_ROWS = 2048
"""Of one call of `generate`."""
_SHORT_S = 3.0
"""A shorter run is made again."""
_VLLM_ROWS = 1024


def sampling(setting: Setting, name: str) -> dict[str, Any]:
    """Time the engine on the whole workload, and `generate` on as many prompts as one call takes."""
    folder, size = endless_of(setting, name), setting.size
    texts = prompts(folder, name, size.prompts)
    told: dict[str, Any] = _ours(setting, folder, texts)
    told |= _prompt_tokens(folder, texts)
    told |= cost_of_token(folder, told, size)
    told["generate"] = _generate(setting, folder, texts)
    best = max(told["generate"].values())
    return {**told, "ratio_to_generate": round(told["tokens_per_s"] / best, 2)}


def prompts(folder: Path, name: str, count: int) -> list[str]:
    """Return prompts of some 470 tokens, of which 395 are shared."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if f"w{len(tokenizer) - 1}" not in tokenizer.get_vocab():  # no random model
        return WORKLOADS["smollm2-135m"].prompts(tokenizer, count)
    return random_words(395, 75, 75)(tokenizer, count)


def _ours(setting: Setting, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    size = setting.size
    engine = open_engine(folder, EngineConfig(device=setting.device, dtype=setting.dtype))
    # As many rows as later: what is compiled or captured for them is made here.
    first = ours(engine, texts, Size(size.prompts, size.draws, 2))
    runs = [ours(engine, texts, size)]
    while len(runs) < 3 and runs[-1].seconds < _SHORT_S and not setting.tiny:
        runs.append(ours(engine, texts, size))
    peak = _peak_gib(setting)
    engine.close()
    best = max(run.tokens_per_s for run in runs)
    say(f"  ours: {best:,.0f} tokens/s")
    return {
        "tokens_per_s": round(best, 1),
        "runs": [round(run.tokens_per_s, 1) for run in runs],
        "first_call_s": round(first.seconds, 2),
        "tokens": runs[0].tokens,
        "engine": engine.identity,
        "engine_peak_memory_gib": peak,
    }


def _peak_gib(setting: Setting) -> float | None:
    """Return the most memory that was held since this was asked last."""
    if setting.device != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return round(peak, 2)


def _prompt_tokens(folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(list(texts))["input_ids"]
    return {"prompt_tokens": round(mean(map(len, ids))), "prefix_tokens": len(common_prefix(ids))}


def cost_of_token(folder: Path, told: Mapping[str, float], size: Size) -> dict[str, float]:
    """Return what a sampled token must cost, where nothing is read or computed twice.

    The prefix is read once for all, the rest of each question once for its draws; both need no output
    layer, and give each draw its first token. Behind them each token attends to all before it. It
    reads keys and values: of its own draw (half of them, in the mean), its share of the question's and
    of the prefix; and of the weights, of which reading and every step behind it read all for all rows.

    Args:
        folder: the model's.
        told: tokens of a prompt, in the mean, and of the prefix that all have in common.
        size: of the workload.
    """
    model, reader = cost_of(folder), cost_of(folder, scores=True)
    prefix, rows = told["prefix_tokens"], size.prompts * size.draws
    own = told["prompt_tokens"] - prefix
    read = reader.row(prefix) + size.prompts * reader.forward(own, prefix + own / 2)
    later = (size.max_tokens - 1) / size.max_tokens
    seen = size.max_tokens / 2 + own / size.draws + prefix / rows
    written = (prefix + size.prompts * own) / (rows * size.max_tokens)
    return {
        "flops_per_token": read / (rows * size.max_tokens)
        + model.forward(later, told["prompt_tokens"] + size.max_tokens / 2),
        "bytes_per_token": model.cache_bytes * (later * (seen + 1) + written)
        + 2 * model.weights / rows,
    }


def _generate(setting: Setting, folder: Path, texts: Sequence[str]) -> dict[str, float]:
    """Return tokens/s of `generate`, with and without the prefix in a cache (--quick: with)."""
    theirs = Generate(folder, setting.device, setting.dtype)
    told = {}
    for cached in (True,) if setting.quick else (True, False):
        way, speed = _fitting(theirs, texts, setting.size, cached)
        told[str(way)] = round(speed.tokens_per_s, 1)
        say(f"  generate, {way}: {speed.tokens_per_s:,.0f} tokens/s")
    return told


def _fitting(
    theirs: Generate, texts: Sequence[str], size: Size, cached: bool
) -> tuple[Baseline, Speed]:
    """Return the largest call that memory allows, and its speed."""
    batch = max(min(_ROWS // size.draws, len(texts)), 1)
    theirs.sample(texts[:1], Baseline(cached, 1), Size(1, size.draws, 2))
    while True:
        way = Baseline(cached, batch)
        try:
            return way, theirs.sample(texts[:batch], way, size)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        torch.cuda.empty_cache()
        batch //= 2


def greedy(setting: Setting, name: str) -> dict[str, Any]:
    """Compare greedy texts with those of `generate`, in float32."""
    folder = folder_of(setting, name)
    texts = prompts(folder, name, 2 if setting.tiny else 8)
    return {"equal": equal_greedy(folder, setting.device, texts, setting.size.max_tokens),
            "of": len(texts)}  # fmt: skip


def vllm(setting: Setting, name: str) -> dict[str, Any]:
    """Time vLLM on the whole workload, without its start."""
    folder, size = endless_of(setting, name), setting.size
    texts = prompts(folder, name, size.prompts)
    job = Job(folder, texts, size, setting.dtype, torch.get_num_threads(), repetitions=1)
    (run,) = vllm_runs(str(setting.vllm_python), job, (_VLLM_ROWS,))
    return {"tokens_per_s": round(run.tokens_per_s, 1), "tokens": run.tokens}
