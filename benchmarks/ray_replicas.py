"""Measures replicas on a CPU beside one process, and what the run's own process holds while many prompts pass.

    python benchmarks/ray_replicas.py [--model tiny] [--replicas 2] [--rounds 5] [--prompts 512] [--json FILE]
    python benchmarks/ray_replicas.py --memory 10000 100000 [--json FILE]

Compared, in turns, are one process with as many threads as replicas have together, one process with one
thread, and the replicas with one thread each, on the same prompts, cut alike. Ratios are those of medians; the
machine need not be idle, but what else runs on it hits all three alike only over several rounds. Starting is
not measured. `--memory` draws one token a prompt, by two replicas, and tells this process's resident memory
before, at its highest and after, the list of prompts itself left out of none of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from machine import keep, say

# isort: split
import torch

from selfimprove.models import locate
from selfimprove.sampling.engine import Engine, EngineConfig, RayConfig, SamplingConfig
from selfimprove.sampling.open import open_engine
from selfimprove.tiny.instructions import instructions
from selfimprove.types import Message, Prompt

_SHARD = 64
_HOW = SamplingConfig(n=4, temperature=1.0, max_tokens=48)


def prompts(count: int) -> list[Prompt]:
    """Return instructions of the tiny world, each a user's turn."""
    return [Prompt(f"p{n}", (Message("user", i.text),))
            for n, i in enumerate(instructions("train", count))]  # fmt: skip


def seconds(engine: Engine, asked: Sequence[Prompt], threads: int) -> tuple[float, int]:
    """Draw all prompts, shard by shard where one process does it; return seconds and tokens."""
    torch.set_num_threads(threads)
    many = engine.identity.get("ray") is not None
    size = len(asked) if many else _SHARD
    began, tokens = time.perf_counter(), 0
    for start in range(0, len(asked), size):
        tokens += sum(d.new_tokens for d in engine.draw(asked[start : start + size], _HOW, seed=0))
    return time.perf_counter() - began, tokens


def speed(model: str, replicas: int, rounds: int, count: int) -> dict[str, Any]:
    """Take turns, and return tokens a second of each, and their ratios."""
    folder, asked = Path(locate(model).path), prompts(count)
    plain = EngineConfig(kind="torch", device="cpu", dtype="float32", threads=1)
    ray = RayConfig(replicas=replicas, shard_prompts=_SHARD)
    many = plain.model_copy(update={"kind": "ray", "ray": ray})
    with (
        closing(open_engine(folder, plain)) as one,
        closing(open_engine(folder, many)) as all_of_them,
    ):
        _wait_for_all(all_of_them, replicas)
        ways = {
            f"{replicas} replicas of 1 thread": (all_of_them, 1),
            f"1 process of {replicas} threads": (one, replicas),
            "1 process of 1 thread": (one, 1),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for round_ in range(rounds + 1):  # the first one warms up
            for name, (engine, threads) in ways.items():
                took, tokens = seconds(engine, asked, threads)
                if round_:
                    rates[name].append(tokens / took)
                    say(f"{name}: {tokens / took:,.0f} tokens/s")
    medians = {name: statistics.median(of) for name, of in rates.items()}
    first, *others = medians
    return {
        "model": model, "prompts": count, "draws": _HOW.n, "max_tokens": _HOW.max_tokens, "shard": _SHARD,
        "tokens_per_second": {name: [round(rate) for rate in of] for name, of in rates.items()},
        "ratio_of_medians": {f"{first} / {name}": round(medians[first] / medians[name], 2) for name in others},
    }  # fmt: skip


def _wait_for_all(engine: Engine, replicas: int) -> None:
    from selfimprove.sampling.ray_engine import RayEngine

    if not isinstance(engine, RayEngine):
        raise TypeError("no replicas")
    while engine.calls_at_once() < 2 * replicas:
        time.sleep(0.1)


def memory(counts: Sequence[int]) -> dict[str, Any]:
    """Return this process's resident memory, in MiB, around drawing one token of many prompts."""
    told = []
    config = EngineConfig(kind="ray", device="cpu", dtype="float32", ray=RayConfig(replicas=2))
    texts = [prompt.content for prompt in prompts(64)]
    with closing(open_engine(Path(locate("tiny").path), config)) as engine:
        for count in counts:
            asked = [Prompt(str(n), texts[n % 64]) for n in range(count)]
            before, most = _resident(), 0.0
            for _ in _sampled(engine.draw(asked, SamplingConfig(max_tokens=1), seed=0)):
                most = max(most, _resident())
            told.append({"prompts": count, "before_mib": round(before), "highest_mib": round(most),
                         "after_mib": round(_resident())})  # fmt: skip
            say(str(told[-1]))
    return {"memory": told}


def _sampled(draws: Iterator[object]) -> Iterator[None]:
    for number, _ in enumerate(draws):
        if number % 256 == 0:
            yield


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Measure, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--memory", type=int, nargs="+")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = (
        memory(given.memory)
        if given.memory
        else speed(given.model, given.replicas, given.rounds, given.prompts)
    )
    keep(result, given.json)


if __name__ == "__main__":
    main()
