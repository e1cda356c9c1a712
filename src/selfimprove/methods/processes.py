"""Trains a step in several processes of this machine, one a GPU, which end with it.

The run itself stays one process. For a training step it starts others by torchrun; each replays the
run, whose earlier steps are all done and read back, up to that step, and trains its share of it.
Their memory is free again when they end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfimprove.config import Config
from selfimprove.errors import ConfigError, TrainingError
from selfimprove.files import read_json, write_json
from selfimprove.sampling.server_process import ends_with_parent

__all__ = ["Order", "Processes", "check_count"]


@dataclass(frozen=True, slots=True)
class Order:
    """What the processes of one training read and write, in the step's folder."""

    step: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.step / "order.json"

    @property
    def told(self) -> Path:
        """What the training reports, once it is done."""
        return self.step / "told.json"

    @property
    def failure(self) -> Path:
        """What went wrong, in words for a person."""
        return self.step / "failure.json"

    def clear(self) -> None:
        """Remove what an earlier attempt left."""
        for file in (self.recipe, self.told, self.failure):
            file.unlink(missing_ok=True)


_WORKER: Final = "selfimprove.methods.worker"


@dataclass(frozen=True, slots=True)
class Processes:
    """How many, and of which run."""

    config: Config
    count: int

    def train(self, step: Path) -> dict[str, Any]:
        """Train the step of this folder and return what the training reports.

        Raises:
            TrainingError: the training went wrong, or a process was lost.
        """
        order = Order(step)
        order.clear()
        write_json(order.recipe, self.config.model_dump(mode="json"))
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                 "--nproc_per_node", str(self.count), "-m", _WORKER, str(step)]  # fmt: skip
        status = _waited_for(words)
        if order.failure.exists():
            raise TrainingError(read_json(order.failure)["message"])
        if status or not order.told.exists():
            raise TrainingError(
                f"{step.name}: a training process was lost (status {status}), see above; memory may "
                "have run out. Run the same command again to go on from the newest checkpoint"
            )
        told: dict[str, Any] = {**read_json(order.told), "processes": self.count}
        order.clear()
        return told


def check_count(count: int) -> None:
    """Refuse more processes than there are GPUs; without any, they share the CPU.

    Raises:
        ConfigError: there are fewer GPUs.
    """
    import torch

    found = torch.cuda.device_count()
    if 0 < found < count:
        raise ConfigError(
            f"--num-processes {count}: this machine has {found} GPUs, and each process takes one"
        )


def _waited_for(words: Sequence[str]) -> int:
    with subprocess.Popen(words, preexec_fn=ends_with_parent) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()  # torchrun then ends the others
            raise
