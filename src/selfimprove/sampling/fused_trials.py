"""Which of the kernels of `fused` work here: each does a small trial on the device, once in a process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Final, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import silu

from selfimprove.kernels.calls import takes
from selfimprove.sampling import fused, fused_cpu
from selfimprove.sampling.attention import (
    KeysValues,
    Partial,
    attend_by_products,
    attend_together,
    hiding,
    merge,
)
from selfimprove.sampling.prompt_cache import Seats, attend_by_slot

__all__ = [
    "can_attend",
    "can_attend_by_slot",
    "can_attend_to_prefix",
    "can_choose",
    "can_gate",
    "can_turn",
]

_log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

# Off by more than this from plain products a kernel is wrong: on a GPU those may be of TF32.
_OFF: Final = {torch.float32: 1e-2}
_OFF_ROUNDED: Final = 0.05


def can_attend(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    """Tell whether the kernel of a row's own keys works here.

    Args:
        device: that it would run on.
        dtype: of keys and values.
        size: of a head.
        queries: a key head.
    """
    if device.type == "cpu":
        there = fused_cpu.takes_heads(device, dtype, size)
    else:
        there = _has_triton(device, size)
    return there and _attends(device, dtype, size, queries)


def can_attend_by_slot(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    """Tell whether that of each row's prompt works here; there is none on a CPU."""
    return _has_triton(device, size) and _attends_by_slot(device, dtype, size, queries)


