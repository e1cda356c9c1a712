"""Five small trainings, by this process alone or, under torchrun, as one of several.

    python -m torch.distributed.run --nproc_per_node 2 tests/contract/trainings.py FOLDER [STOP]

STOP: the reinforcement learning is cut off before this step, in every process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import read_preferences
from selfimprove.data.sources import Source
from selfimprove.sampling.engine import EngineConfig
from selfimprove.tiny.shipped import folder
from selfimprove.training.dpo import DpoConfig, train_dpo
from selfimprove.training.gap_reward import train_gap_reward
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.policy_gradient import train_policy
from selfimprove.training.processes import leave
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Example, Pair, Prompt

_TOLD = tuple(read_preferences([Source(source="train", format="tiny", limit=32)], 0).rows)


def _short(
    _keys: Sequence[str], texts: Sequence[str], _finished: Sequence[bool]
) -> list[float | None]:
    return [-len(text.split()) / 4 for text in texts]


def _policy(root: Path) -> Any:
    config = PolicyGradientConfig(
        learning_rate=3e-4, batch_size=4, n=3, max_steps=4, try_every=2, save_every=2, beta=0.05
    )
    asked = [Prompt(p.id, p.prompt) for p in _TOLD]
    return train_policy(
        folder(), asked[8:], _short, config, EngineConfig(chat=True, device="cpu"),
        reference=folder(), held_out=asked[:8], max_tokens=40, seed=0, **_places(root / "policy"),
    )  # fmt: skip


def _places(root: Path) -> Any:
    return {"out": root / "model", "checkpoints": root / "checkpoints"}


def train_all(root: Path) -> dict[str, dict[str, Any]]:
    """Run SFT, also of weights that are shared out, DPO, the gap reward and the policy gradient."""
    steps = {"learning_rate": 1e-4, "batch_size": 8, "max_steps": 4}
    shared = {"parallel": {"fsdp": True}}  # as soon as there are several processes
    examples = [Example(p.prompt, p.chosen) for p in _TOLD]
    pairs = [Pair(p.prompt, p.chosen, p.rejected) for p in _TOLD]
    told = {
        "sft": train_sft(folder(), examples, SftConfig.model_validate(steps), seed=0,
                         **_places(root / "sft")),
        "sharded": train_sft(folder(), examples, SftConfig.model_validate({**steps, **shared}), seed=0,
                             **_places(root / "sharded")),
        "dpo": train_dpo(folder(), pairs, DpoConfig.model_validate({**steps, "try_every": 2}),
                         seed=0, **_places(root / "dpo")),
        "gap": train_gap_reward(folder(), _TOLD, RewardConfig.model_validate(steps), seed=0,
                                chat=True, template=improvement_template("v1"),
                                **_places(root / "gap")),
        "policy": _policy(root),
    }  # fmt: skip
    return {name: asdict(training) for name, training in told.items()}


def _stop_before(step: int) -> None:
    from selfimprove.training._policy_trainer import PolicyTrainer

    whole = PolicyTrainer.training_step

    def cut_off(self: PolicyTrainer, *args: Any, **settings: Any) -> Any:
        if self.state.global_step == step:
            os._exit(9)
        return whole(self, *args, **settings)

    PolicyTrainer.training_step = cut_off  # type: ignore[method-assign]


if __name__ == "__main__":
    # With a second word the policy alone: cut off before that step, or (-1) trained to its end.
    if len(sys.argv) > 2:
        _stop_before(int(sys.argv[2]))
        found = {"policy": asdict(_policy(Path(sys.argv[1])))}
    else:
        found = train_all(Path(sys.argv[1]))
    if os.environ["RANK"] == "0":
        (Path(sys.argv[1]) / "told.json").write_text(json.dumps(found))
    leave()
