"""Trains a step in several processes, one a GPU, of this machine or of several, which end with it.

The run itself stays one process. For a training step it starts others by torchrun; each replays the
run, whose earlier steps are all done and read back, up to that step, and trains its share of it.
Their memory is free again when they end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfimprove.config import Config
from selfimprove.errors import ConfigError, TrainingError
from selfimprove.files import read_json, write_json
from selfimprove.runtime.nodes import Machines
from selfimprove.sampling.server_process import ends_with_parent

__all__ = ["Order", "Processes", "check", "take_part"]


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

    def failure(self, process: int) -> Path:
        """What went wrong in one process, in words for a person."""
        return self.step / f"failure-{process}.json"

    @classmethod
    def given(cls, step: Path, config: Config) -> Order:
        """Write what the processes read, behind whatever an earlier attempt left."""
        order = cls(step)
        order._clear()
        write_json(order.recipe, config.model_dump(mode="json"))
        return order

    def refuse_failures(self) -> None:
        """Raise what went wrong in a process.

        Raises:
            TrainingError: if anything did.
        """
        if failures := self.failures():
            raise TrainingError(read_json(failures[0])["message"])

    def done(self, processes: int) -> dict[str, Any]:
        """Return what the training reports, and by how many processes it was; remove what they left."""
        told: dict[str, Any] = {**read_json(self.told), "processes": processes}
        self._clear()
        return told

    def failures(self) -> list[Path]:
        """Those of all processes."""
        return sorted(self.step.glob("failure-*.json"))

    def _clear(self) -> None:
        for file in (self.recipe, self.told, *self.failures()):
            file.unlink(missing_ok=True)


_GRACE: Final = 40.0  # seconds; torchrun gives its processes 30
_WORKER: Final = "selfimprove.runtime.worker"


@dataclass(frozen=True, slots=True)
class Processes:
    """How many, and of which run."""

    config: Config
    count: int
    """On this machine."""
    machines: Machines | None = None
    """Several, each with so many; None: this one."""

    def train(self, step: Path) -> dict[str, Any]:
        """Train the step of this folder and return what the training reports.

        Raises:
            TrainingError: the training went wrong, or a process was lost.
        """
        order = Order.given(step, self.config)
        alone = ["--standalone", "--nproc_per_node", str(self.count)]
        status = _started(self.machines.order(step) if self.machines else alone, step)
        order.refuse_failures()
        if status or not order.told.exists():
            raise TrainingError(
                f"{step.name}: a training process was lost (status {status}), see above; memory may "
                "have run out. Run the same command again to go on from the newest checkpoint"
            )
        return order.done(self.machines.all_processes if self.machines else self.count)


def take_part(machines: Machines, announce: Callable[[str], None]) -> None:
    """Train with the others whatever the run on another machine orders, until it ends.

    Raises:
        TrainingError: that machine was lost, or a process of this one.
    """
    machines.stand_by(_started, announce)


def check(config: Config, count: int, machines: int = 1, *, anywhere: bool = False) -> None:
    """Refuse what `count` processes on each machine could not do, before anything is done.

    Args:
        config: of the run.
        count: of processes.
        machines: with so many each.
        anywhere: they start on a cluster, whose GPUs are not counted here.

    Raises:
        ConfigError: there are GPUs, but fewer; or a batch cannot be shared by all processes.
    """
    everyone = count * machines
    if everyone == 1:
        return
    for place, size in _batch_sizes(config.model_dump(), ""):
        if size % everyone:
            raise ConfigError(
                f"{place} is {size}, which {everyone} processes cannot share: choose a multiple"
            )
    if anywhere:
        return
    import torch

    found = torch.cuda.device_count()
    if 0 < found < count:
        raise ConfigError(
            f"--num-processes {count}: this machine has {found} GPUs, and each process takes one"
        )


def _batch_sizes(tree: Mapping[str, Any], place: str) -> Iterator[tuple[str, int]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _batch_sizes(value, f"{place}{name}.")
        elif name == "batch_size":
            yield f"{place}{name}", value


def _started(how: Sequence[str], step: Path) -> int:
    """Start the workers of a step as torchrun is told, wait for them, and return their status."""
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    return _waited_for([*torchrun, *how, "-m", _WORKER, str(step)])


def _waited_for(words: Sequence[str]) -> int:
    """Run to the end; when this process is interrupted, no other one is left that could still write."""
    with subprocess.Popen(words, preexec_fn=ends_with_parent, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()  # torchrun asks the others to end
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
