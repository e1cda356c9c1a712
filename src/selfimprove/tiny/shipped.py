"""Where the models that ship with the package lie, so that a recipe can say `model: tiny`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from selfimprove.errors import ConfigError

__all__ = ["NAMES", "folder"]

NAMES: Final = ("tiny", "tinier", "tiny-keeps")
"""tiny: the default model. tinier: a smaller, weaker student of the same texts. tiny-keeps: knows the
world of `tiny.keeps`."""


def folder(name: str = "tiny") -> Path:
    """Return the Hugging Face folder of a shipped model.

    Raises:
        ConfigError: no model of this name ships, or its weights are missing.
    """
    if name not in NAMES:
        raise ConfigError(f"no shipped model is called {name!r}: there are {', '.join(NAMES)}")
    path = Path(__file__).parent / "models" / name
    if not (path / "model.safetensors").is_file():
        raise ConfigError(f"{path} holds no weights: `selfimprove tiny pretrain` makes them again")
    return path
