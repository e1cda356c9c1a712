"""The lean pass of the Llama family computes what transformers' own code computes."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from tests.families import MODELS, random_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from selfimprove.sampling import forward, support
from selfimprove.sampling.arithmetic import cpu_bfloat16
from selfimprove.sampling.attention import whole_vectors
from selfimprove.sampling.cascade import CascadeLanes
from selfimprove.sampling.forward import (
    Forward,
    LlamaForward,
    TransformersForward,
    lean_forward,
)
from selfimprove.sampling.packed import PackedLinear
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.support import fast_lanes
from selfimprove.training import norms

_PREFIX, _TAILS, _NEXT = (7, 3, 9), ((4, 8), (11, 2, 5)), (6, 1)


@torch.inference_mode()
def _in_lanes(model: Any, forward: Forward) -> torch.Tensor:
    """Logits [prompts, steps, vocabulary] behind both prompts and the two tokens after them."""
    lanes = CascadeLanes(model, forward, _PREFIX, room=2, longest=3, new=2)
    lanes.prefill([Encoded(str(i), (*_PREFIX, *tail)) for i, tail in enumerate(_TAILS)])
    found = [lanes.fork([0, 1], [0, 1])]
    found += [lanes.step(torch.tensor([token, token])) for token in _NEXT]
    return torch.stack(found, 1)


@torch.inference_mode()
def _plain(model: Any) -> torch.Tensor:
    rows = [torch.tensor([[*_PREFIX, *tail, *_NEXT]]) for tail in _TAILS]
    return torch.stack([model(ids).logits[0, -3:] for ids in rows])


@pytest.mark.parametrize("kind", MODELS)
def test_logits_in_the_lanes_are_those_of_a_plain_pass(kind: str) -> None:
    model = random_model(kind)
    wanted = _plain(model)
    lean = lean_forward(model)
    assert lean is not None
    assert wanted.std() > 0.5  # so that equality says something
    torch.testing.assert_close(_in_lanes(model, lean), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        _in_lanes(model, TransformersForward(model)), wanted, atol=1e-4, rtol=1e-4
    )


_NEEDS_AMX = pytest.mark.skipif(cpu_bfloat16() != "AMX", reason="this CPU has no AMX")


@_NEEDS_AMX
@pytest.mark.parametrize("kind", MODELS)
def test_weights_packed_for_amx_give_the_same_logits_by_either_code(kind: str) -> None:
    model = random_model(kind, vocab_size=50).to(torch.bfloat16)
    wanted = _plain(model)
    lean = lean_forward(model)
    assert lean is not None
    assert type(model.model.layers[1].mlp.down_proj) is PackedLinear
    # Eight bits of every number: logits of some units differ by hundredths.
    torch.testing.assert_close(_plain(model), wanted, atol=0.1, rtol=0.02)
    torch.testing.assert_close(_in_lanes(model, lean), wanted, atol=0.2, rtol=0.05)


@_NEEDS_AMX
def test_a_packed_linear_map_is_the_plain_one_with_what_follows() -> None:
    weight, bias = torch.tensor([[1.0, 2.0], [3.0, -4.0]]), torch.tensor([1.0, 0.0])
    packed = PackedLinear(weight.bfloat16(), bias.bfloat16())
    x, other = torch.tensor([[1.0, 1.0]]).bfloat16(), torch.tensor([[10.0, 100.0]]).bfloat16()
    assert packed(x).tolist() == [[4.0, -1.0]]  # 1 + 2 + 1, 3 - 4
    assert packed.times(x, other).tolist() == [[40.0, -100.0]]
    assert packed.plus(x, other).tolist() == [[14.0, 99.0]]
    assert packed.activated(x)[0].float().tolist() == pytest.approx([3.928, -0.2689], rel=0.01)


def test_the_lean_pass_holds_no_second_copy_of_joined_weights_and_spoils_none() -> None:
    model = random_model("llama, every bias, other rotations")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lean_forward(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    attention, mlp = model.model.layers[1].self_attn, model.model.layers[1].mlp
    for first, last, width in (
        (attention.q_proj, attention.v_proj, 32 + 16 + 16), (mlp.gate_proj, mlp.up_proj, 48 + 48),
    ):  # fmt: skip
        whole = first.weight.untyped_storage()
        assert whole.nbytes() == width * 32 * 4
        assert last.weight.untyped_storage().data_ptr() == whole.data_ptr()
        assert first.bias.untyped_storage().nbytes() == width * 4


def test_other_models_and_adapted_ones_run_by_their_own_code() -> None:
    class Adapted(nn.Linear):
        """As an adapter or a quantised layer is: another forward than a plain product."""

    assert lean_forward(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2))) is None
    model = random_model("llama")
    model.model.layers[1].mlp.up_proj = Adapted(32, 48, bias=False)
    assert lean_forward(model) is None


@torch.inference_mode()
def test_rows_that_moved_or_began_later_read_their_own_tokens_alone() -> None:
    model = random_model("llama")
    lanes = CascadeLanes(model, TransformersForward(model), _PREFIX, room=6, longest=3, new=3)
    lanes.prefill([Encoded(str(i), (*_PREFIX, *tail)) for i, tail in enumerate(_TAILS)])
    lanes.fork([0, 1, 0, 1, 0], [0, 1, 2, 3, 4])
    lanes.step(torch.arange(20, 25))
    lanes.retire([4], [1], 4)
    lanes.fork([1], [4])
    found = lanes.step(torch.arange(30, 35))
    lanes.retire([], [], 1)
    found = torch.cat([lanes.step(torch.tensor([40])), found[1:]])
    texts = [(0, 20, 30, 40), (0, 24, 31), (0, 22, 32), (1, 23, 33), (1, 34)]
    for row, (prompt, *own) in enumerate(texts):
        wanted = model(torch.tensor([[*_PREFIX, *_TAILS[prompt], *own]])).logits[0, -1]
        torch.testing.assert_close(found[row], wanted, atol=1e-4, rtol=1e-4)


def test_on_a_cpu_keys_are_padded_to_whole_vectors_of_sixteen() -> None:
    lengths, here = (0, 1, 16, 17, 395), torch.device("cpu")
    assert [whole_vectors(length, here) for length in lengths] == [0, 16, 16, 32, 400]
    assert [whole_vectors(length, torch.device("cuda")) for length in lengths] == [*lengths]


def test_a_plain_map_leaves_the_memory_when_it_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    class Packed(nn.Module):
        """Stands for a packed map on a processor without AMX; counts plain ones."""

        def __init__(self, weight: torch.Tensor, _bias: torch.Tensor | None) -> None:
            super().__init__()
            self.weight = nn.Parameter(weight.detach().clone())
            held.append(sum(map() is not None for map in maps))

        activated = times = plus = nn.Module.forward

    model = random_model("llama")
    maps = [weakref.ref(m) for m in model.modules() if type(m) is nn.Linear]
    monkeypatch.setattr(forward, "can_pack", lambda _: True)
    monkeypatch.setattr(forward, "PackedLinear", Packed)
    lean_forward(model)
    # The head; in each layer q, k and v, which stay as views of their joined weights, and four others.
    assert held == [15, 14, 14, 13, 12, 11, 10, 10, 9, 8, 7]


class _Wrong:
    """A lean pass that is not the model's."""

    def __init__(self, model: Any) -> None:
        self._right = TransformersForward(model)

    def __call__(self, *asked: Any) -> torch.Tensor:
        return self._right(*asked).flip(-1)


