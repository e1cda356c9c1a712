"""Kernels of our own against the same in tensor operations: cases for every device that has some."""

from __future__ import annotations

import torch

from selfimprove.sampling import fused, fused_trials
from selfimprove.sampling.attention import KeysValues, Partial, attend_by_products, hiding, merge
from selfimprove.sampling.choose import _among_all

__all__ = ["SHAPES", "choice_of_all", "ends_of_a_vocabulary", "own_keys_and_parts"]

# Key heads, queries of each, size.
SHAPES = [(3, 3, 64), (2, 7, 128), (8, 1, 32), (1, 20, 64)]


def own_keys_and_parts(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int], parts: int
) -> float:
    """Return how far attention is off that in float32."""
    heads, queries, size = shape
    assert fused_trials.can_attend(device, dtype, size, queries)
    torch.manual_seed(0)
    packed = torch.randn(200, heads, queries, size, device=device, dtype=dtype)
    buffers = (torch.randn(200, heads, 101, size, device=device, dtype=dtype) for _ in range(2))
    own = KeysValues(*(kept[:, :, :100] for kept in buffers))
    last = torch.arange(200, device=device) % 100
    others = [
        Partial(torch.randn_like(packed), torch.randn(heads, 200, queries, device=device).transpose(0, 1))
        for _ in range(parts)
    ]  # fmt: skip
    bias = hiding(torch.arange(100, device=device) > last[:, None, None, None], torch.float32)
    wanted = attend_by_products(packed.float(), KeysValues(*(t.float() for t in own)), bias, 0.1)
    for other in others:
        wanted = merge(Partial(other.out.float(), other.lse), wanted)
    found = fused.attend_to_own(packed, own, last, others, 0.1)
    assert found.dtype == packed.dtype
    return float((found.float() - wanted.out).abs().max())


def choice_of_all(device: torch.device, dtype: torch.dtype, vocabulary: int, rows: int) -> float:
    """Return the share of rows whose token is that of tensor operations; none has no chance."""
    assert fused_trials.can_choose(device, dtype)
    torch.manual_seed(0)
    logits = (3 * torch.randn(rows, vocabulary, device=device)).to(dtype)
    logits[:, ::7] = -torch.inf
    u = torch.rand(rows, device=device)
    found, wanted = fused.choose_among_all(logits, u, 0.7), _among_all(logits, u, 0.7)
    assert (found % 7 != 0).all()
    return float((found == wanted).float().mean())


def ends_of_a_vocabulary(device: torch.device) -> list[int]:
    """Return what is chosen by the least and the greatest number of [0, 1) among tokens 5 and 8999."""
    logits = torch.full((2, 9_000), -torch.inf, device=device)
    logits[:, [5, 8_999]] = 0
    return fused.choose_among_all(
        logits, torch.tensor([0.0, 1 - 2**-24], device=device), 1.0
    ).tolist()
