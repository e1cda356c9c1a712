"""Parts of a model replaced by such as compute the same, under the same names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["replace_in", "takes_states_alone"]


def replace_in(model: Any, ours: Callable[[Any], nn.Module | None]) -> None:  # noqa: ANN401
    """Put in the place of each part of a model what `ours` makes of it, unless that is None."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if (made := ours(child)) is not None:
                setattr(parent, name, made)


def takes_states_alone(module: Any) -> bool:  # noqa: ANN401
    """Tell whether a module is called with one argument."""
    return len(inspect.signature(module.forward).parameters) == 1
