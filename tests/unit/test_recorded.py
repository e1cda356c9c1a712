"""Passes of one size for pieces of any: padding behind a piece changes nothing of what it says and teaches."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from selfimprove.training import causal_products
from selfimprove.training.likelihood import log_likelihood
from selfimprove.training.packed_rows import MOST_TOKENS, table_of
from selfimprove.training.pass_sizes import Size
from selfimprove.training.pieces import Group, Limits
from selfimprove.training.recorded import Passes, Read
from selfimprove.training.tokens import TokenisedExample

_CPU = torch.device("cpu")


def _row(length: int, prompt: int, start: int) -> TokenisedExample:
    return TokenisedExample(tuple(2 + (start + 7 * i) % 48 for i in range(length)), prompt)


_ALONE = [Group((_row(n, 3, n),), 0) for n in (9, 8, 4)]
_SHARED = Group(
    tuple(TokenisedExample((*_row(6, 6, 3).ids, 7 + i, *range(20, 22 + i)), 7) for i in range(3)), 6
)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    made: Any = LlamaForCausalLM(config)
    causal_products.use_in(made)
    return made


def _read(model: Any, read: Read) -> torch.Tensor:
    states = model.model(input_ids=read.ids, attention_mask=read.table,
                         position_ids=read.positions, use_cache=False).last_hidden_state  # fmt: skip
    return log_likelihood(model.lm_head(states[0].index_select(0, read.scored)), read.targets)


@pytest.mark.parametrize("groups", [_ALONE, [*_ALONE, _SHARED]], ids=["alone", "sharing"])
def test_padding_says_and_teaches_nothing(model: Any, groups: list[Group]) -> None:
    piece = Limits(1_000, share=True, packed=MOST_TOKENS).piece(groups)
    found = []
    passes = Passes(partial(_read, model), _CPU)
    for padded in (False, True, True, True):
        model.zero_grad()
        if padded:
            said = passes.told(piece)
        else:
            said = _read(model, Read(piece["input_ids"], piece["position_ids"], table_of(piece["spans"]),
                                     piece["scored"], piece["targets"]))  # fmt: skip
        (said * torch.arange(len(said))).sum().backward()
        found.append([said.detach(), *(p.grad.clone() for p in model.parameters())])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two)


def test_sizes_are_few_and_waste_little() -> None:
    sizes = {Size.of([((0, n), (0, 0))], n // 2) for n in range(1000, 8000)}
    assert len({size.tokens for size in sizes}) == 13
    assert len({size[:2] for size in sizes}) < 30
    for n in range(1, 5000):
        tokens = Size.of([((0, n), (0, 0))], 1).tokens
        assert n < tokens <= 8 + 1.27 * n


def test_keys_of_a_shared_prefix_count_once_for_every_row() -> None:
    alone = Size.of([((0, 40), (0, 0)), ((40, 50), (0, 0))], 9)
    shared = Size.of([((0, 40), (0, 0)), ((40, 50), (0, 40))], 9)
    assert (alone.keys, alone.longest) == (0, (512, 512))
    assert shared.keys >= 40 + 50 + (shared.tokens - 50)
    assert shared.longest[1] >= 50


def test_what_fills_a_pass_up_is_no_longer_than_its_longest_row() -> None:
    """31 groups of eight rows: the keys left over are those of many short rows, not of one long one."""
    spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
    place = 0
    for _ in range(31):
        prefix = (place, place + 120)
        spans.append((prefix, (0, 0)))
        place += 120
        for _ in range(8):
            spans.append(((place, place + 50), prefix))
            place += 50
    size = Size.of(spans, 12_000)
    tokens, keys = place, 31 * (120 + 8 * 170)
    padding = size.padding(tokens, keys)
    assert size.longest == (512, 512)
    assert sum(own for own, _ in padding) == size.tokens - tokens
    assert sum(seen for _, seen in padding) == size.keys - keys
    assert all(0 < own <= 512 and own <= seen <= 512 for own, seen in padding)
    assert len(spans) + len(padding) <= size.rows == 512
