"""Rows end to end: each is computed as by itself, and where that cannot be, rows are padded."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BloomConfig,
    DeepseekV2Config,
    DeepseekV3Config,
    FalconConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from selfimprove.training.causal_products import use_in
from selfimprove.training.packed_rows import MOST_TOKENS, _batches, attend, table_of
from selfimprove.training.pieces import Group, Limits
from selfimprove.training.support import may_pack
from selfimprove.training.tokens import TokenisedExample

_NONE = (0, 0)
_SIZES = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": 1,
}  # fmt: skip
_GROUPED: Any = {**_SIZES, "num_key_value_heads": 2}
_PLAIN: Any = _SIZES
# Queries and keys of 12 numbers, values of 8.
_LATENT: Any = {
    **_SIZES,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 2,
}
_KINDS = {
    "llama": LlamaConfig(**_GROUPED),
    "qwen2": Qwen2Config(**_GROUPED),
    "qwen3": Qwen3Config(**_GROUPED, head_dim=8),
    "mistral": MistralConfig(**_GROUPED, sliding_window=None),
    "gemma": GemmaConfig(**_GROUPED, head_dim=8),
    "phi3": Phi3Config(**_GROUPED),
    "olmo2": Olmo2Config(**_GROUPED),
    "smollm3": SmolLM3Config(**_GROUPED),
    "gpt-neox": GPTNeoXConfig(**_PLAIN),
    "gpt2": GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=1,
    ),
    "deepseek-v2": DeepseekV2Config(**_LATENT),
    "deepseek-v3": DeepseekV3Config(**_LATENT),
    "opt": OPTConfig(
        vocab_size=50, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        init_std=0.3, dropout=0.0, word_embed_proj_dim=32,
    ),
}  # fmt: skip


def _model(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32).train()


def _row(length: int, prompt: int, start: int) -> TokenisedExample:
    return TokenisedExample(tuple(2 + (start + 7 * i) % 48 for i in range(length)), prompt)


_LONE = [_row(9, 4, 1), _row(8, 3, 2), _row(3, 1, 5)]
_SHARED = [
    TokenisedExample((*_row(6, 6, 3).ids, 7, 8 + i, *range(20, 21 + 3 * i)), 7) for i in range(3)
]


def _seen(table: torch.Tensor) -> torch.Tensor:
    """Return the same as a mask of every pair, (1, 1, tokens, tokens)."""
    rows = table[0, 0].tolist()
    mask = torch.zeros(rows[-1][1], rows[-1][1], dtype=torch.bool)
    for first, last, prefix, end in rows:
        mask[first:last, prefix:end] = True
        mask[first:last, first:last] = mask.new_ones(last - first, last - first).tril()
    return mask[None, None]


def _learned(model: Any, piece: dict[str, Any], *, half: bool = False) -> list[torch.Tensor]:
    """Return the loss of every scored token, sorted, and the gradients of their sum."""
    model.zero_grad()
    context: dict[str, torch.Tensor] = {}
    if "spans" in piece:
        table = table_of(piece["spans"])
        context = {"attention_mask": table, "position_ids": piece["position_ids"]}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model(input_ids=piece["input_ids"], use_cache=False, **context).logits.float()
    scored = logits.flatten(0, 1)[piece["scored"]]
    losses = cross_entropy(scored, piece["targets"], reduction="none")
    losses.sum().backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return [losses.detach().sort().values, *grads]


_GROUPS = [*(Group((row,), 0) for row in _LONE), Group(tuple(_SHARED), 6)]
_PACKED = Limits(1_000, share=True, packed=MOST_TOKENS).piece(_GROUPS)
_PADDED = Limits(1_000, share=False).piece([Group((*_LONE, *_SHARED), 0)])


def _agree(model: Any) -> None:
    """Compare rows end to end with padded ones, which transformers' own attention reads."""
    theirs = _learned(model, _PADDED)
    use_in(model)
    ours = _learned(model, _PACKED)
    assert len(ours) > 2
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", _KINDS)
def test_losses_and_gradients_are_those_of_padded_rows(kind):
    model = _model(_KINDS[kind])
    assert may_pack(model, torch.float32, drops=False)
    assert model.config._attn_implementation == "sdpa"
    _agree(model)


def test_adapters_learn_the_same_too():
    adapters = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(_model(_KINDS["llama"]), adapters)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.fill_(0.1)
    assert may_pack(model, torch.float32, drops=False)
    assert model.config._attn_implementation == "sdpa"
    _agree(model)


