"""What a training step computes in its own way: outputs and gradients are those of the plain formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.counted import Counted
from torch.nn.functional import cross_entropy
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from selfimprove.training import gates, norms
from selfimprove.training.few_rows import few_rows
from selfimprove.training.likelihood import log_likelihood

_SIZES: Any = {
    "vocab_size": 20, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
}  # fmt: skip


def _learned(compute: Any, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return what comes out, and the gradients of its weighted sum."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = compute(*leaves)
    weights = torch.arange(out.numel(), dtype=torch.float32).view(out.shape).sin()
    (out.float() * weights).sum().backward()
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


@pytest.mark.parametrize("rows", [3, 9_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_and_its_gradient_are_transformers_own(rows, dtype):
    torch.manual_seed(0)
    states, weight = torch.randn(2, rows, 8), torch.randn(8)
    theirs = LlamaRMSNorm(8).to(dtype)
    ours = norms.RootMeanSquare(theirs)

    def through(norm: Any) -> Any:
        return lambda x, w: torch.func.functional_call(norm, {"weight": w}, (x,))

    inputs = states.to(dtype), weight.to(dtype)
    exact = _learned(through(LlamaRMSNorm(8)), *(x.float() for x in inputs))
    found = _learned(through(ours), *inputs)
    usual = _learned(through(theirs), *inputs)
    for one, other, truth in zip(found, usual, exact, strict=True):
        assert one.dtype == dtype
        # No further from the truth than what transformers computes in the same precision.
        off, allowed = ((x.float() - truth).abs().max() for x in (one, other))
        assert off <= 1.5 * allowed + 1e-5 * truth.abs().max()


def test_a_frozen_norm_passes_the_same_gradient_on_and_computes_none_of_its_own():
    norm = norms.RootMeanSquare(LlamaRMSNorm(8))
    found = []
    for learns in (True, False):
        norm.weight.requires_grad_(learns)
        states = torch.linspace(-1, 2, 24).view(3, 8).requires_grad_()
        loss = norm(states).square().sum()
        with Counted() as counted:
            loss.backward()
        found.append(states.grad)
        assert counted.calls["aten.sum.dim_IntList"] == learns
    torch.testing.assert_close(*found)


def test_a_part_has_as_many_rows_as_numbers_allow():
    matrix, totals = torch.zeros(5, 2), torch.arange(5)
    assert [len(part) for part, _ in few_rows(6, matrix, totals)] == [3, 2]
    assert [total.tolist() for _, total in few_rows(1, matrix, totals)] == [[0], [1], [2], [3], [4]]
    assert [len(part) for (part,) in few_rows(4, torch.zeros(10))] == [4, 4, 2]
    assert [len(part) for (part,) in few_rows(4, torch.zeros(0, 2))] == [0]


def test_states_are_left_as_they_were():
    states = torch.randn(4, 8)
    before = states.clone()
    norms.RootMeanSquare(LlamaRMSNorm(8))(states)
    assert torch.equal(states, before)


def test_the_norms_of_a_model_are_replaced_with_weights_and_names_as_they_were():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**_SIZES))
    ids = torch.tensor([[1, 2, 3]])
    before, names = model(ids).logits, list(model.state_dict())
    norms.use_in(model)
    assert sum(isinstance(m, norms.RootMeanSquare) for m in model.modules()) == 5
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(ids).logits, before)


def test_a_norm_of_another_formula_stays():
    model = GemmaForCausalLM(GemmaConfig(**_SIZES))  # its scale is 1 + weight
    norms.use_in(model)
    assert not any(isinstance(m, norms.RootMeanSquare) for m in model.modules())


@pytest.mark.usefixtures("kernels")
def test_the_gated_layers_of_a_model_are_replaced_where_there_are_kernels():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**_SIZES, "intermediate_size": 64}))
    ids = torch.tensor([[1, 2, 3]])
    before, names = model(ids, labels=ids), list(model.state_dict())
    before.loss.backward()
    learned = [p.grad for p in model.parameters()]
    model.zero_grad()
    gates.use_in(model)
    assert sum(isinstance(m, gates.GatedLayer) for m in model.modules()) == 2
    assert list(model.state_dict()) == names
    after = model(ids, labels=ids)
    after.loss.backward()
    torch.testing.assert_close(after.logits, before.logits)
    torch.testing.assert_close([p.grad for p in model.parameters()], learned)


def test_a_layer_gated_by_another_function_stays():
    model = GemmaForCausalLM(GemmaConfig(**{**_SIZES, "intermediate_size": 64}))
    gates.use_in(model)
    assert not any(isinstance(m, gates.GatedLayer) for m in model.modules())


@pytest.mark.parametrize(("tokens", "words"), [(5, 7), (3, 300_000), (700, 500)])
def test_log_likelihood_and_its_gradient_are_those_of_cross_entropy(tokens, words):
    torch.manual_seed(0)
    logits, targets = 3 * torch.randn(tokens, words), torch.randint(0, words, (tokens,))
    ours = _learned(lambda x: log_likelihood(x, targets), logits)
    theirs = _learned(lambda x: -cross_entropy(x, targets, reduction="none"), logits)
    for one, other in zip(ours, theirs, strict=True):
        # Sums of so many words in float32, which processors add up in orders of their own.
        torch.testing.assert_close(one, other, rtol=5e-6, atol=1e-6)


def test_log_likelihood_of_rounded_logits_is_computed_in_float32():
    logits = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.bfloat16)
    said = log_likelihood(logits, torch.tensor([1]))
    assert said.dtype == torch.float32
    assert said.item() == pytest.approx(2 - 4.169846, abs=1e-6)  # ln(e + e^2 + e^4)
