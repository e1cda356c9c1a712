"""The policies of a reinforcement learning that were tried on held-out prompts, and the best one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from safetensors.torch import load_file, save_file

from selfimprove.errors import TrainingError
from selfimprove.files import read_json, write_json
from selfimprove.training import sharded
from selfimprove.training.checkpoints import step_of

__all__ = ["Tried", "Tries"]

_KEPT: Final = "tried"


@dataclass(frozen=True, slots=True)
class Tried:
    """How one policy did on the held-out prompts: means over its draws there."""

    reward: float
    """E[r], unfinished draws by the rule of `unfinished`."""
    kl: float
    """KL(policy || reference), in nats a response."""
    objective: float
    """E[r] - beta KL: what the training maximises, and by what a policy is chosen."""
    unfinished: float
    """Share of draws that did not end, or could not be rewarded."""
    lowest: float
    """What such a draw is worth at most."""
    inside: bool
    """Whether its KL is within the bound; otherwise it is never chosen."""


@final
class Tries:
    """Held-out figures by step, and the trained weights of the best step so far, on disk.

    What a resumed training may need stays: beside the best policy of all, the best one before each
    checkpoint.
    """

    def __init__(self, folder: Path, *, resumed_at: int) -> None:
        self._folder = folder
        self._file = folder / f"{_KEPT}.json"
        told = read_json(self._file) if self._file.exists() else {}
        # What was tried from the checkpoint on will be tried again, with the same result.
        self.all = {int(k): Tried(**v) for k, v in told.items() if int(k) < resumed_at}

    @property
    def best(self) -> int:
        """The step, among those inside the bound, whose policy did best; of equals, the first.

        Where none is inside, that is the start: nothing is gained, and nothing runs away.
        """
        return _best(self.all)

    def note(self, step: int, tried: Tried, model: Any, *, writes: bool) -> None:  # noqa: ANN401
        """Note a step; the process that writes keeps the weights if none was better.

        Every process calls this, with the same figures: it takes all to put weights together.
        """
        self.all[step] = tried
        weights = dict(sharded.learning(model)) if self.best == step else {}
        if not writes:
            return
        if weights:
            new = self._weights(step).with_suffix(".new")
            save_file({k: v.contiguous() for k, v in weights.items()}, new)
            new.replace(self._weights(step))
        write_json(self._file, {str(k): asdict(v) for k, v in self.all.items()})
        self._prune()

    def load_best(self, model: Any, now: int, *, shared_out: bool = False) -> None:  # noqa: ANN401
        """Give the model the weights of the best step, unless it has them.

        Raises:
            TrainingError: they are not those that are trained here.
        """
        if self.best == now:
            return
        file = self._weights(self.best)
        weights = load_file(file)
        if strange := weights.keys() ^ dict(sharded.learning(model)).keys():
            raise TrainingError(
                f"{file} holds other weights than this training's, such as {min(strange)}: delete "
                f"{self._folder}, and the training starts anew"
            )
        if shared_out:
            sharded.give(model, weights)
        else:
            # What is frozen is not in the file; who keeps a copy is told by this way of reading alone.
            model.load_state_dict(weights, strict=False)

    def _weights(self, step: int) -> Path:
        return self._folder / f"{_KEPT}-{step}.safetensors"

    def _prune(self) -> None:
        needed = {self.best}
        for checkpoint in self._folder.glob("checkpoint-*"):
            needed.add(_best({k: v for k, v in self.all.items() if k < step_of(checkpoint)}))
        for file in self._folder.glob(f"{_KEPT}-*.safetensors"):
            if int(file.stem.rpartition("-")[2]) not in needed:
                file.unlink()


def _best(tried: Mapping[int, Tried]) -> int:
    inside = [step for step in tried if tried[step].inside]
    return max(inside, key=lambda step: (tried[step].objective, -step), default=0)
