"""Linear maps whose bfloat16 weights lie as AMX reads them.

Given plain weights, oneDNN rearranges them anew in every product: a sixth of the time with 256 rows, a
third with few. Packed once, they are also multiplied together with what follows, before the result
is rounded. These are the operations that torch.compile puts in place of linear layers.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from selfimprove.sampling.arithmetic import cpu_bfloat16

__all__ = ["PackedLinear", "can_pack"]

# Rows that a layout is chosen for; others are multiplied as fast by it.
_ROWS = 256


def can_pack(weight: Tensor) -> bool:
    """Tell whether products with `weight` run on AMX."""
    here = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return here and cpu_bfloat16() == "AMX"


@final
class PackedLinear(nn.Module):
    """Takes the place of a linear layer that is not trained any more."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = bias
        self._product: Any = torch.ops.mkldnn._linear_pointwise

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        return self._with("none", x)

    def activated(self, x: Tensor) -> Tensor:
        """Return the SiLU of x W^T + b."""
        return self._with("swish", x)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Return (x W^T + b) * other."""
        made: Tensor = self._product.binary(x, other, self._weight, self._bias, "mul")
        return made

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Return x W^T + b + other."""
        made: Tensor = self._product.binary(x, other, self._weight, self._bias, "add")
        return made

    def _with(self, activation: str, x: Tensor) -> Tensor:
        made: Tensor = self._product(x, self._weight, self._bias, activation, [], "")
        return made
