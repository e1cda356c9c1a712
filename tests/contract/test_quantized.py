"""Weights in few bits on real bitsandbytes and torchao: adapters around NF4, judges and reward models in int8.

Runs where both are installed and SELFIMPROVE_QUANTIZED is set, as `make test-quantized` does.
"""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr

from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import read_preferences
from selfimprove.data.sources import Source
from selfimprove.judges.gap import GapScorer
from selfimprove.judges.judge import judge
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.plain_reward import RewardScorer
from selfimprove.judges.reward_rows import Improved
from selfimprove.models import locate
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.loading import load_model
from selfimprove.sampling.served import serving
from selfimprove.tiny.shipped import folder
from selfimprove.training import model_folder
from selfimprove.training.dpo import DpoConfig, train_dpo
from selfimprove.training.gap_reward import train_gap_reward
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.policy_gradient import train_policy
from selfimprove.training.reward import train_reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.training_config import LoraConfig
from selfimprove.types import Example, Pair, Prompt, Response

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_QUANTIZED" not in os.environ
        or not all(map(find_spec, ("bitsandbytes", "torchao"))),
        reason="bitsandbytes and torchao are an extra: `make test-quantized`",
    ),
    # What bitsandbytes and torchao deprecate, or use of what torch does.
    pytest.mark.filterwarnings("ignore"),
]

_CPU = torch.device("cpu")
_LORA = LoraConfig(r=8)
_NF4 = LoraConfig(r=8, quantization="nf4")
_TOLD = read_preferences([Source(source="train", format="tiny", limit=160)], 0).rows
_ASKED = [p.prompt for p in _TOLD]
_EXAMPLES = [Example(a, p.chosen) for a, p in zip(_ASKED, _TOLD, strict=True)]
_PAIRS = [Pair(a, p.chosen, p.rejected) for a, p in zip(_ASKED, _TOLD, strict=True)]


def _places(root: Path) -> Any:
    return {"out": root / "model", "checkpoints": root / "checkpoints", "seed": 0}


