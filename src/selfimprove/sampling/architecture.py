"""What a model is, as its config and its parts tell, whatever wraps it."""

from __future__ import annotations

from typing import Any

__all__ = ["full_attention", "unwrapped"]


def full_attention(config: Any) -> bool:  # noqa: ANN401
    """Whether every token sees all before it, in every layer of a text model's config."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    windowed = getattr(config, "sliding_window", None) and getattr(
        config, "use_sliding_window", True
    )
    return set(kinds) == {"full_attention"} and not windowed


def unwrapped(model: Any) -> Any:  # noqa: ANN401
    """Return the model that adapters wrap; their layers stand within it all the same."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
