"""What a dry run promises: memory from each model's own config.json, part by part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfimprove.runtime.launch import plan_recipe
from selfimprove.runtime.memory import adapter_weights, cache_bytes, sampling, shape_of, training
from selfimprove.sampling import arithmetic
from selfimprove.sampling.engine import EngineConfig, ServerConfig
from selfimprove.tiny.shipped import folder as shipped
from selfimprove.training.dpo import DpoConfig
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.training_config import LoraConfig

_RECIPES = Path(__file__).parents[2] / "recipes"
_LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}  # fmt: skip
_PARAMETERS = 8_030_261_248
_SMALL_DATA = {
    "lmsi": ["data={train: 'tiny:train[:40]', test: 'tiny:test[:10]'}"],
    "self-rewarding": [
        "seeds.ift={format: tiny, source: train, limit: 20}", "seeds.eft={format: tiny, source: train, limit: 20}", "seeds.ranked=[]", "prompts.count=20",
        "evaluation.prompts=tiny:test[:10]", "evaluation.validation=tiny:dev[:10]",
        "evaluation.judging={format: tiny, source: dev, limit: 10}",
    ],
    "pit": ["preferences=tiny:train[:60]", "evaluation.preferences=tiny:test[:10]"],
}  # fmt: skip


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A folder with the config of Llama 3.1 8B, and no weights."""
    (tmp_path / "config.json").write_text(json.dumps(_LLAMA_8B))
    return tmp_path


def test_all_weights_take_sixteen_bytes_each_and_a_rounded_copy(llama: Path) -> None:
    shape = shape_of(llama)
    assert shape.parameters == _PARAMETERS
    found = training("sft", shape, SftConfig(dtype="float32"), 1_000)
    assert found.weights == 4 * _PARAMETERS
    assert found.gradients == 4 * _PARAMETERS
    assert found.optimiser == 8 * _PARAMETERS
    rounded = training("sft", shape, SftConfig(dtype="bfloat16"), 1_000)
    assert rounded.weights == (4 + 2) * _PARAMETERS


def test_only_adapters_have_gradients_and_moments(llama: Path) -> None:
    # Rank 16 on q and o (4096 + 4096), k and v (4096 + 1024), gate, up and down (4096 + 14336).
    count = 16 * 32 * (2 * 8192 + 2 * 5120 + 3 * 18432)
    config = SftConfig(dtype="bfloat16", lora=LoraConfig(r=16))
    shape = shape_of(llama)
    assert adapter_weights(shape, config) == count == 41_943_040
    found = training("sft", shape, config, 1_000)
    assert found.weights == 2 * _PARAMETERS + 4 * count
    assert (found.gradients, found.optimiser) == (4 * count, 8 * count)
    few = config.model_copy(update={"lora": LoraConfig(r=16, target_modules=("q_proj",))})
    assert adapter_weights(shape, few) == 16 * 32 * 8192


def test_linear_layers_in_few_bits_are_counted_as_such(llama: Path) -> None:
    # A layer: q and o 4096 x 4096, k and v 4096 x 1024, gate, up and down 4096 x 14336.
    linear = 32 * 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336)
    shape, rest = shape_of(llama), 2 * (_PARAMETERS - linear)
    config = SftConfig(dtype="bfloat16", lora=LoraConfig(r=16, quantization="nf4"))
    held = training("sft", shape, config, 1_000, beside=1)
    four = round(linear * (0.5 + 1 / 64 + 4 / 64 / 256)) + rest
    assert held.weights == four + 4 * adapter_weights(shape, config)
    assert held.beside == four
    engine = EngineConfig(dtype="bfloat16", device="cpu", quantization="int8")
    (need,) = sampling("judge", shape, engine)
    assert need.weights == linear + rest


def test_the_cache_is_keys_and_values_of_every_layer(llama: Path) -> None:
    # Two numbers x 32 layers x 8 heads x 128, of two bytes: 128 KiB a token, 8 GiB in all.
    engine = EngineConfig(dtype="bfloat16", device="cpu", max_batch_tokens=65_536)
    assert cache_bytes(shape_of(llama), engine) == 8 * 2**30


def test_models_beside_the_policy_are_counted(llama: Path) -> None:
    lora = SftConfig(dtype="bfloat16", lora=LoraConfig())
    assert training("rl", shape_of(llama), lora, 1_000, beside=2).beside == 2 * 2 * _PARAMETERS


def test_checkpointing_keeps_the_input_of_each_layer_alone(llama: Path) -> None:
    shape = shape_of(llama)
    kept = training("sft", shape, SftConfig(dtype="bfloat16"), 1_000).activations
    checkpointed = SftConfig(dtype="bfloat16", gradient_checkpointing=True)
    twice = training("sft", shape, checkpointed, 1_000)
    assert twice.activations < kept / 2


def test_rows_that_no_pass_parts_are_counted_together(llama: Path) -> None:
    """Pieces of one token: a row of 1,000, with whatever prefix it shares, a pair, the draws of a prompt."""
    told = {"piece_tokens": 1, "dtype": "float32"}
    shape = shape_of(llama)
    one, pair, six = (
        training("train", shape, config, 1_000).activations
        for config in (SftConfig(**told), DpoConfig(**told), PolicyGradientConfig(**told, n=6))
    )
    assert (pair, six) == (2 * one, 6 * one)


