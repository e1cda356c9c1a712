"""What few bits cannot be combined with is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from selfimprove.config import fingerprint, load
from selfimprove.errors import ConfigError
from selfimprove.runtime.launch import read_config, run_config
from selfimprove.sampling import quantized
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.open import pick_for
from selfimprove.training.policy_config import PolicyGradientConfig, RolloutConfig, cannot_draw
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.training_config import LoraConfig

_NF4 = {"quantization": "nf4"}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"quantization": "nf4"}, "only adapters around them: set lora.quantization=nf4"),
        ({"lora": _NF4, "parallel": {"fsdp": True}}, "four-bit weights are not shared out"),
        ({"lora": {"quantization": "int8"}}, "lora.quantization"),
    ],
)
def test_a_training_is_told_what_four_bits_can_do(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(SftConfig, tree, "sft")


def test_what_was_trained_before_there_were_four_bits_is_still_good() -> None:
    plain = SftConfig(lora=LoraConfig(r=8))
    assert "quantization" not in str(plain.model_dump(context="identity"))
    assert fingerprint(plain) != fingerprint(SftConfig(lora=LoraConfig(r=8, quantization="nf4")))
    assert fingerprint(EngineConfig()) != fingerprint(EngineConfig(quantization="int8"))
    assert "quantization" not in EngineConfig().model_dump(context="identity")


@pytest.mark.parametrize("kind", ["vllm", "server", "ray"])
def test_only_the_built_in_engine_rounds_what_it_loads(kind: str, tmp_path: Path) -> None:
    other: dict[str, Any] = {"server": {"url": "http://x/v1"}} if kind == "server" else {}
    if kind == "ray":
        other = {"ray": {"per_replica": "vllm"}}
    with pytest.raises(ConfigError, match="the built-in engine rounds weights as it loads them"):
        load(EngineConfig, {"kind": kind, "quantization": "int8", **other}, "engine")
    assert pick_for(tmp_path, EngineConfig(device="cpu", quantization="int8")).kind == "torch"


@pytest.mark.parametrize("recipe", ["lmsi-tiny", "self-rewarding-tiny", "pit-tiny"])
def test_a_run_does_not_measure_other_weights_than_it_writes(recipe: str) -> None:
    with pytest.raises(ConfigError, match=r"set it for the judge alone \(judge.engine"):
        read_config(Path(recipe), ["engine.quantization=int8"])


def test_a_judge_of_its_own_may_be_in_eight_bits_beside_the_run() -> None:
    config: Any = read_config(Path("self-rewarding-tiny"), ["judge.engine.quantization=int8"])
    assert config.judge.engine.quantization == "int8"
    assert config.engine.quantization is None


def test_a_run_whose_packages_are_missing_ends_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda _name: None)
    config = read_config(Path("lmsi-tiny"), ["sft.lora.quantization=nf4"])
    with pytest.raises(ConfigError, match=r"needs bitsandbytes.*selfimprove\[quantized\]"):
        run_config(config, tmp_path / "run", lambda _line: None)
    assert not (tmp_path / "run").exists()


def test_a_policy_of_four_bits_is_drawn_from_by_its_trainer_alone() -> None:
    lora = LoraConfig(quantization="nf4")
    apart = PolicyGradientConfig(lora=lora, rollouts=RolloutConfig(by="engine"))
    engine = EngineConfig(kind="vllm")
    assert "leave rollouts.by=trainer" in str(cannot_draw(apart, engine))
    assert cannot_draw(PolicyGradientConfig(lora=lora), engine) is None


def test_the_lean_pass_lays_out_ordinary_weights_alone() -> None:
    class Rounded(torch.Tensor):
        """As torchao's weights: another class of tensors in a plain layer."""

    layer = nn.Linear(2, 2)
    assert quantized.is_plain(layer)
    layer.weight = nn.Parameter(torch.zeros(2, 2).as_subclass(Rounded))
    assert not quantized.is_plain(layer)