@pytest.mark.parametrize("kind", ["llama", "deepseek-v3"])
def test_layers_that_are_computed_twice_in_bfloat16_learn_the_same(kind):
    model = _model(_KINDS[kind])
    exact = torch.cat([x.flatten() for x in _learned(model, _PADDED)])
    theirs = torch.cat([x.flatten() for x in _learned(model, _PADDED, half=True)])
    use_in(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    ours = torch.cat([x.flatten() for x in _learned(model, _PACKED, half=True)])
    # No further from the truth than padded rows in the same precision.
    assert 0 < (ours - exact).norm() < 1.5 * (theirs - exact).norm()


def test_rows_are_padded_where_attention_learns_with_dropout():
    drops, elsewhere = (
        GPT2Config(
            vocab_size=50,
            n_embd=32,
            n_layer=2,
            n_head=4,
            attn_pdrop=rate,
            bos_token_id=1,
            eos_token_id=1,
        )
        for rate in (0.1, 0.0)
    )
    assert elsewhere.resid_pdrop > 0
    assert may_pack(_model(elsewhere), torch.float32, drops=True)
    assert may_pack(_model(drops), torch.float32, drops=False)
    assert not may_pack(_model(drops), torch.float32, drops=True)
    assert not may_pack(
        _model(LlamaConfig(**_GROUPED, attention_dropout=0.5)), torch.float32, drops=True
    )


def test_asking_leaves_a_model_and_the_random_numbers_as_they_were():
    model = _model(LlamaConfig(**_GROUPED, attention_dropout=0.5)).eval()
    before = torch.get_rng_state()
    assert not may_pack(model, torch.float32, drops=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.config._attn_implementation == "sdpa"
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**_GROUPED, sliding_window=4),
        BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4),
        FalconConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
        BartConfig(
            vocab_size=50,
            d_model=32,
            decoder_layers=2,
            decoder_attention_heads=4,
            decoder_ffn_dim=48,
            dropout=0.0,
            is_decoder=True,
            is_encoder_decoder=False,
        ),
        LlamaConfig(**{**_GROUPED, "attn_implementation": "eager"}),
    ],
    ids=[
        "sliding-window",
        "positions-by-bias",
        "attention-of-its-own",
        "positions-not-told",
        "other-attention",
    ],
)
def test_rows_are_padded_where_a_model_could_not_tell_them_apart(config):
    assert not may_pack(_model(config), torch.float32, drops=False)


def test_attention_and_its_gradient_are_the_fused_kernels():
    spans = [((0, 6), _NONE), ((6, 9), (0, 6)), ((9, 13), (0, 6)), ((13, 20), _NONE),
             ((20, 27), _NONE), ((27, 33), _NONE), ((33, 35), _NONE)]  # fmt: skip
    table = table_of(spans)
    found = []
    for ours in (True, False):
        torch.manual_seed(0)
        inputs = [
            torch.randn(1, 35, heads, 8, dtype=torch.float64, requires_grad=True)
            for heads in (6, 3, 3)
        ]
        q, k, v = (x.transpose(1, 2) for x in inputs)
        if ours:
            out = attend(q, k, v, table, 0.3)
        else:
            module: Any = SimpleNamespace(is_causal=True, num_key_value_groups=2)
            out, _ = sdpa_attention_forward(module, q, k, v, _seen(table), scaling=0.3)
        weights = torch.arange(out.numel(), dtype=torch.float64).view(out.shape).sin()
        (out * weights).sum().backward()
        found.append([out, *(x.grad for x in inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_the_table_alone_decides_is_made_once_for_all_layers_and_their_gradient():
    model = _model(_KINDS["llama"])
    use_in(model)
    _batches.cache_clear()
    _learned(model, _PACKED)
    assert _batches.cache_info().misses == 1
    assert _batches.cache_info().hits == model.config.num_hidden_layers - 1


def test_what_hides_later_tokens_is_rounded_once_for_all_layers():
    (batch,) = _batches(((0, 3, 0, 0),))
    rounded = batch.bias(torch.bfloat16)
    assert rounded is batch.bias(torch.bfloat16)
    assert rounded[0, 0].exp().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert batch.bias(torch.float32).dtype == torch.float32


def test_a_row_sees_its_prefix_and_itself():
    mask = _seen(table_of([((0, 2), _NONE), ((2, 4), (0, 2)), ((4, 5), (0, 2))]))
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_no_position_is_computed_but_for_the_tokens_and_each_prefix_once():
    assert _PACKED["input_ids"].shape == (1, 20 + 6 + 3 + 6 + 9)
    assert _PACKED["position_ids"][0, -9:].tolist() == list(range(6, 15))


def test_a_pass_is_filled_up_and_a_group_that_is_too_large_for_it_is_cut():
    limits = Limits(12, share=True, packed=MOST_TOKENS)
    groups = [Group((row,), 0) for row in _LONE]
    assert limits.chunks(groups) == [[2, 1], [0]]
    parts = limits.cut(Group(tuple(_SHARED), 6))
    # One row alone shares nothing: its prefix is read with it.
    assert [(len(part.rows), part.shared, part.tokens) for part in parts] == [
        (1, 0, 9), (1, 0, 12), (1, 0, 15),
    ]  # fmt: skip
    parts = Limits(15, share=True, packed=MOST_TOKENS).cut(Group(tuple(_SHARED), 6))
    assert [(len(part.rows), part.shared, part.tokens) for part in parts] == [
        (2, 6, 15), (1, 0, 15),
    ]  # fmt: skip


def test_rows_whose_probabilities_would_fill_the_memory_are_padded():
    long, short = Group((_row(MOST_TOKENS + 1, 3, 0),), 0), Group((_row(9, 3, 0),), 0)
    limits = Limits(10_000, share=False, packed=MOST_TOKENS)
    assert limits.chunks([long, short]) == [[0], [1]]
    assert "spans" not in limits.piece([long])
    assert "spans" in limits.piece([short])
