"""What this machine can run."""

from __future__ import annotations

import os
import platform
from importlib import metadata

__all__ = ["examine"]

_PACKAGES = ("selfimprove", "torch", "transformers", "trl", "accelerate", "peft", "datasets")
_GIB = 2**30
_ADAM_BYTES = 16  # float32 weight, gradient and two moments, a parameter


def examine(model: str | None) -> dict[str, str]:
    """Return facts about this machine and, for a model, the memory that it needs here.

    Raises:
        EngineError: there is no such model.
    """
    import torch

    facts = {"python": platform.python_version(), "cores": str(len(os.sched_getaffinity(0)))}
    facts |= {name: _version(name) for name in _PACKAGES}
    facts["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.1f} GiB"
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(i)
            facts[f"cuda:{i}"] = f"{device.name}, {device.total_memory / _GIB:.0f} GiB"
        facts["bfloat16"] = "yes" if torch.cuda.is_bf16_supported() else "no"
    else:
        facts["gpu"] = "none found; the torch engine samples on the CPU"
        facts["bfloat16"] = "fast" if torch.cpu._is_amx_tile_supported() else "slow on this CPU"
    return facts | (_needs(model) if model else {})


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _needs(model: str) -> dict[str, str]:
    """Estimate from the parameter count, without loading any weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from selfimprove.models import locate

    config = AutoConfig.from_pretrained(locate(model).path)
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(config)
    count = sum(p.numel() for p in shape.parameters())
    return {
        "model": f"{model}: {count / 1e6:,.1f} million parameters",
        "to sample": f"{2 * count / _GIB:.1f} GiB in bfloat16, and the cache of the rows",
        "to fine-tune": f"{_ADAM_BYTES * count / _GIB:.1f} GiB (all weights, Adam), and activations",
        "with LoRA": f"about {2.2 * count / _GIB:.1f} GiB, and activations",
    }