def test_where_the_lean_pass_is_not_exact_the_models_own_code_runs_the_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = random_model("llama")
    assert type(fast_lanes(model, 64, frozen=True).forward) is LlamaForward
    assert type(fast_lanes(model, 64, frozen=False).forward) is TransformersForward
    monkeypatch.setattr(support, "lean_forward", _Wrong)
    found = fast_lanes(model, 64, frozen=True)
    assert type(found.forward) is TransformersForward
    assert found.reach == 64


def test_lanes_are_held_against_the_weights_as_they_were_before_the_lean_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoil(model: Any) -> None:
        nn.init.zeros_(model.model.layers[0].mlp.up_proj.weight)

    monkeypatch.setattr(support, "lean_forward", spoil)
    assert fast_lanes(random_model("llama"), 64, frozen=True).reach == 0


def test_a_model_in_training_has_norms_that_the_lean_pass_reads() -> None:
    model = random_model("llama").eval()
    wanted = _in_lanes(model, TransformersForward(model))
    norms.use_in(model)
    assert any(isinstance(part, norms.RootMeanSquare) for part in model.modules())
    lean = lean_forward(model, frozen=False)
    assert lean is not None
    torch.testing.assert_close(_in_lanes(model, lean), wanted, rtol=1e-4, atol=1e-4)
