"""The models of `gpu.py`: SmolLM2 from a GGUF file, others random; and what their arithmetic costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_parts import Setting
from machine import say

# isort: split
import torch
from sampling_workloads import endless, model_folder
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

__all__ = ["Cost", "cost_of", "endless_of", "folder_of", "made"]

_SHAPES = {
    "135m": {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
             "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
    "0.5b": {"vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864,
             "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2},
    "1b": {"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192,
           "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8},
}  # fmt: skip
"""Of SmolLM2-135M, Qwen2.5-0.5B and Llama-3.2-1B; all as a Llama."""
_TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
_PAD, _EOS, _UNK = range(3)


def made(setting: Setting, name: str) -> dict[str, Any]:
    """Make the model of a name, and the same without its end tokens, of which every draw is as long."""
    folder = setting.scratch / name
    weights = "random"
    if name == "135m" and setting.gguf is not None:
        folder.symlink_to(model_folder(str(setting.gguf)))
        weights = setting.gguf.name
    else:
        _random(folder, name, setting)
    without_end = setting.scratch / f"{name}-endless"
    without_end.mkdir()
    endless(folder, without_end)
    cost = cost_of(folder)
    say(f"  {weights} weights, {cost.weights / 1e6:,.1f} M that are multiplied with")
    return {"weights": weights, "parameters": cost.parameters, "multiplied": cost.weights}


def _random(folder: Path, name: str, setting: Setting) -> None:
    shape = _TINY if setting.tiny else _SHAPES[name]
    config = LlamaConfig(**shape, tie_word_embeddings=True, bos_token_id=None, eos_token_id=_EOS,
                         pad_token_id=_PAD, max_position_embeddings=4096)  # fmt: skip
    torch.manual_seed(0)
    with torch.device(setting.device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, setting.dtype))
    model.save_pretrained(folder)
    words = {"<pad>": _PAD, "<eos>": _EOS, "<unk>": _UNK}
    words |= {f"w{n}": n for n in range(len(words), config.vocab_size)}
    raw = Tokenizer(WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)


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
