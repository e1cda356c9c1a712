"""The models of `gpu.py`: SmolLM2 from a GGUF file, others random; and what their arithmetic costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_parts import Setting
from machine import say

# isort: split
import torch
from random_models import random_model
from sampling_workloads import endless, model_folder
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

__all__ = ["Cost", "cost_of", "endless_of", "folder_of", "made"]


def made(setting: Setting, name: str) -> dict[str, Any]:
    """Make the model of a name, and the same without its end tokens, of which every draw is as long."""
    folder = setting.scratch / name
    weights = "random"
    if name == "135m" and setting.gguf is not None:
        folder.symlink_to(model_folder(str(setting.gguf)))
        weights = setting.gguf.name
    else:
        shape = "tiny" if setting.tiny else name
        random_model(folder, shape, device=setting.device, dtype=setting.dtype)
    without_end = setting.scratch / f"{name}-endless"
    without_end.mkdir()
    endless(folder, without_end)
    cost = cost_of(folder)
    say(f"  {weights} weights, {cost.weights / 1e6:,.1f} M that are multiplied with")
    return {"weights": weights, "parameters": cost.parameters, "multiplied": cost.weights}


def folder_of(setting: Setting, name: str) -> Path:
    """Return the folder of a model that an earlier part made."""
    return _there(setting.scratch / name)


def endless_of(setting: Setting, name: str) -> Path:
    """Return the folder of the same model without end tokens."""
    return _there(setting.scratch / f"{name}-endless")


def _there(folder: Path) -> Path:
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"the model {folder.name} was not made")
    return folder


@dataclass(frozen=True)
class Cost:
    """What a model's arithmetic costs, by its config alone."""

    parameters: int
    weights: int
    """That are multiplied with: not the table of embeddings, but the output layer, if there is one."""
    attended: int
    """Layers x heads x width of a head."""
    cache_bytes: int
    """Of the keys and values of one token, at two bytes a number."""

    def forward(self, tokens: float, context: float) -> float:
        """Return the operations of reading tokens, each of which sees so many, in the mean."""
        return tokens * (2 * self.weights + 4 * self.attended * context)

    def row(self, tokens: float) -> float:
        """Return the operations of reading a row."""
        return self.forward(tokens, tokens / 2)


def cost_of(folder: Path, *, scores: bool = False) -> Cost:
    """Return the cost of the model of a folder, or of one that scores in place of its output layer."""
    config: Any = AutoConfig.from_pretrained(folder, num_labels=1)
    kind = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config)
    parameters = sum(p.numel() for p in model.parameters())
    is_output = config.tie_word_embeddings and not scores
    lookup = 0 if is_output else model.get_input_embeddings().weight.numel()
    width = config.head_dim
    kept = config.num_hidden_layers * config.num_key_value_heads * width
    return Cost(
        parameters=parameters,
        weights=parameters - lookup,
        attended=config.num_hidden_layers * config.num_attention_heads * width,
        cache_bytes=2 * 2 * kept,
    )
