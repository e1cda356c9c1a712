"""Numbers on their way from the host to a device that is busy."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sent"]


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Return numbers of the host on a device, in the order of its work, without waiting for that.

    From ordinary memory a copy to a GPU waits until all is done that was asked of it before.
    """
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)
