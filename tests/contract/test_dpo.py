"""DPO on the shipped tiny model: what it teaches, what it refuses, and how it resumes."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from selfimprove.errors import TrainingError
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.open import open_engine
from selfimprove.seeds import rng
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.oracle import score
from selfimprove.tiny.seeds_of_world import draft
from selfimprove.tiny.shipped import folder
from selfimprove.training.dpo import DpoConfig, TrainedDpo, milestones_of, train_dpo
from selfimprove.training.training_config import LoraConfig
from selfimprove.types import Message, Pair, Prompt
from selfimprove.weights import weights_digest

pytestmark = pytest.mark.slow

_CONFIG = DpoConfig(learning_rate=2e-5, batch_size=8, max_steps=12, save_every=4)


def _pairs(split: str, count: int) -> list[Pair]:
    """Pairs of drafts that the world itself tells apart."""
    draw = rng(0, "dpo", split)
    pairs = []
    for asked in instructions(split, 3 * count):  # type: ignore[arg-type]
        drafts = sorted((draft(asked, draw) for _ in range(2)), key=lambda t: score(asked.text, t))
        if score(asked.text, drafts[0]) < score(asked.text, drafts[1]):
            pairs.append(Pair((Message("user", asked.text),), drafts[1], drafts[0]))
    return pairs[:count]


_TRAIN, _HELD_OUT = _pairs("train", 96), _pairs("dev", 60)


def _train(tmp_path: Path, config: DpoConfig = _CONFIG, **settings: object) -> TrainedDpo:
    return train_dpo(
        folder(), _TRAIN, config, out=tmp_path / "model", checkpoints=tmp_path / "checkpoints",
        seed=0, **settings,  # type: ignore[arg-type]
    )  # fmt: skip


def _log_probs(model: Path, pairs: list[Pair]) -> torch.Tensor:
    """Summed log-probabilities by the engine, without the end token: (pairs, 2)."""
    config = EngineConfig(device="cpu", dtype="float32")
    asked = [(Prompt("p", p.prompt), text) for p in pairs for text in (p.chosen, p.rejected)]
    with closing(open_engine(model, config)) as engine:
        return torch.tensor([sum(row) for row in engine.logprobs(asked)]).view(-1, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedDpo]:
    root = tmp_path_factory.mktemp("dpo")
    return root, _train(root)


def test_the_first_loss_is_ln_2_and_the_last_is_lower(trained):
    _, told = trained
    assert told.first_loss == pytest.approx(math.log(2), abs=1e-5)
    assert told.final_loss < told.first_loss
    assert (told.steps, told.pairs, told.dropped) == (12, 96, 0)


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2, dropout=0.5)], ids=["full", "lora"])
@pytest.mark.parametrize("own", [False, True], ids=["itself", "a-folder"])
def test_dropout_and_rounding_are_no_distance_from_the_reference(tmp_path, lora, own):
    policy, frozen = (_with_dropout(tmp_path / name) for name in ("policy", "frozen"))
    config = _CONFIG.model_copy(update={"max_steps": 1, "dtype": "bfloat16", "lora": lora})
    told = train_dpo(
        policy, _TRAIN[:8], config, out=tmp_path / "model", checkpoints=tmp_path / "checkpoints",
        seed=0, reference=frozen if own else None,
    )  # fmt: skip
    assert told.first_loss == pytest.approx(math.log(2), abs=1e-6)
    assert told.final_margin == 0.0


def test_layers_that_are_computed_twice_still_are_and_drop_nothing():
    from types import SimpleNamespace

    from transformers import AutoModelForCausalLM

    from selfimprove.training._preference_trainer import PreferenceTrainer

    model = AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32)
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        PreferenceTrainer.begin(SimpleNamespace(dropout=False, computing=lambda m: m), model)  # type: ignore[arg-type]
        for layer in model.model.layers:
            assert layer.training is checkpointing
            assert not layer.self_attn.training


def _with_dropout(to: Path) -> Path:
    """Copy the shipped model, with dropout of a half in its attention."""
    shutil.copytree(folder(), to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    return to


def test_held_out_pairs_are_told_apart_better_than_before(trained):
    root, _ = trained
    gain = _log_probs(root / "model", _HELD_OUT) - _log_probs(folder(), _HELD_OUT)
    accuracy = (gain[:, 0] > gain[:, 1]).float().mean().item()
    assert accuracy > 0.8  # by chance .5, with a standard error of .065


def test_the_reference_is_that_of_a_plain_forward_pass(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root, _ = trained
    (kept,) = (root / "checkpoints").glob("reference-*.safetensors")
    stored = load_file(kept)["log_probs"]
    model = AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder())
    for row, pair in enumerate(_TRAIN[:6]):
        for side, text in enumerate((pair.chosen, pair.rejected)):
            asked = f"<|user|>{pair.prompt[0].content}<|end|><|assistant|>"  # type: ignore[union-attr]
            before = len(tokenizer(asked)["input_ids"])
            ids = torch.tensor([tokenizer(f"{asked}{text}<|end|>")["input_ids"]])
            with torch.inference_mode():
                told = model(ids).logits.log_softmax(-1)[0, before - 1 : -1]
            expected = told.gather(1, ids[0, before:, None]).sum().item()
            assert stored[row, side].item() == pytest.approx(expected, abs=1e-3)


def test_a_killed_training_ends_with_the_same_weights(trained, tmp_path, monkeypatch):
    from selfimprove.training._preference_trainer import PreferenceTrainer

    root, _ = trained
    step = PreferenceTrainer.training_step

    def killed(self, *args, **settings):
        if self.state.global_step == 9:
            raise KeyboardInterrupt
        return step(self, *args, **settings)

    monkeypatch.setattr(PreferenceTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path)
    monkeypatch.setattr(PreferenceTrainer, "training_step", step)
    monkeypatch.setattr("selfimprove.training.dpo._log_probs", lambda *_: 1 / 0)  # kept, not redone
    _train(tmp_path)
    assert weights_digest(tmp_path / "model") == weights_digest(root / "model")


def test_a_rejected_response_that_was_cut_off_is_not_taught_to_end_there():
    from selfimprove.sampling.loading import load_tokenizer
    from selfimprove.training.dpo import _rows

    tokenizer = load_tokenizer(folder())
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    asked = (Message("user", "Name a fruit."),)
    for finished in (True, False):
        ((row,), _) = _rows([Pair(asked, "An apple.", "An app", finished)], tokenizer, [end], 64)
        assert row.chosen.ids.count(end) == 2  # behind the user and behind the response
        assert row.rejected.ids.count(end) == 1 + finished
        assert (row.rejected.ids[-1] == end) == finished


def test_two_equal_responses_are_refused_by_name(tmp_path):
    pairs = [*_TRAIN[:2], Pair("Ask.", "same", "same")]
    with pytest.raises(TrainingError, match=r"pair 2 has twice the same response, 'same'"):
        train_dpo(folder(), pairs, _CONFIG, out=tmp_path / "m", checkpoints=tmp_path / "c", seed=0)


def test_no_pair_and_no_pair_that_fits_are_refused(tmp_path):
    for pairs, config, said in (
        ([], _CONFIG, "no pair to train on"),
        (_TRAIN[:2], _CONFIG.model_copy(update={"max_length": 4}), r"raise dpo.max_length"),
    ):
        with pytest.raises(TrainingError, match=said):
            train_dpo(
                folder(), pairs, config, out=tmp_path / "m", checkpoints=tmp_path / "c", seed=0
            )


def test_a_reference_of_its_own_is_used(trained, tmp_path):
    root, _ = trained
    told = _train(tmp_path, _CONFIG.model_copy(update={"max_steps": 1}), reference=root / "model")
    assert abs(told.first_loss - math.log(2)) > 1e-3


def test_the_second_term_holds_the_chosen_responses_up(trained, tmp_path):
    _, plain = trained
    config = _CONFIG.model_copy(update={"nll_alpha": 1.0, "learning_rate": 1e-4})
    assert _train(tmp_path, config).chosen_change > plain.chosen_change


def test_adapters_are_merged_into_a_plain_folder(tmp_path):
    config = _CONFIG.model_copy(update={"lora": LoraConfig(r=4), "learning_rate": 1e-3})
    told = _train(tmp_path, config)
    assert told.first_loss == pytest.approx(math.log(2), abs=1e-5)
    assert not (tmp_path / "model" / "adapter_config.json").exists()
    gain = _log_probs(tmp_path / "model", _HELD_OUT) - _log_probs(folder(), _HELD_OUT)
    assert (gain[:, 0] > gain[:, 1]).float().mean().item() > 0.7


def test_models_on_the_way_are_kept_whole_and_the_last_is_not_among_them(tmp_path):
    _train(tmp_path, _CONFIG.model_copy(update={"try_every": 5}))
    kept = sorted(p.name for p in milestones_of(tmp_path / "model").iterdir())
    assert kept == ["step-10", "step-5"]
    first, second = (weights_digest(milestones_of(tmp_path / "model") / name) for name in kept)
    assert len({first, second, weights_digest(tmp_path / "model")}) == 3


def test_the_log_has_the_names_that_others_use(trained):
    root, _ = trained
    lines = [json.loads(line) for line in (root / "train_log.jsonl").read_text().splitlines()]
    names = {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
    assert names <= lines[0].keys()
