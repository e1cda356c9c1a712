"""Where the time goes: the kernels and the host's operations of some decoding, and of one step of SFT."""

from __future__ import annotations

from typing import Any

from gpu_models import endless_of, folder_of
from gpu_parts import Setting
from machine import say

# isort: split
from gpu_clock import Enough, ending
from gpu_sampling import prompts
from gpu_training import examples, places, sft_config
from matrix_limit import synchronised
from sampling import ours
from sampling_workloads import Size
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.open import open_engine
from selfimprove.training.sft import train_sft

__all__ = ["sampling", "sft"]

_ROWS = 12
_STEP = 4  # the first ones warm up


class Profiled:
    """A stretch of work under the profiler."""

    def __init__(self, setting: Setting) -> None:
        kinds = [ProfilerActivity.CPU]
        kinds += [ProfilerActivity.CUDA] if setting.device == "cuda" else []
        self._profile = profile(activities=kinds)
        self._device = setting.device
        self.seconds = 0.0

    def start(self) -> None:
        """Begin."""
        self._profile.start()
        self._began = synchronised(self._device)

    def stop(self) -> None:
        """End."""
        self.seconds = synchronised(self._device) - self._began
        self._profile.stop()

    def told(self) -> dict[str, Any]:
        """Return the longest kernels and host operations, in milliseconds, and how busy the card was."""
        found = self._profile.key_averages()
        kernels = [e for e in found if e.device_type != DeviceType.CPU]
        host = [e for e in found if e.device_type == DeviceType.CPU]
        busy = sum(e.self_device_time_total for e in kernels) / 1e6 / self.seconds
        say(f"  {self.seconds:.3f} s, the card busy {busy:.1%} of them")
        return {
            "profiled_s": round(self.seconds, 4),
            "busy": round(busy, 4),
            "kernels": _longest(kernels, "self_device_time_total"),
            "host": _longest(host, "self_cpu_time_total"),
        }


def _longest(found: list[Any], by: str) -> list[dict[str, Any]]:
    ordered = sorted(found, key=lambda entry: -getattr(entry, by))
    return [
        {"name": entry.key[:80], "calls": entry.count, "ms": round(getattr(entry, by) / 1e3, 2)}
        for entry in ordered[:_ROWS]
    ]


def sampling(setting: Setting, name: str) -> dict[str, Any]:
    """Profile the engine while it reads the prompts and takes some steps behind them."""
    folder, size = endless_of(setting, name), setting.size
    texts = prompts(folder, name, size.prompts)
    engine = open_engine(folder, EngineConfig(device=setting.device, dtype=setting.dtype))
    few = Size(size.prompts, size.draws, 3 if setting.tiny else 8)
    ours(engine, texts, few)
    profiled = Profiled(setting)
    profiled.start()
    ours(engine, texts, few)
    profiled.stop()
    engine.close()
    return profiled.told()


class _OneStep(TrainerCallback):
    """Profiles a step, and ends the training."""

    def __init__(self, profiled: Profiled) -> None:
        self._profiled = profiled

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        if state.global_step == _STEP:
            self._profiled.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        if state.global_step > _STEP:
            self._profiled.stop()
            raise Enough


def sft(setting: Setting, name: str) -> dict[str, Any]:
    """Profile one step of supervised fine-tuning."""
    base, profiled = folder_of(setting, name), Profiled(setting)
    with ending(_OneStep(profiled)):
        train_sft(base, examples(setting, base), sft_config(setting), seed=0, **places(setting))
    return profiled.told()
