"""What `gpu.py` measures, part by part, and what every part is told. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sampling_workloads import Size

__all__ = ["PARTS", "Part", "Setting"]


@dataclass(frozen=True)
class Setting:
    """What every part is told."""

    device: str
    """cuda or cpu."""
    tiny: bool
    """Tiny models and little work: to see that every line runs."""
    quick: bool
    scratch: Path
    """Models and runs lie here."""
    gguf: Path | None
    """SmolLM2-135M; None: random weights of its shape."""
    rows: Path | None
    """GSM8K's train.jsonl; None: random words."""
    vllm_python: str | None
    """The Python of an environment that has vLLM."""

    @property
    def dtype(self) -> str:
        """Of the arithmetic when sampling."""
        return "float32" if self.device == "cpu" else "bfloat16"

    @property
    def size(self) -> Size:
        """What is sampled."""
        if self.tiny:
            return Size(prompts=4, draws=2, max_tokens=6)
        return Size(prompts=256, draws=16, max_tokens=64)

    @property
    def rows_a_step(self) -> int:
        """Of supervised fine-tuning; pairs and preferences are half as many."""
        return 2 if self.tiny else 32

    @property
    def window_s(self) -> float:
        """Seconds of training that are timed."""
        if self.tiny:
            return 0.2
        return 5 if self.quick else 8


@dataclass(frozen=True)
class Part:
    """One piece of the whole, with a time of its own."""

    name: str
    code: str
    """module:function, called with the setting and the model's name."""
    model: str
    seconds: int
    """After so many it is given up."""
    quick_seconds: int = 0
    """With --quick; 0: it is left out."""
    needs_vllm: bool = False


# What matters most comes first: where time runs out, the last parts are lost.
PARTS = (
    Part("limits", "gpu_limits:limits", "", 20, 20),
    Part("model-135m", "gpu_models:made", "135m", 90, 90),
    Part("sampling-135m", "gpu_sampling:sampling", "135m", 75, 45),
    Part("sft-135m", "gpu_training:sft", "135m", 40, 30),
    Part("model-0.5b", "gpu_models:made", "0.5b", 40),
    Part("sampling-0.5b", "gpu_sampling:sampling", "0.5b", 75),
    Part("model-1b", "gpu_models:made", "1b", 60),
    Part("sampling-1b", "gpu_sampling:sampling", "1b", 75),
    Part("sft-1b", "gpu_training:sft", "1b", 60),
    Part("recipe-135m", "gpu_recipe:recipe", "135m", 80, 40),
    Part("dpo-135m", "gpu_training:dpo", "135m", 40, 30),
    Part("reward-135m", "gpu_training:reward", "135m", 40),
    Part("gap-reward-135m", "gpu_training:gap_reward", "135m", 40),
    Part("policy-gradient-135m", "gpu_policy:policy_gradient", "135m", 60, 45),
    Part("greedy-135m", "gpu_sampling:greedy", "135m", 40, 30),
    Part("trl-sft-135m", "gpu_trl:sft", "135m", 60, 40),
    Part("profile-sampling-135m", "gpu_profile:sampling", "135m", 30, 25),
    Part("profile-sft-135m", "gpu_profile:sft", "135m", 30, 25),
    Part("trl-sft-1b", "gpu_trl:sft", "1b", 70),
    Part("vllm-135m", "gpu_sampling:vllm", "135m", 150, needs_vllm=True),
    Part("vllm-0.5b", "gpu_sampling:vllm", "0.5b", 150, needs_vllm=True),
    Part("vllm-1b", "gpu_sampling:vllm", "1b", 150, needs_vllm=True),
)
