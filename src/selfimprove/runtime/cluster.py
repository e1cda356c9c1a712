"""What a run would take on so many GPUs of a named kind: time, price and what it waits for (`--cluster`).

A calculation from the dry run's counts, of steps one after the other:

    sampling   the longest of: 2 P operations a token, by the share of the arithmetic that we measured; the
               weights once a decoding step, and the keys and values that each token reads, from memory
    training   the longer of: 6 P operations a token (8 P with gradient checkpointing) and those of
               attention; weights put together twice a pass (2 P bytes each) and gradients added up (4 P)

P: parameters. Sampling is assumed to be spread over all GPUs, as independent rows are. Training takes as
many of them as make it fastest: a batch has only so many rows, and weights travel for each of its steps.
Loading, writing and the start of processes are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, NamedTuple

from selfimprove.runtime.devices import (
    BANDWIDTH_SHARE,
    MEASURED_UP_TO,
    Cluster,
    Device,
    sampling_share,
    training_share,
)
from selfimprove.runtime.memory import Shape, shape_of, training
from selfimprove.runtime.memory_shared import shared_out
from selfimprove.runtime.plan import PlannedStep, Use
from selfimprove.training.training_config import TrainingConfig, piece_tokens

__all__ = ["Estimate", "Share", "estimate"]

_HALF: Final = 2  # bytes a number of the arithmetic
_FLOAT: Final = 4
_MACHINE: Final = 8  # GPUs
_FREE: Final = 0.9  # of a GPU's memory
_ROOM: Final = 0.8  # of what the weights leave, for keys and values
_TOKENS_A_DRAW: Final = 256  # where the plan does not tell
_SECONDS_AN_HOUR: Final = 3_600


@dataclass(frozen=True, slots=True)
class Share:
    """What one step takes."""

    step: str
    sampled: int
    trained: int
    hours: float
    gpus: int
    """That are of use for it."""
    waits_for: str
    """Its bottleneck: arithmetic, memory, network; or why it cannot be done."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes."""

    cluster: Cluster
    shares: tuple[Share, ...]
    price: float
    """Of a GPU and hour."""
    times: int
    """That each step's tokens were counted."""
    unknown: tuple[str, ...]
    """Steps whose model is not here."""
    measured: bool
    """Whether we measured models of this size."""

    @property
    def hours(self) -> float:
        """From the first step to the last."""
        return sum(share.hours for share in self.shares)

    @property
    def cost(self) -> float:
        """All GPUs are paid all the time."""
        return self.hours * self.cluster.count * self.price


def estimate(
    steps: Sequence[PlannedStep],
    uses: Sequence[Use],
    cluster: Cluster,
    *,
    price: float | None = None,
    times: int = 1,
) -> Estimate:
    """Return what the steps of a plan take; `times` counts them for so many times the data.

    What only measures does so on data of its own, and is counted once.

    Raises:
        EngineError: the config of a model cannot be read.
    """
    by_step = {use.step: use for use in reversed(uses)}
    shares: list[Share] = []
    unknown: list[str] = []
    largest = 0
    for step in steps:
        if not step.tokens_sampled and not step.tokens_trained:
            continue
        use = by_step.get(step.name)
        if use is None or use.model is None:
            unknown.append(step.name)
            continue
        shape = shape_of(use.model)
        largest = max(largest, shape.parameters)
        shares += _shares(step, use, shape, cluster, 1 if step.measures else times)
    told = cluster.device.price if price is None else price
    return Estimate(cluster, tuple(shares), told, times, tuple(unknown), largest <= MEASURED_UP_TO)


