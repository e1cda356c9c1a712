"""Attention by plain products in training: outputs and gradients are those of the fused kernel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from selfimprove.training.causal_products import _attention, use_in

_ROWS, _HEADS, _GROUPS, _SIZE = 2, 6, 3, 8
_MODULE: Any = SimpleNamespace(
    is_causal=True, num_key_value_groups=_HEADS // _GROUPS, training=True
)


def _inputs(queries: int, keys: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(_HEADS, queries), (_GROUPS, keys), (_GROUPS, keys)]
    return [
        torch.randn(_ROWS, heads, length, _SIZE, dtype=torch.float64, requires_grad=True)
        for heads, length in shapes
    ]


def _seen(queries: int, keys: int) -> torch.Tensor:
    """A cached prefix of which the second row has two tokens fewer, then causal."""
    seen = torch.ones(_ROWS, 1, queries, keys, dtype=torch.bool).tril(keys - queries)
    seen[1, :, :, keys - queries - 2 : keys - queries] = False
    return seen


@pytest.mark.parametrize(
    ("queries", "keys", "mask"),
    [(5, 5, None), (4, 9, _seen(4, 9)), (5, 5, _seen(5, 9)[..., 4:])],
    ids=["causal", "behind-a-prefix", "masked"],
)
def test_outputs_and_gradients_are_those_of_the_fused_kernel(queries, keys, mask):
    found = []
    for attention in (_attention, sdpa_attention_forward):
        inputs = _inputs(queries, keys)
        query, key, value = inputs
        out, _ = attention(_MODULE, query, key, value, mask, scaling=0.3, dropout=0.0)
        weights = torch.arange(out.numel(), dtype=torch.float64).view(out.shape)
        (out * weights).sum().backward()
        found.append([out, *(tensor.grad for tensor in inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_on_the_left_that_sees_no_key_spoils_no_token_behind_it(dtype):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).to(dtype)
    use_in(model)
    ids = torch.tensor([[7, 8, 9, 10]])
    alone = model(input_ids=ids, use_cache=False).logits
    padded = model(
        input_ids=torch.tensor([[0, 0, *ids[0]]]),
        attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1]]),
        position_ids=torch.tensor([[0, 0, 0, 1, 2, 3]]),
        use_cache=False,
    ).logits[:, 2:]
    off = {torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    torch.testing.assert_close(padded, alone, atol=off, rtol=off)
    padded.float().square().sum().backward()
    assert all(weights.grad.isfinite().all() for weights in model.parameters())


def test_dropout_is_left_to_the_fused_kernel():
    query, key, value = _inputs(6, 6)
    outs = [_attention(_MODULE, query, key, value, None, dropout=0.5)[0] for _ in range(2)]
    assert not torch.equal(outs[0], outs[1])


def test_a_layer_that_sees_both_ways_still_does():
    both_ways: Any = SimpleNamespace(is_causal=False, num_key_value_groups=_HEADS // _GROUPS)
    query, key, value = _inputs(5, 5)
    ours, theirs = (
        attention(both_ways, query, key, value, None, scaling=0.3, dropout=0.0)[0]
        for attention in (_attention, sdpa_attention_forward)
    )
    torch.testing.assert_close(ours, theirs)
