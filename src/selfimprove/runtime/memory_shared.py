"""What each of several processes holds of a training: a copy of everything, or its part (FSDP2).

Where they share the weights out:

    weights      a part of 4 P, and two layers put together: one that computes, one on its way
    gradients    a part of 4 P, and those of a layer before they are added up
    optimiser    a part of 8 P
    beside       a part of the reference; the reward model whole, and under RL a whole copy of the policy,
                 which is drawn from
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from selfimprove.runtime.memory import Need, Shape, adapter_weights, machine
from selfimprove.training.training_config import TrainingConfig

__all__ = ["in_each", "shared_out"]

_FLOAT: Final = 4
_TOGETHER: Final = 2  # layers
_MOST: Final = 0.7  # of a GPU, as the training itself decides (`training.sharded`)


def in_each(
    whole: Need, shape: Shape, config: TrainingConfig, processes: int, *, drawn_from: bool
) -> Need:
    """Return what each of so many processes of this machine would hold; `shared_out` says the rest."""
    if processes == 1 or config.parallel.fsdp is False:
        return whole
    if config.parallel.fsdp == "auto" and not _fills_a_gpu(whole):
        return whole
    return shared_out(whole, shape, config, processes, drawn_from=drawn_from)


def _fills_a_gpu(whole: Need) -> bool:
    import torch

    if not torch.cuda.is_available():
        return False
    held = whole.weights + whole.gradients + whole.optimiser
    return held > _MOST * torch.cuda.get_device_properties(0).total_memory


def shared_out(
    whole: Need,
    shape: Shape,
    config: TrainingConfig,
    processes: int,
    *,
    drawn_from: bool,
    on: str = "auto",
) -> Need:
    """Return what each process holds of a training whose weights they share out.

    Args:
        whole: what a process alone would hold.
        shape: of the model.
        config: of its training.
        processes: that share it.
        drawn_from: whether the policy is drawn from while it learns.
        on: the device, as for `memory.training`.
    """
    _, number = machine(on, config.dtype, shape)
    model = (number if config.lora else _FLOAT) * shape.parameters
    layer = number * _layer(shape)
    adapters = _FLOAT * adapter_weights(shape, config)
    learning = adapters if config.lora else _FLOAT * shape.parameters
    frozen = min(whole.beside, model)  # a reference
    beside = frozen // processes + (whole.beside - frozen)
    return replace(
        whole,
        weights=(model + adapters) // processes + _TOGETHER * layer,
        # However many passes a step has: each process's own are told by nobody here.
        gradients=learning // processes + (0 if config.lora else layer),
        optimiser=whole.optimiser // processes,
        beside=beside + (number * shape.parameters if drawn_from else 0),
    )


def _layer(shape: Shape) -> int:
    """Return the weights of what is put together at once at most: a layer, or what stands around them."""
    words = shape.vocabulary * shape.hidden
    return max((shape.parameters - words) // max(shape.layers, 1), words)
