"""Weights stay float32 between stages; they are rounded once, beside the line that goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

from selfimprove.data.preferences import Preference
from selfimprove.errors import EngineError
from selfimprove.files import read_json, write_json
from selfimprove.models import locate
from selfimprove.store import Run
from selfimprove.training._rounded_trainer import RoundedTrainer
from selfimprove.training.dpo import DpoConfig, milestones_of, train_dpo
from selfimprove.training.export import ExportConfig, Exporter, left_the_run, stored_dtype
from selfimprove.training.model_folder import load, load_frozen
from selfimprove.training.reward import train_reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.training_config import LoraConfig
from selfimprove.types import Example, Message, ModelRef, Pair

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

_HALF = torch.bfloat16
_EXAMPLES = [Example(f"w{i} w{i + 1}", f" w{i + 2} w{i + 3}") for i in range(32)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 100 words, stored in bfloat16 as pretrained models are."""
    folder = tmp_path_factory.mktemp("base")
    names = ["<unk>", "<eos>", *(f"w{i}" for i in range(98))]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64,
        bos_token_id=None, eos_token_id=1, pad_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    made: Any = LlamaForCausalLM(config)
    made.to(_HALF).save_pretrained(folder)
    return folder


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def _moved(one: Path, other: Path) -> float:
    """Share of the weights that differ."""
    first, second = _weights(one), _weights(other)
    changed = sum(int((first[k].float() != second[k].float()).sum()) for k in first)
    return changed / sum(v.numel() for v in first.values())


def _sft(start: Path, folder: Path, **settings: Any) -> Path:
    config = SftConfig(**{"learning_rate": 1e-6, "batch_size": 8, "warmup_frac": 0, **settings})
    train_sft(
        start, _EXAMPLES, config, out=folder / "model", checkpoints=folder / "checkpoints", seed=0
    )
    return folder / "model"


def test_what_a_small_rate_changes_reaches_the_next_stage(base: Path, tmp_path: Path) -> None:
    """Rounded to bfloat16, almost every step at 1e-6 would be undone."""
    first = _sft(base, tmp_path / "1")
    assert {v.dtype for v in _weights(first).values()} == {torch.float32}
    assert _moved(base, first) > 0.9
    rounded = {k: v.to(_HALF) for k, v in _weights(first).items()}
    lost = sum(int((rounded[k] == v).sum()) for k, v in _weights(base).items())
    assert lost / sum(v.numel() for v in rounded.values()) > 0.95
    second = _sft(first, tmp_path / "2")
    assert _moved(first, second) > 0.9


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)], ids=["all weights", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_in_bfloat16_is_read_exactly(
    base: Path, tmp_path: Path, dtype: str, lora: LoraConfig | None
) -> None:
    """A rate too small to move a float32 weight gives the base's own weights back."""
    trained = _weights(_sft(base, tmp_path, learning_rate=1e-30, dtype=dtype, lora=lora))
    for name, weights in _weights(base).items():
        assert torch.equal(trained[name], weights.float()), name


def test_adapters_are_merged_into_float32_weights(base: Path, tmp_path: Path) -> None:
    """Trained in bfloat16 around frozen weights, on a base that bfloat16 cannot hold."""
    first = _sft(base, tmp_path / "1", learning_rate=1e-4)
    half = {k: v.to(_HALF).float() for k, v in _weights(first).items()}
    second = _weights(
        _sft(first, tmp_path / "2", learning_rate=1e-30, dtype="bfloat16", lora=LoraConfig(r=2))
    )
    assert all(torch.equal(second[k], v) for k, v in _weights(first).items())
    assert not all(torch.equal(second[k], v) for k, v in half.items())


def test_adapters_change_what_they_were_trained_to_change(base: Path, tmp_path: Path) -> None:
    lora = LoraConfig(r=4, target_modules=("q_proj",))
    trained = _weights(
        _sft(base, tmp_path, learning_rate=1e-2, dtype="bfloat16", lora=lora, epochs=4)
    )
    same = {k for k, v in _weights(base).items() if torch.equal(trained[k], v.float())}
    assert {k for k in trained if "q_proj" in k} == set(trained) - same


def test_dpo_and_its_milestones_keep_small_steps(base: Path, tmp_path: Path) -> None:
    pairs = [Pair(f"w{i}", f" w{i + 1}", f" w{i + 2} w5") for i in range(16)]
    out = tmp_path / "model"
    train_dpo(
        base, pairs, DpoConfig(batch_size=4, try_every=2, warmup_frac=0), out=out,
        checkpoints=tmp_path / "checkpoints", seed=0,
    )  # fmt: skip
    for folder in (out, milestones_of(out) / "step-2"):
        assert stored_dtype(folder) == "float32"
        assert _moved(base, folder) > 0.8


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)], ids=["all weights", "lora"])
def test_reward_models_are_float32_head_and_all(
    base: Path, tmp_path: Path, lora: LoraConfig | None
) -> None:
    told = [
        Preference(str(i), "made", (Message("user", f"w{i}"),), f" w{i + 1}", f" w{i + 2}")
        for i in range(16)
    ]
    config = RewardConfig(learning_rate=1e-6, batch_size=4, lora=lora, dtype="bfloat16",
                          warmup_frac=0)  # fmt: skip
    train_reward(base, told, config, out=tmp_path / "model", checkpoints=tmp_path / "checkpoints",
                 seed=0, chat=False)  # fmt: skip
    found = _weights(tmp_path / "model")
    assert {v.dtype for v in found.values()} == {torch.float32}
    head = found["score.weight"]
    assert not torch.equal(head, head.to(_HALF).float())
    layer = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(found[layer], _weights(base)[layer].float())


