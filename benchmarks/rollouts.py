"""Measures a step of reinforcement learning by who draws: the trainer, Ray replicas, replicas a step ahead, vLLM.

    python benchmarks/rollouts.py [--model tiny] [--replicas 2] [--rounds 3] [--steps 12] [--vllm] [--json FILE]

Every training has one thread, every replica one more. They take turns; a step is the time between two batches'
rewards, the first two steps of each training left out, and neither starting nor held-out prompts are in it.
Beside the seconds stands how far the log-probabilities of those who drew are from the trainer's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from machine import keep, say

# isort: split
from selfimprove.models import locate
from selfimprove.sampling.engine import EngineConfig
from selfimprove.tiny.instructions import instructions
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.policy_gradient import train_policy
from selfimprove.types import Message, Prompt

_WARM = 2
_PROMPTS, _DRAWS, _TOKENS = 24, 4, 48
_FIGURES = ("sampling_logp_difference", "sampling_logp_difference_max", "sampling_kl",
            "sampling_ratio", "sampling_truncated")  # fmt: skip


def prompts(split: Literal["train", "dev"], count: int) -> list[Prompt]:
    """Return instructions of the tiny world, each a user's turn."""
    return [Prompt(f"{split}-{n}", (Message("user", i.text),))
            for n, i in enumerate(instructions(split, count))]  # fmt: skip


class Timed:
    """A reward for short responses that notes when it is asked for those of a batch."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(
        self, keys: Sequence[str], texts: Sequence[str], _finished: Sequence[bool]
    ) -> list[float]:
        """Return minus a quarter of the words."""
        if keys[0].startswith("train"):
            self.moments.append(time.perf_counter())
        return [-len(text.split()) / 4 for text in texts]

    def steps(self) -> list[float]:
        """Return the seconds of each step but the first ones."""
        pairs = zip(self.moments, self.moments[1:], strict=False)
        return [after - before for before, after in pairs][_WARM:]


def train(
    folder: Path, engine: dict[str, Any], rollouts: dict[str, Any], steps: int
) -> tuple[list[float], dict[str, float]]:
    """Train, and return seconds of steps and the means of what is logged of the draws."""
    timed = Timed()
    told = EngineConfig.model_validate(
        {"chat": True, "device": "cpu", "dtype": "float32", "threads": 1, **engine}
    )
    config = PolicyGradientConfig.model_validate({
        "learning_rate": 3e-4, "batch_size": _PROMPTS, "n": _DRAWS, "max_steps": steps, "try_every": steps,
        "save_every": steps, "beta": 0.02, "rollouts": rollouts,
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as root:
        out = Path(root)
        train_policy(folder, prompts("train", 96), timed, config, told, reference=folder,
                     held_out=prompts("dev", 4), max_tokens=_TOKENS, out=out / "model",
                     checkpoints=out / "checkpoints", seed=0)  # fmt: skip
        lines = (out / "train_log.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    figures = {name: [entry[name] for entry in logged if name in entry] for name in _FIGURES}
    return timed.steps(), {name: statistics.mean(of) for name, of in figures.items() if of}


def main() -> None:
    """Take turns, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    folder = Path(locate(told.model).path)
    ray = {"kind": "ray", "ray": {"replicas": told.replicas}}
    apart, ahead = {"by": "engine"}, {"by": "engine", "max_staleness": 1}
    ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "trainer": ({}, {}),
        f"{told.replicas} replicas": (ray, apart),
        f"{told.replicas} replicas, a step ahead": (ray, ahead),
    }
    if told.vllm:
        ways |= {"vllm": ({"kind": "vllm"}, apart), "vllm, a step ahead": ({"kind": "vllm"}, ahead)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    figures: dict[str, dict[str, float]] = {}
    for _ in range(told.rounds):
        for name, (engine, rollouts) in ways.items():
            took, figures[name] = train(folder, engine, rollouts, told.steps)
            seconds[name] += took
            say(f"{name}: {statistics.median(took):.3f} s a step")
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    for name, median in medians.items():
        say(f"{name:32} {median:8.3f} s   x{medians['trainer'] / median:.2f}   {figures[name]}")
    keep({"model": told.model, "prompts": _PROMPTS, "draws": _DRAWS, "max_tokens": _TOKENS, "rounds": told.rounds,
          "seconds": {name: [round(s, 4) for s in of] for name, of in seconds.items()},
          "median_seconds": {name: round(of, 4) for name, of in medians.items()}, "draws_apart": figures},
         told.json)  # fmt: skip


if __name__ == "__main__":
    main()
