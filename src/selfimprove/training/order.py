"""Which rows are trained on, in which order, in how many steps."""

from __future__ import annotations

import math

from selfimprove.seeds import rng
from selfimprove.training.training_config import TrainingConfig

__all__ = ["in_order"]


def in_order(
    count: int, config: TrainingConfig, seed: int, stream: str
) -> tuple[tuple[int, ...], int]:
    """Return the rows of a whole training, every epoch in a new order, and its optimiser steps."""
    wanted = (
        config.max_steps * config.batch_size
        if config.max_steps
        else max(round(config.epochs * count), 1)
    )
    order: list[int] = []
    for epoch in range(math.ceil(wanted / count)):
        rows = list(range(count))
        rng(seed, stream, epoch).shuffle(rows)
        order += rows
    return tuple(order[:wanted]), math.ceil(wanted / config.batch_size)
