"""Small models with random weights, and prompts with one beginning, as a GPU is tried with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.families import byte_tokens, model_config, random_folder

from selfimprove.types import Prompt

_SIZES: Final[dict[str, Any]] = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "head_dim": 32,
    "initializer_range": 0.2, "max_position_embeddings": 2048,
}  # fmt: skip
_PREFIX: Final = " ".join(f"w{i * 7 % 500}" for i in range(60))
PROMPTS: Final = [Prompt(f"p{i}", f"{_PREFIX} w{i} " + "w3 " * (i % 5 + 1)) for i in range(40)]


def gpu_folder(folder: Path, family: str) -> Path:
    """Write the folder of a model of a family, whose tokens are bytes."""
    return random_folder(folder, model_config(family, **_SIZES), byte_tokens())


def endless_folder(folder: Path, family: str) -> Path:
    """Write that of a model whose texts never end by themselves."""
    tokenizer = byte_tokens()
    tokenizer.eos_token = None
    return random_folder(folder, model_config(family, **_SIZES, eos_token_id=None), tokenizer)
