"""Training on a CUDA device against the same training as written out: run with `pytest -m gpu`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import read_preferences
from selfimprove.data.sources import Source
from selfimprove.sampling.arithmetic import Arithmetic
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.loading import load_tokenizer
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.shipped import folder
from selfimprove.training import _scalar_head, flash_rows, likelihood
from selfimprove.training.dpo import DpoConfig, train_dpo
from selfimprove.training.gap_reward import train_gap_reward
from selfimprove.training.norms import RootMeanSquare
from selfimprove.training.packed_rows import table_of
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.policy_gradient import train_policy
from selfimprove.training.recorded import Passes
from selfimprove.training.reward import train_reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.support import piece_limits
from selfimprove.training.tokens import tokenise
from selfimprove.training.training_config import LoraConfig
from selfimprove.types import Example, Message, Pair, Prompt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

_ANY: Any = AutoModelForCausalLM
_OURS: Any = flash_rows.attend
_USUAL: Any = sdpa_attention_forward
_NONE = (0, 0)
_ALONE = [((0, 40), _NONE), ((40, 41), _NONE), ((41, 300), _NONE)]
_SHARING = [((0, 64), _NONE), ((64, 90), (0, 64)), ((90, 97), (0, 64)), ((97, 300), _NONE)]
_PREFERENCES = list(read_preferences([Source(source="train", format="tiny", limit=64)], 0).rows)


@pytest.mark.parametrize("spans", [_ALONE, _SHARING], ids=["alone", "sharing"])
def test_rows_end_to_end_read_what_a_mask_of_every_pair_lets_them(spans: Any) -> None:
    """In bfloat16: output and gradients are as near those of float32 as the usual kernel's."""
    mask = torch.zeros(300, 300, dtype=torch.bool)
    for first, last, prefix, end in table_of(spans)[0, 0].tolist():
        mask[first:last, prefix:end] = True
        mask[first:last, first:last] = torch.ones(last - first, last - first).tril() > 0
    module: Any = SimpleNamespace(is_causal=True, num_key_value_groups=3)
    found = []
    for kind in ("ours", "usual", "exact"):
        torch.manual_seed(0)
        dtype = torch.float32 if kind == "exact" else torch.bfloat16
        states = [torch.randn(1, heads, 300, 64).cuda().to(torch.bfloat16) for heads in (9, 3, 3)]
        inputs = [x.to(dtype).requires_grad_() for x in states]
        if kind == "ours":
            out = _OURS(*inputs, table_of(spans), 0.125)
        else:
            out, _ = _USUAL(module, *inputs, mask[None, None].cuda(), scaling=0.125)
        weights = torch.arange(out.numel(), device="cuda").view(out.shape).sin()
        (out * weights).sum().backward()
        found.append([out.float(), *(x.grad.float() for x in inputs)])  # type: ignore[union-attr]
    for ours, usual, exact in zip(*found, strict=True):
        size = exact.norm()
        assert (ours - exact).norm() / size < 1.5 * (usual - exact).norm() / size + 1e-4


def test_rows_of_a_model_on_a_gpu_lie_end_to_end() -> None:
    config = LlamaConfig(vocab_size=100, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, bos_token_id=None,
                         eos_token_id=1)  # fmt: skip
    half, whole = Arithmetic("bfloat16", ""), Arithmetic("float32", "")
    limits = piece_limits(LlamaForCausalLM(config), SftConfig(), half, drops=True)
    assert (limits.packed, limits.share) == (math.inf, True)
    assert piece_limits(LlamaForCausalLM(config), SftConfig(), whole, drops=True).packed == 0