def test_gradients_of_a_step_of_one_pass_take_the_place_of_its_activations(llama: Path) -> None:
    shape = shape_of(llama)
    told = {"dtype": "float32", "piece_tokens": 4_000}
    one_pass = training("sft", shape, SftConfig(**told, batch_size=4), 1_000)
    assert one_pass.activations > 4 * _PARAMETERS
    assert one_pass.gradients == 0
    two = training("sft", shape, SftConfig(**told, batch_size=8), 1_000)
    assert (two.activations, two.gradients) == (one_pass.activations, 4 * _PARAMETERS)
    few = training(
        "sft", shape, SftConfig(**told, batch_size=4, gradient_checkpointing=True), 1_000
    )
    assert 0 < few.gradients == 4 * _PARAMETERS - few.activations


@pytest.mark.skipif(torch.cuda.is_available(), reason="what a CPU keeps")
def test_a_cpu_counts_what_a_layer_computes_on_the_way(llama: Path) -> None:
    shape = dataclasses.replace(shape_of(llama), vocabulary=0)
    found = training("sft", shape, SftConfig(dtype="float32", piece_tokens=1), 1)
    # Of one token that sees itself: 13 vectors of 4,096, thrice keys and values of 8 heads of 128, gate, up
    # and their product, and 32 probabilities.
    assert found.activations == 32 * 4 * (13 * 4_096 + 3 * 2_048 + 3 * 14_336 + 32)


def test_a_cpu_keeps_logits_and_their_gradient_in_the_precision_of_the_model(llama: Path) -> None:
    told = {"piece_tokens": 1, "dtype": "bfloat16"}
    few = dataclasses.replace(shape_of(llama), vocabulary=0)
    logits = (
        training("sft", shape_of(llama), SftConfig(**told), 1_000).activations
        - training("sft", few, SftConfig(**told), 1_000).activations
    )
    assert logits == 1_000 * 128_256 * (12 if torch.cuda.is_available() else 2 * 2)


@pytest.mark.parametrize("unit", ["AMX", None])
def test_what_lies_packed_beside_its_own_weights_is_counted(
    llama: Path, monkeypatch: pytest.MonkeyPatch, unit: str | None
) -> None:
    monkeypatch.setattr(arithmetic, "cpu_bfloat16", lambda: unit)
    engine = EngineConfig(dtype="bfloat16", device="cpu")
    (draws,) = sampling("draw", shape_of(llama), engine)
    (judges,) = sampling("judge", shape_of(llama), engine, cached=False)
    # Queries, keys and values of 32 layers, and the output layer.
    twice = 32 * 4096 * (4096 + 1024 + 1024) + 128_256 * 4096
    assert draws.weights == 2 * (_PARAMETERS + (twice if unit else 0))
    assert judges.weights == 2 * _PARAMETERS


def test_a_server_elsewhere_takes_no_memory_here(llama: Path) -> None:
    there = EngineConfig(kind="server", server=ServerConfig(url="http://there/v1"))
    assert list(sampling("draw", shape_of(llama), there)) == []
    started = EngineConfig(kind="server", server=ServerConfig(command=("vllm", "{port}")))
    (found,) = sampling("draw", shape_of(llama), started)
    assert found.weights in (2 * _PARAMETERS, 4 * _PARAMETERS)


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        ("lmsi-gsm8k", {"eval-base", "round-1-model"}),
        ("lmsi-paper", {"eval-base", "round-1-model"}),
        ("self-rewarding-8b", {"sft-model", "sft-responses", "m2-model"}),
        ("pit-hh-rlhf", {"policy-sft", "reward-model", "policy-rl", "references"}),
        ("pit-paper", {"policy-sft", "reward-model", "policy-rl", "references"}),
    ],
)
def test_the_large_recipes_tell_their_memory_without_weights(
    llama: Path, recipe: str, stages: set[str]
) -> None:
    method = next(name for name in _SMALL_DATA if recipe.startswith(name))
    words = [f"model={llama}", *_SMALL_DATA[method]]
    plan = plan_recipe(_RECIPES / f"{recipe}.yaml", words, None)
    assert stages <= {need.stage.partition(" ")[0] for need in plan.needs.stages}
    assert plan.needs.memory_bytes is not None
    assert plan.needs.memory_bytes > 2 * _PARAMETERS


def test_a_model_that_is_not_here_is_named_and_nothing_is_fetched(tmp_path: Path) -> None:
    recipe = _RECIPES / "lmsi-tiny.yaml"
    plan = plan_recipe(recipe, ["model=some/model", "controls=[]"], tmp_path)
    assert plan.needs.unknown == ("some/model",)
    assert plan.needs.memory_bytes is None
    assert plan.needs.disk_bytes is None


def test_the_shipped_model_is_counted_by_its_config() -> None:
    assert shape_of(shipped()).parameters == 967_808
