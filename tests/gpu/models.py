"""Small models with random weights, and prompts with one beginning, as a GPU is tried with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.families import model_config, random_folder, word_tokens

from selfimprove.types import Prompt

WORDS: Final = 512
_SIZES: Final[dict[str, Any]] = {
    "vocab_size": WORDS, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "initializer_range": 0.2,
    "max_position_embeddings": 2048, "bos_token_id": None,
}  # fmt: skip
_PREFIX: Final = " ".join(f"w{i * 7 % 500}" for i in range(60))
PROMPTS: Final = [Prompt(f"p{i}", f"{_PREFIX} w{i} " + "w3 " * (i % 5 + 1)) for i in range(40)]


def word_model(folder: Path, family: str, *, ends: int | None) -> Path:
    """Write the folder of a model of a family whose tokens are words; the word `ends` ends a text."""
    config = model_config(family, **_SIZES, eos_token_id=ends)
    return random_folder(folder, config, word_tokens(WORDS))