def test_norms_and_likelihoods_are_those_of_the_usual_functions(monkeypatch: Any) -> None:
    torch.manual_seed(0)
    states = torch.randn(50, 96, device="cuda", requires_grad=True)
    weight = torch.rand(96, device="cuda", requires_grad=True)
    ours = RootMeanSquare(SimpleNamespace(weight=torch.nn.Parameter(weight), variance_epsilon=1e-5, training=True))  # fmt: skip
    wanted = weight * states / (states.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(ours(states), wanted, rtol=1e-5, atol=1e-5)
    monkeypatch.setitem(likelihood._AT_ONCE, "cuda", 7 * 96)
    targets = torch.arange(50, device="cuda")
    said = likelihood.log_likelihood(states, targets)
    torch.testing.assert_close(said, -cross_entropy(states, targets, reduction="none"))
    (said * targets).sum().backward()
    found, states.grad = states.grad, None
    (-cross_entropy(states, targets, reduction="none") * targets).sum().backward()
    torch.testing.assert_close(found, states.grad)


def _examples() -> list[Example]:
    return [Example((p.prompt[0],), p.chosen) for p in _PREFERENCES]


def _loss_by_hand(examples: Sequence[Example]) -> float:
    """Return the mean over the tokens of all completions, in float32, one row at a time."""
    tokenizer, losses = load_tokenizer(folder()), []
    model = _ANY.from_pretrained(folder(), dtype=torch.float32).cuda()
    for row in tokenise(examples, tokenizer, [tokenizer.eos_token_id], 512).rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.ids]).cuda()).logits[0, row.prompt_tokens - 1 : -1]
        targets = torch.tensor(row.ids[row.prompt_tokens :]).cuda()
        losses += cross_entropy(logits.float(), targets, reduction="none").tolist()
    return fmean(losses)


