"""The log-probability of given tokens, and its gradient, a few rows of logits at a time.

With a vocabulary of fifty thousand, logits in float32, their log-softmax and the gradients of both are
each larger than a CPU's cache by a hundred times, and on a GPU most of what a pass needs. So only what
was given, in its own precision, is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

from selfimprove.training.few_rows import few_rows

__all__ = ["log_likelihood"]

_AT_ONCE: Final = {"cpu": 1 << 18, "cuda": 1 << 28}
"""Logits."""


def log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target, (tokens,), in nats and float32.

    Args:
        logits: (tokens, vocabulary).
        targets: (tokens,) token ids.
    """
    out: Tensor = _Said.apply(logits, targets)  # type: ignore[no-untyped-call]
    return out


def _parts(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return few_rows(_AT_ONCE[logits.device.type], logits, *others)


class _Said(torch.autograd.Function):
    """log softmax(logits) at the target; the gradient is target - softmax(logits)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:  # noqa: ANN401
        totals = logits.new_empty(len(logits), dtype=torch.float32)
        said = torch.empty_like(totals)
        for part, target, there, total in _parts(logits, targets, said, totals):
            wide = part.float()
            total.copy_(wide.logsumexp(-1))
            there.copy_(wide.gather(1, target[:, None])[:, 0]).sub_(total)
        ctx.save_for_backward(logits, targets, totals)
        return said

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        logits, targets, totals = ctx.saved_tensors
        found = torch.empty_like(logits)
        parts = _parts(logits, targets, totals, grads[0], found)
        for part, target, total, grad, there in parts:
            wide = part.to(torch.float32, copy=True).sub_(total[:, None]).exp_()
            wide.mul_(-grad[:, None]).scatter_add_(1, target[:, None], grad[:, None])
            there.copy_(wide)
        return found, None