def _bytes(tensors: Any) -> int:
    """Bytes of weights, those within a tensor that is made of several among them."""
    found = 0
    for tensor in tensors:
        if hasattr(tensor, "__tensor_flatten__"):
            found += _bytes(getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
        else:
            found += tensor.nbytes
    return found


def _linear(model: Any) -> list[Any]:
    return [
        part
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and name != "lm_head"
    ]


def test_linear_layers_take_an_eighth_in_four_bits_and_a_quarter_in_eight() -> None:
    plain = load_model(folder(), torch.float32, _CPU)
    four, *_ = model_folder.load(folder(), SftConfig(dtype="float32", lora=_NF4), 0)
    eight = load_model(folder(), torch.float32, _CPU, "int8")
    linear = _linear(plain)
    count = sum(part.weight.numel() for part in linear)
    rows = sum(len(part.weight) for part in linear)
    packed = [p for p in four.get_base_model().parameters() if p.dtype == torch.uint8]
    assert _bytes(packed) == count / 2
    rounded = [part.weight.data for part in _linear(eight)]
    # A byte each; for a row a scale in float32, and where its zero lies.
    assert _bytes(rounded) == count + 5 * rows
    assert _bytes(eight.parameters()) - _bytes(rounded) == _bytes(plain.parameters()) - 4 * count


def test_adapters_learn_around_four_bits_as_well_as_around_the_weights(tmp_path: Path) -> None:
    steps = {"learning_rate": 2e-3, "batch_size": 16, "max_steps": 30, "dtype": "float32"}
    losses = {}
    for name, lora in (("lora", _LORA), ("qlora", _NF4)):
        config = SftConfig(lora=lora, **steps)
        told = train_sft(folder(), _EXAMPLES, config, **_places(tmp_path / name))
        losses[name] = (told.first_loss, told.final_loss)
    for name in losses:
        assert losses[name][1] < 0.9 * losses[name][0]
    assert losses["qlora"][1] == pytest.approx(losses["lora"][1], rel=0.03)


def test_a_copy_in_bfloat16_computes_around_the_same_four_bits(tmp_path: Path) -> None:
    config = SftConfig(learning_rate=2e-3, batch_size=4, max_steps=3, dtype="bfloat16", lora=_NF4)
    told = {}
    for dtype in ("float32", "bfloat16"):
        asked = config.model_copy(update={"dtype": dtype})
        told[dtype] = train_sft(folder(), _EXAMPLES, asked, **_places(tmp_path / dtype))
    assert told["bfloat16"].final_loss == pytest.approx(told["float32"].final_loss, rel=0.02)
    before, one, other = (
        load_file(root / "model.safetensors")
        for root in (folder(), *(tmp_path / dtype / "model" for dtype in told))
    )
    name = "model.layers.0.mlp.up_proj.weight"
    moved, alike = one[name] - before[name], other[name] - before[name]
    assert torch.nn.functional.cosine_similarity(moved.flatten(), alike.flatten(), dim=0) > 0.9


def test_a_killed_training_goes_on_around_the_same_four_bits(tmp_path: Path) -> None:
    """To the last bit: adapters stay float32 where TRL would round them to bfloat16."""
    config = SftConfig(learning_rate=2e-3, batch_size=4, max_steps=4, save_every=2, lora=_NF4)
    train_sft(folder(), _EXAMPLES, config, **_places(tmp_path / "straight"))
    train_sft(folder(), _EXAMPLES, config, **_places(tmp_path / "killed"))
    (tmp_path / "killed" / "checkpoints" / "checkpoint-4").rename(tmp_path / "lost")
    train_sft(folder(), _EXAMPLES, config, **_places(tmp_path / "killed"))
    one, other = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("straight", "killed"))  # fmt: skip
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adapters_are_merged_into_the_weights_and_not_into_their_four_bits(tmp_path: Path) -> None:
    config = SftConfig(learning_rate=1e-30, batch_size=16, max_steps=1, lora=_NF4)
    train_sft(folder(), _EXAMPLES, config, **_places(tmp_path))
    before = load_file(folder() / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert {w.dtype for w in after.values()} == {torch.float32}
    assert all(torch.equal(before[name].float(), after[name]) for name in before)
    assert "quantization_config" not in (tmp_path / "model" / "config.json").read_text()


def test_a_policy_of_four_bits_is_its_own_reference_to_begin_with(tmp_path: Path) -> None:
    config = DpoConfig(learning_rate=3e-3, batch_size=16, max_steps=12, lora=_NF4)
    told = train_dpo(folder(), _PAIRS, config, **_places(tmp_path), reference=folder())
    assert told.first_loss == pytest.approx(math.log(2), abs=1e-5)
    assert told.final_loss < 0.6 and told.final_accuracy > 0.7


def test_the_built_in_engine_draws_from_a_policy_of_four_bits(tmp_path: Path) -> None:
    """Its own draws, so that each of a batch counts once, and no KL from a reference in four bits."""

    def short(_keys: Any, texts: Any, _finished: Any) -> list[float | None]:
        return [-len(text.split()) / 4 for text in texts]

    config = PolicyGradientConfig(learning_rate=1e-2, batch_size=8, n=4, max_steps=8, try_every=4,
                                  beta=0.01, max_kl=100, lora=_NF4)  # fmt: skip
    asked = [Prompt(p.id, a) for p, a in zip(_TOLD, _ASKED, strict=True)]
    told = train_policy(
        folder(), asked[16:], short, config, EngineConfig(chat=True, device="cpu"),
        reference=folder(), held_out=asked[:16], max_tokens=40, **_places(tmp_path),
    )  # fmt: skip
    assert told.start_kl == pytest.approx(0, abs=1e-4)
    assert told.best_reward > told.start_reward + 0.3


def test_reward_models_are_trained_around_four_bits_and_read_in_eight(tmp_path: Path) -> None:
    """Agreement of the two readings: they order candidates alike, though weights were rounded."""
    config = RewardConfig(learning_rate=5e-3, batch_size=16, max_steps=30, lora=_NF4)
    kept, held_out = _TOLD[:120], _TOLD[120:]
    train_reward(folder(), kept, config, chat=True, **_places(tmp_path / "plain"))
    train_gap_reward(folder(), kept, config, chat=True, template=improvement_template("v1"),
                     **_places(tmp_path / "gap"))  # fmt: skip
    rows = [
        Improved(p.id, i, p.prompt, text, reference=p.rejected)
        for p in held_out
        for i, text in enumerate((p.chosen, p.rejected))
    ]
    for kind, name in ((RewardScorer, "plain"), (GapScorer, "gap")):
        exact, rounded = (
            kind(tmp_path / name / "model", EngineConfig(device="cpu", quantization=how))
            for how in (None, "int8")
        )
        one, other = ([x or 0.0 for x in s.told(rows).scores] for s in (exact, rounded))
        assert rounded.identity["quantization"].startswith("int8 by torchao")
        assert "quantization" not in exact.identity
        assert one != other  # it was rounded
        assert spearmanr(one, other).statistic > 0.99
        right = sum(a > b for a, b in zip(other[::2], other[1::2], strict=True))
        assert right / len(held_out) > 0.7


def test_a_judge_in_eight_bits_says_what_the_judge_itself_says() -> None:
    responses = [
        Response(p.id, p.prompt[0].content, i, text, "stop", 0)
        for p in _TOLD[:64]
        for i, text in enumerate((p.chosen, p.rejected))
    ]
    config = JudgeConfig(prompt="tiny", votes=1, temperature=0, max_tokens=64, max_unscored=1)
    told = {}
    for how in (None, "int8"):
        engine = EngineConfig(chat=True, device="cpu", quantization=how)
        with serving(locate("tiny"), engine) as asked:
            batches = list(judge([responses], asked, config, 0))
        told[how] = [v.score for v in chain.from_iterable(b.rows for b in batches)]
        assert ("quantization" in (batches[0].engine or {})) == (how == "int8")
    same = sum(a == b for a, b in zip(told[None], told["int8"], strict=True))
    assert len(set(told[None])) > 2
    assert same / len(responses) > 0.9