def can_attend_to_prefix(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    """Tell whether that of what all prompts begin with works here; there is none on a CPU."""
    there = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    return there and _attends_to_prefix(device, dtype, size, queries)


def can_turn(device: torch.device, dtype: torch.dtype, size: int, queries: int, keys: int) -> bool:
    """Tell whether that which turns so many heads of queries and keys, and keeps keys, works here."""
    if device.type == "cpu":
        return fused_cpu.takes_heads(device, dtype, size)
    return _has_triton(device, size) and _turns(device, dtype, size, queries, keys)


def can_gate(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether that of a gated layer works here; there is none on a CPU."""
    return _has_triton(device) and _gates(device, dtype)


def can_choose(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether that which chooses works here."""
    there = takes(device, dtype) if device.type == "cpu" else _has_triton(device)
    return there and _chooses(device)


def _has_triton(device: torch.device, size: int = 16) -> bool:
    """Whether there are kernels for a GPU, for heads of this size."""
    whole = size >= 16 and size & (size - 1) == 0
    return whole and device.type == "cuda" and bool(find_spec("triton"))


class _Numbers:
    """Random ones for a trial, each other than the last."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._state = torch.Generator(device).manual_seed(0)

    def __call__(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self._dtype
        return torch.randn(shape, generator=self._state, device=self._device, dtype=dtype)

    def pair(self, *shape: int) -> KeysValues:
        return KeysValues(self(*shape), self(*shape))


@cache
@torch.inference_mode()
def _attends(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    some = _Numbers(device, dtype)
    packed, own = some(5, 2, queries, size), some.pair(5, 2, 32, size)
    last = torch.tensor([0, 3, 15, 16, 31], device=device)
    parts = [
        Partial(some(5, 2, queries, size), some(5, 2, queries, dtype=torch.float32))
        for _ in range(2)
    ]
    bias = hiding(torch.arange(32, device=device) > last[:, None, None, None], dtype)
    wanted = attend_by_products(packed, own, bias, size**-0.5)
    for part in parts:
        wanted = merge(part, wanted)
    return _agrees("own keys", dtype, lambda: fused.attend_to_own(packed, own, last, parts, size**-0.5),
                   wanted.out)  # fmt: skip


@cache
@torch.inference_mode()
def _attends_by_slot(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    """Three slots of as many seats as a board has, most of them empty: those name row 0."""
    some, seats = _Numbers(device, dtype), 32
    packed, kept = some(6, 2, queries, size), some.pair(3, 2, 40, size)
    places = torch.tensor([1, seats, 0, seats + 1, seats + 2, 2 * seats], device=device)
    members = torch.zeros(3 * seats, dtype=torch.long, device=device)
    members[places] = torch.arange(6, device=device)
    lengths = torch.tensor([1, 33, 40], device=device)
    bias = hiding(torch.arange(40, device=device) >= lengths[:, None, None, None], dtype)
    wanted = attend_by_slot(packed, kept, Seats(members, places), bias, size**-0.5)
    asked = (packed, kept, members, places, lengths, size**-0.5)
    return _agrees("slots", dtype, lambda: fused.attend_by_slot(*asked), wanted)


@cache
@torch.inference_mode()
def _attends_to_prefix(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    some = _Numbers(device, dtype)
    packed, prefix = some(70, 2, queries, size), some.pair(1, 2, 160, size)
    hidden = torch.arange(160, device=device) >= 131
    wanted = attend_together(packed, prefix, hiding(hidden[None, None, None], dtype), size**-0.5)
    starts, ends = torch.tensor([[0, 70], [0, 131]], dtype=torch.int32, device=device)
    asked = (packed, prefix, (starts, ends), size**-0.5)
    return _agrees("the prefix", dtype, lambda: fused.attend_to_prefix(*asked), wanted)


@cache
@torch.inference_mode()
def _turns(device: torch.device, dtype: torch.dtype, size: int, queries: int, keys: int) -> bool:
    some = _Numbers(device, dtype)
    mixed, angles = some(3, queries + 2 * keys, size), some(3, size)
    cos, sin = angles.cos(), angles.sin()
    own, last = some.pair(3, keys, 9, size), torch.tensor([0, 8, 4], device=device)
    before = [kept.clone() for kept in own]
    wide = mixed.float()
    first, second = wide.chunk(2, -1)
    wanted = wide * cos[:, None] + torch.cat([second, first], -1) * sin[:, None]
    wanted[:, queries + keys :] = wide[:, queries + keys :]
    found = _tried("turning", lambda: fused.turn_and_keep(mixed, (cos, sin), last, own))
    if found is None:
        return False
    rows = torch.arange(3, device=device)
    told = torch.cat([found, own.keys[rows, :, last], own.values[rows, :, last]], 1)
    for kept, old in zip(own, before, strict=True):
        kept[rows, :, last] = old[rows, :, last]
    alone = all(torch.equal(kept, old) for kept, old in zip(own, before, strict=True))
    return alone and _near("turning", dtype, told, wanted)


@cache
@torch.inference_mode()
def _gates(device: torch.device, dtype: torch.dtype) -> bool:
    both = _Numbers(device, dtype)(3, 1, 3000) / 2
    gate, up = both.float().chunk(2, -1)
    return _agrees("gates", dtype, lambda: fused.gated(both), silu(gate) * up)


@cache
@torch.inference_mode()
def _chooses(device: torch.device) -> bool:
    """Of chances that are powers of two, sums are exact."""
    chances = torch.full((3, 10_000), -torch.inf, device=device)
    chances[:, [3, 5000, 9999]] = torch.tensor([0.5, 0.25, 0.25], device=device).log()
    u = torch.tensor([0.1, 0.6, 0.9], device=device)
    found = _tried("choice", lambda: fused.choose_among_all(chances, u, 1.0))
    return found is not None and found.tolist() == [3, 5000, 9999]


def _agrees(
    name: str, dtype: torch.dtype, kernel: Callable[[], Tensor | Partial], wanted: Tensor | Partial
) -> bool:
    """Whether a kernel gives what is wanted of inputs of this dtype, a log-sum-exp too where there is one."""
    found = _tried(name, kernel)
    if found is None:
        return False
    if isinstance(found, Tensor) or isinstance(wanted, Tensor):
        assert isinstance(found, Tensor)
        assert isinstance(wanted, Tensor)
        return _near(name, dtype, found, wanted)
    return all(_near(name, dtype, one, other) for one, other in zip(found, wanted, strict=True))


def _near(name: str, dtype: torch.dtype, found: Tensor, wanted: Tensor) -> bool:
    off = (found.float() - wanted.float()).abs().max().item()
    if not off <= _OFF.get(dtype, _OFF_ROUNDED):
        _log.info("the kernel of %s is off by %g", name, off)
        return False
    return True


def _tried(name: str, kernel: Callable[[], _Found]) -> _Found | None:
    try:
        return kernel()
    # Triton needs a compiler of C, and more; its errors have no common ancestor but this.
    except Exception as problem:  # noqa: BLE001
        _log.info("no kernel for %s: %s", name, problem)
        return None
