"""Times the steps of any Hugging Face trainer: from the fourth on, until enough seconds are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

from gpu_models import Cost
from gpu_parts import Setting

# isort: split
import transformers.trainer
from matrix_limit import synchronised
from transformers import TrainerCallback

__all__ = ["Clock", "Enough", "clocked", "ending", "throughput"]

_WARM_STEPS = 3


class Enough(Exception):
    """All is measured that was to be: no checkpoint and no model need be written."""


class Clock(TrainerCallback):
    """Notes what the timed steps were, and ends the training when they took long enough."""

    def __init__(self, setting: Setting) -> None:
        self._device, self._window_s = setting.device, setting.window_s
        self.count: Callable[[], int] | None = None
        """Tokens that were trained on so far, of a trainer that counts them."""
        self.edges: list[tuple[int, float, int]] = []
        """Step, seconds and count at both ends of the timed steps."""
        self.logs: list[dict[str, Any]] = []
        self.order: list[int] = []
        """Numbers of the rows, in the order in which they are trained on."""
        self.batch = 0
        self.before_s = 0.0
        """Seconds between the trainer's making and its first step: a reference's pass."""
        self._made = time.perf_counter()

    @property
    def seconds(self) -> float:
        """That the timed steps took."""
        return self.edges[1][1] - self.edges[0][1]

    @property
    def steps(self) -> int:
        """How many were timed."""
        return self.edges[1][0] - self.edges[0][0]

    @property
    def counted(self) -> int:
        """Tokens of the timed steps, as the trainer counts them."""
        return self.edges[1][2] - self.edges[0][2]

    @property
    def timed(self) -> list[int]:
        """Numbers of the rows of the timed steps."""
        return self.order[self.batch * self.edges[0][0] : self.batch * self.edges[1][0]]

    def logged(self, name: str) -> list[float]:
        """Return what the timed steps logged under a name."""
        first, last = (step for step, *_ in self.edges)
        return [told[name] for told in self.logs if name in told and first < told["step"] <= last]

    def on_init_end(self, *_: Any, **rest: Any) -> None:  # noqa: ANN401
        """A trainer was made."""
        self._made = synchronised(self._device)

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Its first step comes next."""
        self.before_s = synchronised(self._device) - self._made
        self.batch = args.per_device_train_batch_size
        rows = rest["train_dataloader"].dataset
        self.order = list(rows["row"]) if "row" in rows.column_names else []

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Begin to time, or end it: so that each timed step is whole, and has been logged."""
        if state.global_step == _WARM_STEPS:
            self._edge(state.global_step)
        elif self.edges and time.perf_counter() - self.edges[0][1] >= self._window_s:
            self._edge(state.global_step)
            raise Enough

    def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Keep what is logged."""
        self.logs.append({**rest["logs"], "step": state.global_step})

    def _edge(self, step: int) -> None:
        now = synchronised(self._device)
        self.edges.append((step, now, self.count() if self.count else 0))


@contextmanager
def clocked(setting: Setting) -> Iterator[Clock]:
    """Let the trainer that is made inside be timed and ended by the clock."""
    clock = Clock(setting)
    with ending(clock):
        yield clock
    if len(clock.edges) < 2:
        raise RuntimeError("the training ended before its steps were timed")


@contextmanager
def ending(callback: TrainerCallback) -> Iterator[None]:
    """Give the callback to every trainer that is made inside; it may end it by `Enough`."""
    usual = transformers.trainer.DEFAULT_CALLBACKS
    given = patch.object(transformers.trainer, "DEFAULT_CALLBACKS", [*usual, callback])
    with given, suppress(Enough):
        yield


def throughput(
    clock: Clock, rows: Sequence[Sequence[int]], cost: Cost, passes: float
) -> dict[str, Any]:
    """Return tokens/s and operations of the timed steps.

    Args:
        clock: that timed them.
        rows: the lengths of what is read for each row.
        cost: of the model.
        passes: forward passes that a token's share of a step amounts to; a backward pass is two.
    """
    lengths = [length for number in clock.timed for length in rows[number]]
    tokens = sum(lengths)
    flops = passes * sum(map(cost.row, lengths))
    return {
        "tokens_per_s": round(tokens / clock.seconds, 1),
        "flops_per_token": flops / tokens,
        "tokens": tokens,
        "steps": clock.steps,
        "seconds": round(clock.seconds, 3),
        "losses": [[entry["step"], entry["loss"]] for entry in clock.logs if "loss" in entry],
    }
