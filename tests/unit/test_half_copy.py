"""The rounded copy that computes: gradients arrive in float32, frozen weights are the same ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.counted import Counted
from torch import nn

from selfimprove.training.half_copy import HalfCopy


def _model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


def test_a_step_below_the_precision_of_the_copy_is_kept_by_the_weights():
    model = _model()
    weight = model[0].weight
    nn.init.ones_(weight)
    half = HalfCopy(model)
    adds = torch.optim.SGD([weight], lr=1.0)
    half.follow(adds)
    weight.grad = torch.full_like(weight, -1e-4)  # bfloat16 has 1.0, then 1.0078125
    adds.step()
    assert torch.equal(half.refresh()[0].weight.float(), torch.ones(4, 3))
    assert torch.all(weight > 1.0)
    weight.grad.fill_(-7e-3)
    adds.step()
    assert torch.equal(half.refresh()[0].weight.float(), torch.full((4, 3), 1.0078125))


def _rounded(half: HalfCopy) -> bool:
    """Whether weights are rounded once for two passes, and are then those of the model."""
    with Counted() as counted:
        half.refresh()
        found = half.refresh().state_dict()
    for name, weights in half._of.state_dict().items():
        assert torch.equal(found[name], weights.to(torch.bfloat16))
    assert counted.calls.keys() <= {"aten._foreach_copy_.default", "aten.detach.default"}
    assert counted.calls["aten._foreach_copy_.default"] <= 1
    return "aten._foreach_copy_.default" in counted.calls


@pytest.mark.parametrize("fused", [False, True])
def test_weights_are_rounded_once_behind_a_step_or_a_checkpoint(fused):
    model = _model()
    half = HalfCopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    half.follow(optimizer)
    assert not _rounded(half)  # they are from the start
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    half.refresh()(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    assert _rounded(half)
    assert not torch.equal(half.model[0].weight.float(), before["0.weight"])
    assert not _rounded(half)
    model.load_state_dict({"0.weight": before["0.weight"]}, strict=False)
    assert _rounded(half)


def test_a_copy_of_the_model_takes_nothing_that_computes_with_it():
    model = _model()
    half = HalfCopy(model)
    copied: dict[int, Any] = {}
    copy.deepcopy(model, copied)
    assert id(model[0].weight) in copied
    assert not {id(half), id(half.model)} & copied.keys()


def test_gradients_of_two_passes_are_added_up_in_float32():
    model = _model()
    half = HalfCopy(model)
    model[2].bias.data.zero_()
    for scale in (1.0, 2.0**-10):  # in bfloat16, the second would vanish beside the first
        half.refresh()(torch.zeros(1, 3, dtype=torch.bfloat16)).sum().mul(scale).backward()
    assert model[2].bias.grad is not None
    assert model[2].bias.grad.dtype == torch.float32
    assert model[2].bias.grad.tolist() == [1 + 2.0**-10] * 2
    assert all(p.grad is None for p in half.model.parameters())


def test_the_copy_follows_the_mode_and_shares_what_is_frozen():
    model = _model()
    model[0].requires_grad_(False)
    half = HalfCopy(model)
    assert half.model[0].weight is model[0].weight
    model.eval()
    assert not half.refresh()[1].training
    model.train()
    assert half.refresh()[1].training


@pytest.mark.parametrize("shape", [(300, 300), (70_000,), (2, 200, 200)])
def test_gradients_of_large_weights_are_added_up_to_the_last_number(shape):
    model: Any = nn.ParameterList([torch.zeros(shape)])
    half = HalfCopy(model)
    factors = torch.arange(model[0].numel()).remainder(97).view(shape)
    for scale in (1.0, 2.0**-10):
        (half.refresh()[0] * factors * scale).sum().backward()
    assert torch.equal(model[0].grad, factors * (1 + 2.0**-10))


def test_elsewhere_than_on_a_cpu_gradients_are_added_up_at_once():
    model: Any = nn.ParameterList([torch.zeros(300, 300, device="meta")])
    half = HalfCopy(model)
    with Counted() as counted:
        for _ in range(2):
            half.refresh()[0].sum().backward()
    assert counted.calls["aten.add_.Tensor"] == 1
