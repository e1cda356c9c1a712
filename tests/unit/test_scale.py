"""What several devices would hold and take, by numbers that can be checked by hand; who is who under torchrun."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from selfimprove.errors import ConfigError
from selfimprove.runtime.cluster import Estimate, estimate
from selfimprove.runtime.devices import cluster_of, sampling_share
from selfimprove.runtime.memory import Shape, shape_of, training
from selfimprove.runtime.memory_shared import in_each, shared_out
from selfimprove.runtime.nodes import leave_torchrun
from selfimprove.runtime.plan import PlannedStep, Use
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.training_config import ParallelConfig

_LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}  # fmt: skip
_P = 8_030_261_248
_EMBEDDED = 128_256 * 4_096


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A folder with the config of Llama 3.1 8B, and no weights."""
    (tmp_path / "config.json").write_text(json.dumps(_LLAMA_8B))
    return tmp_path


def _shared(shape: Shape, **settings: Any) -> Any:
    config = SftConfig.model_validate({"dtype": "bfloat16", **settings})
    whole = training("sft", shape, config, 1_000, on="cuda")
    return shared_out(whole, shape, config, 8, drawn_from=False, on="cuda")


def test_each_of_eight_holds_an_eighth_and_what_is_put_together(llama: Path) -> None:
    found = _shared(shape_of(llama))
    assert found.weights == 4 * _P // 8 + 2 * 2 * _EMBEDDED  # of a layer 218M, embeddings are more
    assert found.gradients == 4 * _P // 8 + 2 * _EMBEDDED
    assert found.optimiser == 8 * _P // 8


def test_a_training_that_is_not_told_to_share_keeps_a_copy(llama: Path) -> None:
    shape = shape_of(llama)
    config = SftConfig(parallel=ParallelConfig(fsdp=False))
    whole = training("sft", shape, config, 1_000)
    assert in_each(whole, shape, config, 8, drawn_from=False) is whole
    told = config.model_copy(update={"parallel": ParallelConfig(fsdp=True)})
    assert in_each(whole, shape, told, 8, drawn_from=False).total < whole.total
    assert in_each(whole, shape, told, 1, drawn_from=False) is whole


def test_a_policy_that_is_drawn_from_is_whole_once_more_in_each_process(llama: Path) -> None:
    shape = shape_of(llama)
    config = SftConfig(dtype="bfloat16")
    whole = training("rl", shape, config, 1_000, beside=2, on="cuda")
    found = shared_out(whole, shape, config, 8, drawn_from=True, on="cuda")
    assert found.beside == 4 * _P // 8 + 4 * _P + 2 * _P  # reference, reward model, the copy


@pytest.mark.parametrize("text", ["h100", "0xh100", "8xfoo", "8 h100"])
def test_a_cluster_that_is_none_is_told_with_the_kinds_there_are(text: str) -> None:
    with pytest.raises(ConfigError, match="kinds: h200, h100"):
        cluster_of(text)


def test_what_was_measured_is_what_is_taken_and_larger_models_are_as_the_largest() -> None:
    assert sampling_share(134_515_008) == 0.102
    assert 0.102 < sampling_share(300_000_000) < 0.193
    assert sampling_share(70_000_000_000) == 0.322


def _told(llama: Path, cluster: str, config: SftConfig, **more: Any) -> Estimate:
    engine = EngineConfig()
    steps = [PlannedStep("paths", "", 1_000, 256_000, 0, "to do"),
             PlannedStep("eval", "", 10, 2_560, 0, "to do", measures=True),
             PlannedStep("model", "", None, 0, 1_024_000, "to do")]  # fmt: skip
    uses = [Use("paths", llama, engine), Use("eval", llama, engine),
            Use("model", llama, config, longest=1_024, rows=3_200)]  # fmt: skip
    return estimate(steps, uses, cluster_of(cluster), **more)


def test_sampling_is_bound_by_arithmetic_once_a_gpu_holds_many_rows(llama: Path) -> None:
    one, eight = (_told(llama, f"{n}xh100", SftConfig()).shares[0] for n in (1, 8))
    seconds = 256_000 * 2 * _P / (989e12 * 0.322)
    assert one.hours * 3600 == pytest.approx(seconds)
    assert eight.hours == pytest.approx(one.hours / 8)
    assert one.waits_for == "arithmetic"


def test_data_are_counted_so_many_times_but_what_measures_is_not(llama: Path) -> None:
    once, often = (_told(llama, "8xh100", SftConfig(), times=n).shares for n in (1, 10))
    assert often[0].sampled == 10 * once[0].sampled
    assert often[1] == once[1]


def test_no_more_gpus_train_than_the_network_lets_be_faster(llama: Path) -> None:
    config = SftConfig(gradient_checkpointing=True, batch_size=32)
    found = _told(llama, "64xh100", config).shares[2]
    # Between machines 50 GB/s, within one 450: sixteen would wait 100 x 8 P x 15/16 / 50e9 = 120 s.
    assert (found.gpus, found.waits_for) == (8, "arithmetic")
    work = 1_024_000 * (8 * _P + 6 * 32 * 4_096 * 1_024)
    assert found.hours * 3600 == pytest.approx(work / (8 * 989e12 * 0.304))


def test_every_gpu_is_paid_from_the_first_step_to_the_last(llama: Path) -> None:
    found = _told(llama, "8xh100", SftConfig(gradient_checkpointing=True), price=2.5)
    assert found.cost == pytest.approx(found.hours * 8 * 2.5)
    assert not found.measured


_ENVIRONMENT = {"RANK": "8", "WORLD_SIZE": "16", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8",
                "MASTER_ADDR": "one", "MASTER_PORT": "29500"}  # fmt: skip


def test_the_first_process_of_the_second_machine_stands_by(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    found = leave_torchrun()
    assert found is not None
    assert (found.count, found.here, found.processes, found.address) == (2, 1, 8, "one")
    assert found.port == 29_501
    # The run is no part of a training: its processes read these.
    assert "RANK" not in os.environ
    assert leave_torchrun() is None


def test_every_other_process_of_a_machine_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**_ENVIRONMENT, "RANK": "9", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        leave_torchrun()
    assert left.value.code == 0
