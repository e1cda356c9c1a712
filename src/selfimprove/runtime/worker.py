"""One of several processes that train a step; `processes` and `ray_processes` start them, nobody else.

python -m torch.distributed.run ... -m selfimprove.runtime.worker RUN/STEP
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from selfimprove.errors import SelfImproveError, StoreError
from selfimprove.files import read_json, write_json
from selfimprove.rows import Batch, Filtered, Rows
from selfimprove.runtime.launch import config_of, run_method
from selfimprove.runtime.processes import Order
from selfimprove.sampling.server_process import ends_with_parent
from selfimprove.store import Run, Training, TrainingResult, places, trained_model
from selfimprove.training.processes import first_process, leave, take_own_gpu
from selfimprove.types import ModelRef

__all__ = ["Replay", "TrainedHere", "main", "train_share"]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  items of a sharded step


class TrainedHere(Exception):
    """The step is trained; what comes after it is not this process's business."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__()
        self.told = told


@dataclass
class Replay(Run):
    """A run as its training processes see it: read back up to one step, which is trained.

    The process that started this one holds the run's lock and has just checked what lies in it.
    """

    step: str = ""

    def __post_init__(self) -> None:
        """Take no lock."""

    def rows(
        self, name: str, make: Callable[..., Iterable[T] | Filtered[T]], *inputs: object
    ) -> Rows[T]:
        """Return the rows of a step that is done."""
        self._must_be_done(name)
        return super().rows(name, make, *inputs)

    def sharded(
        self,
        name: str,
        make: Callable[..., Iterator[Batch[T]]],
        items: Iterable[I],
        *inputs: object,
        shard_items: int,
        together: Callable[[I], object] | None = None,
    ) -> Rows[T]:
        """Return the rows of a step that is done."""
        self._must_be_done(name)
        return super().sharded(name, make, items, *inputs, shard_items=shard_items,
                               together=together)  # fmt: skip

    def train(
        self, name: str, make: Callable[..., Training], base: ModelRef, *inputs: object
    ) -> ModelRef:
        """Train the step that was ordered; return the model of any other, which is done.

        Raises:
            TrainedHere: always, after that step.
        """
        folder = self.root / name
        if name == self.step:
            told = make(base, *inputs).fit(**places(folder))
            raise TrainedHere(asdict(told))  # type: ignore[call-overload]
        self._must_be_done(name)
        return trained_model(folder, base)

    def model(
        self, name: str, make: Callable[..., TrainingResult], base: ModelRef, *inputs: object
    ) -> ModelRef:
        """Return the model of a step that is done."""
        self._must_be_done(name)
        return trained_model(self.root / name, base)

    def write(self, name: str, value: object) -> Path:
        """Write nothing."""
        return self.root / name

    def _must_be_done(self, name: str) -> None:
        if not (self.root / name / "done.json").exists():
            raise StoreError(
                f"{self.root / name} is not done, but {self.step} is to be trained: the run was "
                "changed while it trained; run the same command again"
            )


def train_share(step: Path) -> bool:
    """Train this process's share of a step, and return whether that went well.

    The first process writes what the training reports; any writes what went wrong, in words for a person.
    """
    if not first_process():
        logging.disable(logging.WARNING)
    order = Order(step)
    config = config_of(read_json(order.recipe), str(order.recipe))
    failure = f"{step} is no training step of this recipe"
    try:
        run_method(
            config, Replay(step.parent, engine=config.engine, seed=config.seed, step=step.name)
        )
    except TrainedHere as done:
        if first_process():
            write_json(order.told, done.told)
        return True
    except SelfImproveError as error:
        failure = str(error)
    write_json(order.failure(int(os.environ.get("RANK", "0"))), {"message": failure})
    return False


def main(step: Path) -> NoReturn:
    """Train this process's share, and end it."""
    ends_with_parent()
    take_own_gpu()
    if train_share(step):
        leave()
    os._exit(1)  # at once: the others wait for this process until it has ended


if __name__ == "__main__":
    main(Path(sys.argv[1]))
