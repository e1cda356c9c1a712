"""Attention of short rows by plain products: two in the forward pass, four in the gradient.

Queries of the heads that share a key head stand together: q is (rows, key heads, heads x queries, size),
k and v are (rows, key heads, keys, size).
"""

from __future__ import annotations

import torch
from torch import Tensor

from selfimprove.kernels import layers
from selfimprove.kernels.calls import takes

__all__ = ["attended", "gradients"]


def attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return softmax(scale q k^T + bias) v, and the probabilities; the bias is that of every head.

    Args:
        q: queries.
        k: keys.
        v: values.
        bias: (rows or 1, 1, queries, keys).
        scale: of a product of query and key.
    """
    scores = torch.matmul(q, k.transpose(-1, -2))
    if takes(q.device, q.dtype) and bias.dtype == q.dtype:
        chances = layers.softmax(scores, bias.contiguous(), scale)
        return torch.matmul(chances, v), chances
    scores.mul_(scale).unflatten(2, (-1, bias.shape[2])).add_(bias.unsqueeze(2))
    chances = torch.softmax(scores, -1)
    return torch.matmul(chances, v), chances


def gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, chances: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v from that of what was attended to."""
    of_v = torch.matmul(chances.transpose(-1, -2), grad)
    of_chances = torch.matmul(grad, v.transpose(-1, -2))
    if takes(q.device, q.dtype):
        of_scores = layers.softmax_gradient(chances, of_chances, scale)
    else:
        of_scores = torch._softmax_backward_data(of_chances, chances, -1, chances.dtype)
        of_scores.mul_(scale)
    of_k = torch.matmul(of_scores.transpose(-1, -2), q)
    return torch.matmul(of_scores, k), of_k, of_v
