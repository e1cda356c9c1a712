"""Small trainings under torchrun whose processes share the weights out, or keep them whole.

    python -m torch.distributed.run --nproc_per_node 2 tests/contract/sharded_trainings.py FOLDER sft,dpo

SELFIMPROVE_FSDP=0: each process keeps a copy. SELFIMPROVE_KILL=RANK:STEP: this process is killed before it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
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
from selfimprove.training.reward import train_reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Example, Pair, Prompt

_TOLD = tuple(read_preferences([Source(source="train", format="tiny", limit=32)], 0).rows)
_STEPS = {"learning_rate": 1e-4, "batch_size": 8, "max_steps": 4, "save_every": 2}
# Pieces small enough that processes have different numbers of them.
_PARTED = {**_STEPS, "piece_tokens": 96}


def _how(**settings: Any) -> dict[str, Any]:
    return {**settings, "parallel": {"fsdp": os.environ.get("SELFIMPROVE_FSDP", "1") == "1"}}


def _places(root: Path) -> Any:
    return {"out": root / "model", "checkpoints": root / "checkpoints", "seed": 0}


def _short(
    _keys: Sequence[str], texts: Sequence[str], _finished: Sequence[bool]
) -> list[float | None]:
    return [-len(text.split()) / 4 for text in texts]


def _sft(root: Path, **more: Any) -> Any:
    examples = [Example(p.prompt, p.chosen) for p in _TOLD]
    config = SftConfig.model_validate(_how(**_PARTED, **more))
    return train_sft(folder(), examples, config, **_places(root))


def _dpo(root: Path) -> Any:
    pairs = [Pair(p.prompt, p.chosen, p.rejected) for p in _TOLD]
    config = DpoConfig.model_validate(_how(**_PARTED, try_every=2))
    return train_dpo(folder(), pairs, config, **_places(root))


def _reward(root: Path) -> Any:
    config = RewardConfig.model_validate(_how(**_STEPS))
    return train_reward(folder(), _TOLD, config, chat=True, **_places(root))


def _gap(root: Path) -> Any:
    config = RewardConfig.model_validate(_how(**_STEPS))
    words = improvement_template("v1")
    return train_gap_reward(folder(), _TOLD, config, chat=True, template=words, **_places(root))


def _policy(root: Path) -> Any:
    settings = _how(learning_rate=2e-4, batch_size=4, n=3, max_steps=4, try_every=2, save_every=2,
                    beta=0.05)  # fmt: skip
    asked = [Prompt(p.id, p.prompt) for p in _TOLD]
    return train_policy(
        folder(), asked[8:], _short, PolicyGradientConfig.model_validate(settings),
        EngineConfig(chat=True, device="cpu"), reference=folder(), held_out=asked[:8], max_tokens=40,
        **_places(root),
    )  # fmt: skip


TRAININGS: dict[str, Callable[[Path], Any]] = {
    "sft": _sft,
    "bf16": lambda root: _sft(root, dtype="bfloat16"),
    "twice": lambda root: _sft(root, gradient_checkpointing=True),
    "lora": lambda root: _sft(root, lora={"r": 4}),
    "dpo": _dpo,
    "reward": _reward,
    "gap": _gap,
    "policy": _policy,
}


def _kill_before(rank: str, step: int) -> None:
    from selfimprove.training._rounded_trainer import RoundedTrainer

    whole = RoundedTrainer.add_up

    def cut_off(self: Any, *args: Any, **settings: Any) -> Any:
        if self.state.global_step == step and os.environ.get("RANK", "0") == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, *args, **settings)

    RoundedTrainer.add_up = cut_off  # type: ignore[method-assign]


def main(root: Path, names: str) -> None:
    """Train one after the other, and write what each reports."""
    rank, _, step = os.environ.get("SELFIMPROVE_KILL", "").partition(":")
    if step:
        _kill_before(rank, int(step))
    told = {name: asdict(TRAININGS[name](root / name)) for name in names.split(",")}
    if os.environ.get("RANK", "0") == "0":
        (root / "told.json").write_text(json.dumps(told))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
