"""Weights shared out over the processes of a training: accelerate's FSDP2.

Each process keeps its part of every float32 weight, of its gradient and of its two moments. A layer is
put together while it computes, in bfloat16 where that is computed in, and given up again behind it.
What else here computes with a model is told apart in this one place:

- The rounded copy (`half_copy`) and recorded passes (`recorded`) hold a model whole: off. What FSDP2 puts
  together is rounded once a pass, as that copy is once a step; sums of gradients stay in float32.
- Kernels, norms, gated layers and attention by products work on what a layer is handed and on its own
  weights, which are plain tensors by then: on.
- Whether rows may lie end to end is tried on a whole model, which may not fit: off, rows are padded.
- Prefixes in a pass of their own, and trees of rows, read a model from its inside: off with every kind of
  several processes.
- Processes put a layer together at the same time, or wait for each other for ever: one with fewer passes
  than another makes up for them by idle ones (`RoundedTrainer.idle`).
- The engine that draws from a policy reads single layers: it gets a copy put together, in the precision
  that is computed in, which follows the weights before each batch of draws (`follow`).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import nn

from selfimprove.training.processes import processes
from selfimprove.training.training_config import TrainingConfig

__all__ = ["arguments", "enforce", "follow", "give", "learning", "policy_of", "put_together",
           "share_out", "shares_out", "skeleton", "whole"]  # fmt: skip

_MOST: Final = 0.7  # of a GPU's memory, before activations
_HELD: Final = 16  # bytes a weight that learns: itself, its gradient, two moments
_FROZEN: Final = 2  # bytes a weight that does not


def shares_out(config: TrainingConfig, model: nn.Module) -> bool:
    """Tell whether the processes of this training share the weights of the model out."""
    wanted = config.parallel.fsdp
    if processes() == 1 or wanted is False or config.four_bits:
        return False
    if wanted is True:
        return True
    held = sum(p.numel() * (_HELD if p.requires_grad else _FROZEN) for p in model.parameters())
    if not torch.cuda.is_available():
        return False
    return held > _MOST * torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory


def arguments(config: TrainingConfig) -> dict[str, Any]:
    """Return what transformers' trainer is told beside the rest.

    What lies in the memory of the host is added up there, for which accelerate takes gloo beside NCCL where
    the environment says so.
    """
    # Without a GPU there is nothing that it could be brought to.
    offload = config.parallel.cpu_offload and torch.cuda.is_available()
    if offload:
        os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_OFFLOAD_PARAMS="true")
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "state_dict_type": "SHARDED_STATE_DICT",
            "activation_checkpointing": config.gradient_checkpointing,
            "cpu_offload": offload,
        },
        # The trainer's own would put every layer together once more.
        "gradient_checkpointing": False,
    }


def policy_of(args: Any) -> Any:  # noqa: ANN401
    """Return the trainer's arguments such that it computes in their precision, and adds up in float32."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if args.bf16:
        both = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        args.fsdp_plugin_args["mixed_precision_policy"] = both
    return args


def enforce(trainer: Any) -> None:  # noqa: ANN401
    """Let a trainer share weights out on a CPU as well.

    accelerate takes the plugin on GPUs alone: told to shard by processes without one, it copies the model
    into each of them (DDP), and says nothing of it.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    # Read by every later accelerator of this process, of trainings that share nothing out.
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    state = trainer.accelerator.state
    if getattr(state, "fsdp_plugin", None) is not None:
        return
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
    state.distributed_type = DistributedType.FSDP
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    trainer.is_fsdp_enabled = True


def share_out(model: Any, accelerator: Any) -> Any:  # noqa: ANN401
    """Return a frozen model whose weights are shared out as those of the one that learns."""
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    return fsdp2_prepare_model(accelerator, model)


def skeleton(model: nn.Module) -> nn.Module:
    """Return the same model without its weights."""
    empty: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    return copy.deepcopy(model, empty)


def in_parts(model: nn.Module) -> nn.Module:
    """Return the model with each weight as this process's part of it.

    Behind a pass that taught nothing the last layers are still together, rounded to what computes.
    """
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    return model


def whole(weights: torch.Tensor) -> torch.Tensor:
    """Return weights put together, where they compute; every process must ask for them."""
    from torch.distributed.tensor import DTensor

    if not isinstance(weights, DTensor):
        return weights
    there: Any = weights.to(weights.device_mesh.device_type)
    together: torch.Tensor = there.full_tensor()
    return together


def put_together(bones: Any, model: Any, *, here: bool) -> Any:  # noqa: ANN401
    """Return a model of these bones with the whole weights of another, on the CPU.

    Args:
        bones: of the model, before its weights were shared out.
        model: in training.
        here: whether this process wants it; the others only take part.
    """
    found: dict[int, Any] = {}
    own = in_parts(model).parameters()
    for empty, weights in zip(bones.parameters(), own, strict=True):
        told = whole(weights.detach())
        if here:
            copied = told.to("cpu", copy=True)
            found[id(empty)] = nn.Parameter(copied, requires_grad=empty.requires_grad)
    return copy.deepcopy(bones, found) if here else None


@torch.no_grad()
def follow(there: nn.Module, model: nn.Module) -> None:
    """Give a whole copy the weights that the model has learned by now; every process must call this."""
    for known, weights in zip(there.parameters(), in_parts(model).parameters(), strict=True):
        if weights.requires_grad:
            known.copy_(whole(weights.detach()))


def give(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a model some of its weights by name, from whole ones that every process has."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(in_parts(model), dict(weights), options=options)


def learning(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights that learn, put together, by the names that they have in a plain model."""
    for name, weights in in_parts(model).named_parameters():
        if weights.requires_grad:
            yield name.replace("_checkpoint_wrapped_module.", ""), whole(weights.detach())
