"""Engines that need an environment of their own, run by its Python: vLLM and llama.cpp."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from generate_side import Speed
from machine import say
from sampling_workloads import Size
from transformers import AutoTokenizer

__all__ = ["Job", "llama_cpp_runs", "vllm_runs"]

# On a CPU vLLM leaves a core idle unless told otherwise.
_SETTINGS = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "4",
             "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}  # fmt: skip
# How long OpenMP's threads spin (GOMP_SPINCOUNT) goes over: beside any other process llama.cpp is many
# times slower without it.
_NOT_THEIRS = ("PYTHONPATH",)


@dataclass(frozen=True)
class Job:
    """What is to be drawn."""

    folder: Path
    texts: Sequence[str]
    size: Size
    dtype: str
    threads: int
    repetitions: int

    def told(self) -> dict[str, Any]:
        """Return what the other side reads; prompts go over as tokens."""
        tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
        prompts = tokenizer(list(self.texts))["input_ids"]
        return {
            "model": str(self.folder), "dtype": self.dtype, "prompts": prompts,
            "max_model_len": max(map(len, prompts)) + self.size.max_tokens + 1,
            "draws": self.size.draws, "max_tokens": self.size.max_tokens,
            "threads": self.threads, "repetitions": self.repetitions,
        }  # fmt: skip


def vllm_runs(python: str, job: Job, rows: Sequence[int]) -> list[Speed]:
    """Time vLLM, with several numbers of draws at once; return the runs of the fastest."""
    best: list[Speed] = []
    for at_once in rows:
        told = _run("vLLM", python, "offline_vllm.py", {**job.told(), "rows": at_once})
        runs = [Speed(**run) for run in told["runs"]]
        say(
            f"  vLLM, {at_once} draws at once: {median(r.tokens_per_s for r in runs):,.0f} tokens/s"
        )
        best = max(best, runs, key=lambda found: median([r.tokens_per_s for r in found] or [0.0]))
    return best


def llama_cpp_runs(python: str, job: Job, gguf: Path) -> tuple[list[Speed], dict[str, Any]]:
    """Time llama.cpp on a GGUF file; return the runs, and which way of several they were made in."""
    told = _run("llama.cpp", python, "offline_llama_cpp.py", {**job.told(), "model": str(gguf)})
    for way, tokens_per_s in told["tried"].items():
        say(f"  llama.cpp, {way}: {tokens_per_s:,.0f} tokens/s in a trial")
    return [Speed(**run) for run in told["runs"]], {"way": told["way"], "tried": told["tried"]}


def _run(name: str, python: str, script: str, job: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in os.environ.items() if key not in _NOT_THEIRS}
    with tempfile.TemporaryDirectory() as scratch:
        asked, out = Path(scratch) / "job.json", Path(scratch) / "runs.json"
        asked.write_text(json.dumps(job), encoding="utf-8")
        words = [python, str(Path(__file__).parent / script), str(asked), str(out)]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env={**_SETTINGS, **kept}
        )
        if not out.exists():
            raise SystemExit(f"{name} failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
        told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return told
