"""One reinforcement learning in a process of its own, which a test may kill.

python tests/contract/rollouts_alone.py OUT REPLICAS STALENESS [STEPS]: 0 replicas: the trainer draws.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from selfimprove.sampling.engine import EngineConfig
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.shipped import folder
from selfimprove.training.policy_config import PolicyGradientConfig, RolloutConfig
from selfimprove.training.policy_gradient import TrainedPolicy, train_policy
from selfimprove.types import Message, Prompt


def train(root: Path, replicas: int, staleness: int, steps: int = 8) -> TrainedPolicy:
    """Train the shipped model towards short responses, for a checkpoint every second step."""
    engine = EngineConfig(chat=True, device="cpu", dtype="float32", threads=1)
    rollouts = RolloutConfig()
    if replicas:
        ray = {"kind": "ray", "ray": {"replicas": replicas}}
        engine = EngineConfig.model_validate({**engine.model_dump(exclude={"kind", "ray"}), **ray})
        rollouts = RolloutConfig.model_validate(
            {"by": "engine", "max_staleness": staleness, "shard_prompts": 2}
        )
    config = PolicyGradientConfig(
        learning_rate=1e-3, batch_size=6, n=3, max_steps=steps, try_every=4, save_every=2,
        beta=0.02, rollouts=rollouts,
    )  # fmt: skip
    return train_policy(
        folder(), prompts_of("train", 24), lambda _k, texts, _e: [-len(t.split()) / 4 for t in texts],
        config, engine, reference=folder(), held_out=prompts_of("dev", 16), max_tokens=40,
        out=root / "model", checkpoints=root / "checkpoints", seed=0,
    )  # fmt: skip


def logged(root: Path, name: str) -> list[float]:
    """Return what the log has of this name so far."""
    log = root / "train_log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [entry[name] for entry in map(json.loads, lines) if name in entry]


def prompts_of(split: str, count: int) -> list[Prompt]:
    """Return the first instructions of a split of the tiny world."""
    asked = instructions(split, count)  # type: ignore[arg-type]
    return [Prompt(f"{split}-{n}", (Message("user", i.text),)) for n, i in enumerate(asked)]


if __name__ == "__main__":
    train(Path(sys.argv[1]), *map(int, sys.argv[2:]))
