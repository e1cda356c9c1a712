"""Models of random weights, one word a token, in the shapes of known ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

__all__ = ["random_model"]

_SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
             "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    "1m": {"vocab_size": 1024, "hidden_size": 128, "intermediate_size": 344,
           "num_hidden_layers": 4, "num_attention_heads": 4},
    "5m": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 5,
           "num_attention_heads": 4},
    "30m": {"vocab_size": 16_384, "hidden_size": 384, "intermediate_size": 1024,
            "num_hidden_layers": 13, "num_attention_heads": 6},
    "25m": {"vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1280, "num_hidden_layers": 8,
            "num_attention_heads": 6, "initializer_range": 0.1, "tie_word_embeddings": False},
    "135m": {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
             "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
    "0.5b": {"vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864,
             "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2},
    "1b": {"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192,
           "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8},
}  # fmt: skip
"""The last three are SmolLM2-135M's, Qwen2.5-0.5B's and Llama-3.2-1B's; all as a Llama."""
_SPECIAL = ("<pad>", "<eos>", "<unk>")
"""The first tokens; the others are w3, w4, and so on."""


def random_model(
    folder: Path, shape: str, *, ends: bool = True, device: str = "cpu", dtype: str = "float32"
) -> Path:
    """Write model and tokenizer of a shape; without `ends`, every draw is as long as was asked for."""
    pad, eos, _ = range(len(_SPECIAL))
    config = LlamaConfig(
        **{"tie_word_embeddings": True, **_SHAPES[shape]}, max_position_embeddings=4096,
        bos_token_id=None, eos_token_id=eos if ends else None, pad_token_id=pad if ends else None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    words = [*_SPECIAL, *(f"w{n}" for n in range(len(_SPECIAL), config.vocab_size))]
    raw = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.Fuse()
    told = {"eos_token": "<eos>", "pad_token": "<pad>"} if ends else {}
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", **told).save_pretrained(folder)
    return folder