# ---- what leaves the run


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _sft(base, tmp_path_factory.mktemp("trained"), learning_rate=1e-4)


def _exported(base: Path, trained: Path, root: Path, dtype: str) -> ModelRef:
    steps = Run(root)
    try:
        export = Exporter(steps, ExportConfig(dtype=dtype), locate(str(base)))
        return export("m1", locate(str(trained)))
    finally:
        steps.close()


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
def test_a_model_leaves_the_run_rounded_once(
    base: Path, trained: Path, tmp_path: Path, dtype: str
) -> None:
    found = _exported(base, trained, tmp_path, dtype)
    wanted = "bfloat16" if dtype == "auto" else dtype
    folder = tmp_path / "m1-export" / "model"
    assert Path(found.path) == folder == left_the_run(tmp_path, "m1")
    assert read_json(folder / "config.json")["dtype"] == stored_dtype(folder) == wanted
    exact, rounded = _weights(trained), _weights(folder)
    assert exact.keys() == rounded.keys()
    assert all(torch.equal(rounded[k], v.to(getattr(torch, wanted))) for k, v in exact.items())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert str(model.dtype) == f"torch.{wanted}"
    assert stored_dtype(trained) == "float32"  # the line goes on from here


def test_float32_is_what_was_trained_and_no_second_copy(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    assert _exported(base, trained, tmp_path, "float32") == locate(str(trained))
    assert not (tmp_path / "m1-export").exists()


def test_a_model_is_rounded_once_under_whatever_name_it_is_asked_for(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    steps = Run(tmp_path)
    export = Exporter(steps, ExportConfig(), locate(str(base)))
    assert export("m2-step-5", locate(str(trained))) == export("m2", locate(str(trained)))
    assert not (tmp_path / "m2-export").exists()
    steps.close()


def test_a_policy_that_is_its_start_left_the_run_as_that(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    found = _exported(base, trained, tmp_path, "auto")
    for step, digest in (("policy-rl", locate(str(trained)).digest), ("other", "of other weights")):
        (tmp_path / step).mkdir()
        write_json(tmp_path / step / "done.json", {"digest": digest})
    assert left_the_run(tmp_path, "policy-rl") == Path(found.path)
    assert left_the_run(tmp_path, "other") == tmp_path / "other" / "model"


def test_the_record_counts_what_rounding_undid(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two weights of one tensor are moved: by one bfloat16 step, and by a thousandth of one."""
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    weights = {k: v.float() for k, v in _weights(base).items()}
    weights["model.norm.weight"][0] += 2**-7  # next to 1, bfloat16 numbers are 2**-7 apart
    weights["model.norm.weight"][1] += 2**-17
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    _exported(base, moved, tmp_path / "run", "auto")
    told = read_json(tmp_path / "run" / "m1-export" / "done.json")["training"]
    assert (told["moved"], told["kept"]) == (2, 1)
    assert told["weights"] == sum(v.numel() for v in weights.values())
    assert "export.dtype=float32" not in caplog.text
    weights["model.norm.weight"][2:4] += 2**-17
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    _exported(base, moved, tmp_path / "again", "auto")
    assert "of 4 weights that training moved, 75.0 % are the base's again" in caplog.text


def test_shards_keep_their_index(base: Path, trained: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    shutil.copytree(trained, parts, ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForCausalLM.from_pretrained(trained).save_pretrained(parts, max_shard_size="20KB")
    assert len(list(parts.glob("*.safetensors"))) > 2
    folder = Path(_exported(base, parts, tmp_path / "run", "auto").path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    kept = _weights(trained)
    assert all(torch.equal(v, kept[k].to(_HALF)) for k, v in model.state_dict().items())


def test_weights_of_eight_bits_need_a_named_precision(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    shutil.copytree(base, small)
    save_file({"w": torch.zeros(4, dtype=torch.int8)}, small / "model.safetensors")
    with pytest.raises(EngineError, match=r"stored as I8.*export\.dtype=bfloat16"):
        _exported(small, trained, tmp_path / "run", "auto")
    assert stored_dtype(Path(_exported(small, trained, tmp_path / "two", "bfloat16").path))


# ---- what is read beside the policy


def _trainer(base: Path, folder: Path, *, half: bool = False) -> RoundedTrainer:
    model, *_ = load(base, SftConfig(), 0)
    settings = TrainingArguments(str(folder), use_cpu=True, bf16=half, report_to=[])
    return RoundedTrainer(model=model, args=settings)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_reference_computes_what_the_policy_computes_to_the_last_bit(
    trained: Path, tmp_path: Path, half: bool
) -> None:
    trainer = _trainer(trained, tmp_path, half=half)
    reference, policy = load_frozen(trained, SftConfig(), trainer), trainer.computing(trainer.model)
    ids = torch.arange(2, 42)[None]
    with torch.no_grad(), trainer.accelerator.autocast():
        found, wanted = (m(input_ids=ids, use_cache=False).logits for m in (reference, policy))
    assert torch.equal(found, wanted)
