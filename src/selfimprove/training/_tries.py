"""The policies of a reinforcement learning that were tried on held-out prompts, and the best one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors.torch import load_file, save_file

from selfimprove.files import read_json, write_json
from selfimprove.training.checkpoints import step_of

__all__ = ["Tries"]

_KEPT: Final = "tried"


@final
class Tries:
    """Held-out rewards by step, and the trained weights of the best step so far, on disk.

    What a resumed training may need stays: beside the best policy of all, the best one before each
    checkpoint.
    """

    def __init__(self, folder: Path, *, resumed_at: int) -> None:
        self._folder = folder
        self._file = folder / f"{_KEPT}.json"
        told = read_json(self._file) if self._file.exists() else {}
        # What was tried from the checkpoint on will be tried again, with the same result.
        self.rewards = {int(k): v for k, v in told.items() if int(k) < resumed_at}

    @property
    def best(self) -> int:
        """The step whose policy did best; of equals, the first."""
        return max(self.rewards, key=lambda step: (self.rewards[step], -step))

    def note(self, step: int, reward: float, model: Any, *, writes: bool) -> None:  # noqa: ANN401
        """Note the reward of a step; the process that writes keeps the weights if none was better."""
        self.rewards[step] = reward
        if not writes:
            return
        if self.best == step:
            new = self._weights(step).with_suffix(".new")
            save_file({k: v.detach().contiguous() for k, v in _trained(model)}, new)
            new.replace(self._weights(step))
        write_json(self._file, {str(k): v for k, v in self.rewards.items()})
        self._prune()

    def load_best(self, model: Any, now: int) -> None:  # noqa: ANN401
        """Give the model the weights of the best step, unless it has them."""
        if self.best == now:
            return
        found = load_file(self._weights(self.best))
        with torch.no_grad():
            for name, weights in _trained(model):
                weights.copy_(found[name])

    def _weights(self, step: int) -> Path:
        return self._folder / f"{_KEPT}-{step}.safetensors"

    def _prune(self) -> None:
        needed = {self.best}
        for checkpoint in self._folder.glob("checkpoint-*"):
            before = {k: v for k, v in self.rewards.items() if k < step_of(checkpoint)}
            needed |= {max(before, key=lambda s: (before[s], -s))} if before else set()
        for file in self._folder.glob(f"{_KEPT}-*.safetensors"):
            if int(file.stem.rpartition("-")[2]) not in needed:
                file.unlink()


def _trained(model: Any) -> list[tuple[str, torch.Tensor]]:  # noqa: ANN401
    return [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
