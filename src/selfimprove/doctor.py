"""What this machine can run."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

__all__ = ["examine"]

_PACKAGES = ("selfimprove", "torch", "transformers", "trl", "accelerate", "peft", "datasets")
_GIB = 2**30


def examine(model: str | None) -> dict[str, str]:
    """Return facts about this machine and, for a model, the memory that it needs here.

    Raises:
        EngineError: there is no such model.
    """
    import torch

    from selfimprove.sampling.threads import cores

    facts = {"python": platform.python_version(), "cores": str(cores())}
    facts |= {name: _version(name) for name in _PACKAGES}
    facts["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.1f} GiB"
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(i)
            facts[f"cuda:{i}"] = f"{device.name}, {device.total_memory / _GIB:.0f} GiB"
    else:
        facts["gpu"] = "none found; the torch engine samples on the CPU"
    facts |= _computing()
    return facts | (_needs(model) if model else {})


def _computing() -> dict[str, str]:
    """Tell what `dtype: auto` and `threads: null` pick on this machine, and why."""
    import torch

    from selfimprove.kernels.compiled import loaded, why_not
    from selfimprove.sampling.arithmetic import WIDE, arithmetic_of
    from selfimprove.sampling.listing import engines_here
    from selfimprove.sampling.loading import pick_device
    from selfimprove.sampling.threads import cores

    device = pick_device("auto")
    wide, narrow = (arithmetic_of("auto", device, width) for width in (WIDE, WIDE - 1))
    picked = str(wide) if wide == narrow else f"{wide}, from a hidden size of {WIDE}; else float32"
    threads = min(torch.get_num_threads(), cores())
    return {
        "cpu": f"{torch.backends.cpu.get_cpu_capability()}, as torch uses it",
        "kernels in C": "compiled for AVX-512" if loaded() else f"none: {why_not()}",
        "engine auto": engines_here()["auto takes"],
        "dtype auto": picked,
        "threads": f"{threads} of {cores()} cores; {_waiting()}",
    }


def _waiting() -> str:
    """Tell how threads wait for each other, which decides what a busy machine costs."""
    policy, spins = os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT")
    if policy is not None:
        return f"they wait as OMP_WAIT_POLICY={policy} says"
    if spins is None:
        return "they spin while they wait, as torch was loaded before selfimprove: slow when busy"
    return f"one that waits gives up its core after {spins} rounds (GOMP_SPINCOUNT)"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _needs(model: str) -> dict[str, str]:
    """Bound what the model needs here, from its config alone."""
    from selfimprove.models import config_here, locate
    from selfimprove.runtime.memory import LIBRARIES, sampling, shape_of, training
    from selfimprove.sampling.arithmetic import arithmetic_of
    from selfimprove.sampling.engine import EngineConfig
    from selfimprove.sampling.loading import pick_device
    from selfimprove.training.sft_config import SftConfig
    from selfimprove.training.training_config import LoraConfig

    shape = shape_of(config_here(model) or Path(locate(model).path))
    needs = {
        "to sample": next(sampling("", shape, EngineConfig())),
        "to fine-tune": training("", shape, SftConfig(), SftConfig().max_length),
        "with LoRA": training("", shape, SftConfig(lora=LoraConfig()), SftConfig().max_length),
    }
    return {
        "model": f"{model}: {shape.parameters / 1e6:,.1f} million parameters, hidden size {shape.hidden}",
        "computed in": str(arithmetic_of("auto", pick_device("auto"), shape.hidden)),
        **{
            name: f"at most {(need.total + LIBRARIES) / _GIB:.1f} GiB, with the defaults of a recipe"
            for name, need in needs.items()
        },
    }
