"""Attention to one part of the keys, with its log-sum-exp, by which two parts are joined exactly."""

from __future__ import annotations

import logging
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = [
    "KeptKeys",
    "KeysValues",
    "Partial",
    "aligned",
    "attend",
    "attend_by_products",
    "attend_together",
    "for_queries",
    "hiding",
    "merge",
    "whole_vectors",
]

_CPU_KERNEL = "_scaled_dot_product_flash_attention_for_cpu"

_VECTOR = 16

# A GPU's attention kernel reads a mask so many numbers at a time.
_ALIGNED = 8

# Queries from which a GPU's attention kernel is worth its tiles of 64.
_TILE = 16

_log = logging.getLogger(__name__)


class KeysValues(NamedTuple):
    """Keys and values of one layer, each [rows, key-value heads, length, head size]."""

    keys: Tensor
    values: Tensor


class Partial(NamedTuple):
    """Attention over a part of the keys: its output and the log of its softmax's denominator."""

    out: Tensor
    """[rows, heads, queries, head size]"""
    lse: Tensor
    """[rows, heads, queries], float32"""


def whole_vectors(length: int, device: torch.device) -> int:
    """Return the next length that is a whole number of a CPU's widest vectors of float32.

    What is over a whole number, the kernel of a CPU does one by one: 395 keys take longer than 448.
    """
    return -(-length // _VECTOR) * _VECTOR if device.type == "cpu" else length


def hiding(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the bias that hides the keys marked in `hidden`."""
    nothing = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return nothing.masked_fill_(hidden, -torch.inf)


def for_queries(bias: Tensor | None, queries: int) -> Tensor | None:
    """Return the bias of a head's queries as one of `queries` packed ones: those of all its heads."""
    if bias is None or bias.shape[2] == queries:
        return bias
    return bias.repeat(1, 1, queries // bias.shape[2], 1)


class KeptPrompts(Protocol):
    """Keys and values of prompts, each read by some of the rows."""

    def attend(self, packed: Tensor, layer: int, scale: float) -> Partial:
        """Attend to each row's own prompt with its queries, [rows, key heads, queries, size]."""
        ...


class KeptKeys(Protocol):
    """Where a pass finds the keys and values of earlier ones, and leaves its own."""

    def update(self, key: Tensor, value: Tensor, layer: int) -> KeysValues:
        """Store new keys and values of a layer; return all own ones that queries attend to."""
        ...

    @property
    def prompts(self) -> KeptPrompts | None:
        """Return the prompts that rows read, or None while prefix or prompts are read themselves."""
        ...

    def over_prefix(self, packed: Tensor, layer: int, scale: float) -> Partial | None:
        """Attend to what all prompts begin with, or return None when there is nothing (yet).

        `packed` are queries, [rows, key heads, queries, size].
        """
        ...

    def bias(self, queries: int) -> Tensor | None:
        """Return what hides padding and the future from `queries` packed queries a key head."""
        ...

    @property
    def last(self) -> Tensor | None:
        """Return the last own key that each row sees, [rows], where a kernel goes by it; None: by `bias`."""
        ...

    def in_place(self, layer: int) -> KeysValues | None:
        """Return all own ones of a layer, for a kernel that puts new ones at `last`; None: by `update`."""
        ...


def attend(query: Tensor, part: KeysValues, bias: Tensor | None, scale: float) -> Partial:
    """Return softmax attention of `query` [rows, heads, queries, size] over one part.

    `bias` is added to the scores and broadcasts over heads; -inf hides a key.
    """
    # Under autocast, which knows none of the kernels, rotated queries are float32.
    query = query.to(part.values.dtype)
    if query.device.type == "cpu":
        # The public function runs this same kernel, but keeps the log-sum-exp to itself.
        kernel = getattr(torch.ops.aten, _CPU_KERNEL)
        bias = None if bias is None else bias.to(query.dtype)
        return Partial(*kernel(query, *part, attn_mask=bias, scale=scale))
    # With few queries a kernel's tiles are mostly empty, and there are few scores to write down.
    if query.shape[2] >= _TILE and _has_cuda_kernel(query.device, query.dtype, query.shape[3]):
        return _attend_by_cuda_kernel(query, part, bias, scale)
    return attend_by_products(query, part, bias, scale)


def attend_together(packed: Tensor, part: KeysValues, bias: Tensor | None, scale: float) -> Partial:
    """Attend to one part, [1, ...], with the queries of all rows at once, [rows, key heads, queries, size]."""
    rows, groups, queries, size = packed.shape
    together = packed.transpose(0, 1).reshape(1, groups, rows * queries, size)
    bias = None if bias is None else bias.expand(-1, -1, together.shape[2], -1)
    found = attend(together, part, bias, scale)
    return Partial(
        found.out.reshape(groups, rows, queries, size).transpose(0, 1),
        found.lse.reshape(groups, rows, queries).transpose(0, 1),
    )


def _attend_by_cuda_kernel(
    query: Tensor, part: KeysValues, bias: Tensor | None, scale: float
) -> Partial:
    """Do as `attend` does, by the kernel of the public function that takes every mask and dtype."""
    rows, heads, queries, _ = query.shape
    if bias is not None:
        bias = aligned(bias.to(query.dtype)).expand(rows, heads, queries, -1)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    out, lse, *_ = kernel(query, *part, bias, True, scale=scale)
    # It is as long as whole tiles.
    return Partial(out, lse[:, :, :queries])


def aligned(bias: Tensor) -> Tensor:
    """Return the same numbers, laid so that every row begins where the kernel can read: see `_ALIGNED`."""
    short = -bias.shape[-1] % _ALIGNED
    return pad(bias, (0, short))[..., :-short] if short else bias


@cache
@torch.inference_mode()
def _has_cuda_kernel(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Try whether that kernel does what plain products do."""
    if device.type != "cuda":
        return False
    numbers = torch.Generator(device).manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=numbers, device=device, dtype=dtype)

    # No whole number of what the kernel reads at a time, as prompts have.
    query, part = some(3, 2, 40, size), KeysValues(some(3, 2, 45, size), some(3, 2, 45, size))
    hidden = torch.arange(45, device=device) > torch.tensor([[5], [20], [44]], device=device)
    bias = hiding(hidden[:, None, None].expand(-1, -1, 40, -1), dtype)
    asked = (query, part, bias, size**-0.5)
    try:
        found, wanted = _attend_by_cuda_kernel(*asked), attend_by_products(*asked)
    except RuntimeError as problem:
        _log.info("no attention kernel for %s, heads of %d: %s", dtype, size, problem)
        return False
    off = max((a - b).abs().max().item() for a, b in zip(found, wanted, strict=True))
    return off <= (1e-2 if dtype == torch.float32 else 0.05)  # float32 may be multiplied as TF32


def attend_by_products(
    query: Tensor, part: KeysValues, bias: Tensor | None, scale: float
) -> Partial:
    """Do as `attend` does, in plain tensor operations that every device has."""
    scores = torch.matmul(query, part.keys.transpose(-1, -2)).float() * scale
    if bias is not None:
        scores = scores + bias
    lse = scores.logsumexp(-1)
    weights = (scores - lse.unsqueeze(-1)).exp().to(query.dtype)
    return Partial(torch.matmul(weights, part.values), lse)


def merge(first: Partial, second: Partial) -> Partial:
    """Return the attention over both parts together.

    With l the log-sum-exps, the share of the first part is e^l1 / (e^l1 + e^l2).
    """
    share = torch.sigmoid(first.lse - second.lse).unsqueeze(-1).to(first.out.dtype)
    return Partial(torch.lerp(second.out, first.out, share), torch.logaddexp(first.lse, second.lse))
