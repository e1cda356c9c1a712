"""What every trainer here is told, whatever it trains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch

from selfimprove.sampling.arithmetic import Arithmetic
from selfimprove.training import sharded
from selfimprove.training.processes import share_of
from selfimprove.training.training_config import TrainingConfig

__all__ = ["common"]

_LOG_EVERY: Final = 10  # steps; short trainings log ten times
_CHECKPOINTS_KEPT: Final = 2  # a killed process may leave the newest half written
_SCHEDULES: Final = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def common(
    config: TrainingConfig,
    use: Arithmetic,
    steps: int,
    checkpoints: Path,
    seed: int,
    *,
    shared_out: bool = False,
) -> dict[str, Any]:
    """Return the arguments of transformers' trainer and of those built on it.

    Args:
        config: of the training.
        use: the precision that is computed in.
        steps: of the whole training, every epoch of which lies in its order of rows.
        checkpoints: where they are kept.
        seed: of dropout.
        shared_out: whether the processes share the weights out.

    Raises:
        TrainingError: the batch cannot be shared by the processes.
    """
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": share_of(config.batch_size),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": _SCHEDULES[config.schedule],
        # The first step of a warm-up has a rate of 0: it may not be the only one.
        "warmup_steps": min(math.ceil(config.warmup_frac * steps), steps - 1),
        "num_train_epochs": 1,
        "max_steps": steps,
        "train_sampling_strategy": "sequential",
        "use_cpu": not gpu,
        "bf16": use.dtype == "bfloat16",
        "gradient_checkpointing": config.gradient_checkpointing,
        "ddp_find_unused_parameters": False,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": _CHECKPOINTS_KEPT,
        "logging_first_step": True,
        "logging_steps": max(min(_LOG_EVERY, steps // _LOG_EVERY), 1),
        "logging_nan_inf_filter": False,
        "seed": seed % 2**32,
        "remove_unused_columns": False,
        # A batch is on its way to the GPU while the step before it is computed.
        "dataloader_pin_memory": gpu,
        "accelerator_config": {"non_blocking": gpu},
        "report_to": "none",
        "disable_tqdm": True,
        **(sharded.arguments(config) if shared_out else {}),
    }