def test_recorded_passes_teach_what_passes_as_written_do(tmp_path: Path, monkeypatch: Any) -> None:
    """In bfloat16, step by step: the same losses up to rounding, and none is given up."""
    config = SftConfig(learning_rate=1e-4, batch_size=8, max_steps=24, dtype="bfloat16")
    losses, usual = [], Passes.told
    for records in (True, False):
        ran: list[bool] = []

        def spied(self: Any, piece: Any, records: bool = records, ran: list[bool] = ran) -> Any:
            self._recorder.records = self._recorder.records and records
            out = usual(self, piece)
            ran.append(bool(self._recorded))
            return out

        monkeypatch.setattr(Passes, "told", spied)
        told = train_sft(folder(), _examples(), config, out=tmp_path / f"{records}" / "model", seed=0,
                         checkpoints=tmp_path / f"{records}" / "checkpoints")  # fmt: skip
        monkeypatch.setattr(Passes, "told", usual)
        assert ran
        assert ran[-1] == records
        losses.append((told.first_loss, told.final_loss))
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.parametrize("lora", [None, LoraConfig(r=4)], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_supervised_fine_tuning(tmp_path: Path, dtype: Any, lora: Any) -> None:
    config = SftConfig(learning_rate=1e-3, batch_size=64, max_steps=10, dtype=dtype, lora=lora)
    told = train_sft(folder(), _examples(), config, out=tmp_path / "model", seed=0,
                     checkpoints=tmp_path / "checkpoints")  # fmt: skip
    wanted = _loss_by_hand(_examples())
    assert told.first_loss == pytest.approx(wanted, rel=1e-4 if dtype == "float32" else 0.02)
    assert told.final_loss < told.first_loss


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_direct_preference_optimisation(tmp_path: Path, dtype: Any) -> None:
    pairs = [Pair(p.prompt, p.chosen, p.rejected) for p in _PREFERENCES if p.chosen != p.rejected]
    config = DpoConfig(learning_rate=1e-4, batch_size=16, max_steps=12, dtype=dtype)
    told = train_dpo(folder(), pairs, config, out=tmp_path / "model", seed=0,
                     checkpoints=tmp_path / "checkpoints")  # fmt: skip
    # A policy is no distance from itself, however it is rounded.
    assert told.first_loss == pytest.approx(math.log(2), abs=1e-5)
    assert told.final_loss < told.first_loss


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reward_models(tmp_path: Path, dtype: Any) -> None:
    config = RewardConfig(learning_rate=5e-4, batch_size=16, max_steps=12, dtype=dtype)
    plain = train_reward(folder(), _PREFERENCES, config, out=tmp_path / "plain" / "model", seed=0,
                         checkpoints=tmp_path / "one", chat=True)  # fmt: skip
    gap = train_gap_reward(folder(), _PREFERENCES, config, out=tmp_path / "gap" / "model", seed=0,
                           checkpoints=tmp_path / "other", chat=True, template=improvement_template("v1"))  # fmt: skip
    assert plain.first_loss == pytest.approx(math.log(2), abs=1e-5)
    assert gap.first_loss == pytest.approx(5 * math.log(2), abs=1e-5)
    assert plain.final_loss < plain.first_loss
    assert gap.final_loss < gap.first_loss


@pytest.mark.parametrize("kind", ["plain", "gap"])
def test_recorded_reward_models_learn_what_trees_with_masks_teach(
    tmp_path: Path, monkeypatch: Any, kind: str
) -> None:
    """Several pieces a step: their losses fall alike, and passes over trees end to end are recorded."""
    config = RewardConfig(
        learning_rate=1e-3, batch_size=16, max_steps=48, dtype="bfloat16", piece_tokens=600
    )
    usual, ran, losses = Passes.told, [], []

    def spied(self: Any, piece: Any) -> Any:
        out = usual(self, piece)
        ran.append(bool(self._recorded))
        return out

    monkeypatch.setattr(Passes, "told", spied)
    for packed in (True, False):
        if not packed:
            assert len(ran) > 48
            assert ran[-1]
            ran.clear()
            monkeypatch.setattr(_scalar_head, "longest_packed", lambda *_, **__: 0)
        room = tmp_path / str(packed)
        places: Any = {
            "out": room / "model",
            "checkpoints": room / "checkpoints",
            "seed": 0,
            "chat": True,
        }
        if kind == "plain":
            told = train_reward(folder(), _PREFERENCES, config, **places)
        else:
            template = improvement_template("v1")
            told = train_gap_reward(folder(), _PREFERENCES, config, **places, template=template)
        losses.append(told.final_loss)
        assert told.final_loss < 0.9 * told.first_loss
    assert not ran
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("lora", [None, LoraConfig(r=4, dropout=0.1)], ids=["full", "lora"])
def test_a_reward_model_learns_with_gradient_checkpointing_or_dropout(
    tmp_path: Path, lora: Any
) -> None:
    config = RewardConfig(learning_rate=1e-3, batch_size=16, max_steps=24, dtype="bfloat16", lora=lora,
                          gradient_checkpointing=lora is None)  # fmt: skip
    told = train_reward(folder(), _PREFERENCES, config, out=tmp_path / "model", seed=0,
                        checkpoints=tmp_path / "checkpoints", chat=True)  # fmt: skip
    assert told.final_loss < told.first_loss


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_policy_gradient(tmp_path: Path, dtype: Any) -> None:
    """Fewer words are better."""
    asked = [Prompt(f"p{n}", (Message("user", i.text),)) for n, i in enumerate(instructions("train", 24))]  # fmt: skip
    config = PolicyGradientConfig(learning_rate=3e-4, batch_size=6, n=3, max_steps=8, try_every=4,
                                  beta=0.02, dtype=dtype)  # fmt: skip
    told = train_policy(
        folder(), asked[8:], lambda _, texts, __: [-len(t.split()) / 4 for t in texts], config,
        EngineConfig(chat=True), reference=folder(), held_out=asked[:8], max_tokens=40,
        out=tmp_path / "model", checkpoints=tmp_path / "checkpoints", seed=0,
    )  # fmt: skip
    assert told.start_kl == pytest.approx(0, abs=1e-3 if dtype == "float32" else 0.05)
    assert told.final_reward > told.first_reward