def _shares(
    step: PlannedStep, use: Use, shape: Shape, cluster: Cluster, times: int
) -> Iterator[Share]:
    if step.tokens_sampled:
        draws = step.rows or max(step.tokens_sampled // _TOKENS_A_DRAW, 1)
        length = max(step.tokens_sampled // draws, 1)
        tokens = step.tokens_sampled * times
        second, why = _draws_a_second(shape, length, cluster.device)
        hours = tokens / (second * cluster.count) / _SECONDS_AN_HOUR if second else 0.0
        yield Share(step.name, tokens, 0, hours, cluster.count, why)
    if step.tokens_trained and isinstance(use.how, TrainingConfig):
        yield _trained(step, use, shape, cluster, 1 if use.how.max_steps else times)


def _draws_a_second(shape: Shape, length: int, device: Device) -> tuple[float, str]:
    """Return tokens a second of one GPU, or of its share where a model takes several; and the bottleneck."""
    weights = _HALF * shape.parameters
    memory = device.memory_gb * 1e9 * _FREE
    together = 1
    while together * memory * _ROOM < weights:  # a replica takes several
        together *= 2
    kept = shape.layers * shape.keys_values * _HALF  # bytes a token
    rows = max(int((together * memory - weights) * _ROOM / (kept * length)), 1)
    arithmetic = 2 * shape.parameters / (device.tflops * 1e12 * sampling_share(shape.parameters))
    read = weights / rows + kept * length / 2
    memory_s = read / (device.memory_gb_per_s * 1e9 * BANDWIDTH_SHARE)
    slowest = max(arithmetic, memory_s)
    return 1 / slowest, "arithmetic" if arithmetic >= memory_s else "memory"


def _trained(step: PlannedStep, use: Use, shape: Shape, cluster: Cluster, times: int) -> Share:
    config = use.how
    assert isinstance(config, TrainingConfig)
    tokens, found = step.tokens_trained * times, []
    for gpus in range(1, min(cluster.count, config.batch_size) + 1):
        if config.batch_size % gpus == 0 and _fits(use, shape, gpus, cluster.device):
            steps = max(use.rows * times / config.batch_size, 1)
            work = _Work(tokens, steps, use.longest)
            found.append((*_seconds(work, config, shape, gpus, cluster.device), gpus))
    if not found:
        return Share(step.name, 0, tokens, 0.0, 0, "no room: set lora, gradient_checkpointing")
    seconds, why, gpus = min(found)
    return Share(step.name, 0, tokens, seconds / _SECONDS_AN_HOUR, gpus, why)


class _Work(NamedTuple):
    """What a training is."""

    tokens: int
    steps: float
    longest: int
    """Tokens of a row, at most."""


def _fits(use: Use, shape: Shape, gpus: int, device: Device) -> bool:
    config = use.how
    assert isinstance(config, TrainingConfig)
    whole = training(use.step, shape, config, use.longest, beside=use.beside, on="cuda")
    drawn_from = use.draws is not None
    parts = shared_out(whole, shape, config, gpus, drawn_from=drawn_from, on="cuda")
    least = whole.total if gpus == 1 else min(whole.total, parts.total)
    return least <= device.memory_gb * 1e9 * _FREE


def _seconds(
    work: _Work, config: TrainingConfig, shape: Shape, gpus: int, device: Device
) -> tuple[float, str]:
    """Return the seconds of a training on so many GPUs, and what they wait for."""
    each = (8 if config.gradient_checkpointing else 6) * shape.parameters
    attention = 6 * shape.layers * shape.hidden * work.longest
    speed = device.tflops * 1e12 * training_share(shape.parameters) * gpus
    arithmetic = work.tokens * (each + attention) / speed
    if gpus == 1:
        return arithmetic, "arithmetic"
    link = device.link_gb_per_s if gpus <= _MACHINE else device.network_gb_per_s
    moved = (2 * _HALF + _FLOAT) * shape.parameters * (gpus - 1) / gpus
    passes = ceil(work.tokens / work.steps / gpus / piece_tokens(config, "cuda"))
    network = work.steps * passes * moved / (link * 1e9)
    return max(arithmetic, network), "arithmetic" if arithmetic >= network else "network"
