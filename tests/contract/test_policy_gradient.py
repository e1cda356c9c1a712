"""The policy gradient on the shipped tiny model: what it learns, keeps, stops at, and how it resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from selfimprove.errors import TrainingError
from selfimprove.sampling.engine import EngineConfig, ServerConfig
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.shipped import folder
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.policy_gradient import TrainedPolicy, train_policy
from selfimprove.training.training_config import LoraConfig
from selfimprove.types import Message, Prompt
from selfimprove.weights import weights_digest

pytestmark = pytest.mark.slow

_CONFIG = PolicyGradientConfig(
    learning_rate=3e-4, batch_size=6, n=3, max_steps=6, try_every=2, save_every=2, beta=0.02
)
_Rewards = list[float | None]
_ENGINE = EngineConfig(chat=True, device="cpu")


def _prompts(split: str, count: int) -> list[Prompt]:
    asked = instructions(split, count)  # type: ignore[arg-type]
    return [Prompt(f"{split}-{n}", (Message("user", i.text),)) for n, i in enumerate(asked)]


def _short(_keys: Sequence[str], texts: Sequence[str], _finished: Sequence[bool]) -> _Rewards:
    """Fewer words are better."""
    return [-len(text.split()) / 4 for text in texts]


def _train(root: Path, config: PolicyGradientConfig = _CONFIG, reward=_short) -> TrainedPolicy:
    return train_policy(
        folder(), _prompts("train", 24), reward, config, _ENGINE, reference=folder(),
        held_out=_prompts("dev", 16), max_tokens=40, out=root / "model",
        checkpoints=root / "checkpoints", seed=0,
    )  # fmt: skip


def _log(root: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / "train_log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedPolicy]:
    root = tmp_path_factory.mktemp("rl")
    return root, _train(root, _CONFIG.model_copy(update={"max_steps": 20}))


def test_the_reward_rises_on_prompts_that_were_not_trained_on(trained):
    _, told = trained
    assert told.best_reward > told.start_reward + 0.4
    assert told.final_reward > told.first_reward


def test_the_first_step_has_no_kl_as_the_policy_is_its_own_reference(trained):
    root, _ = trained
    first = next(entry for entry in _log(root) if "kl" in entry)
    assert first["kl"] == pytest.approx(0, abs=1e-3)
    assert first["entropy"] > 0


def test_the_policy_of_the_highest_reward_less_beta_kl_is_kept(trained):
    root, told = trained
    tried = {e["step"]: e for e in _log(root) if "held_out_reward" in e}
    assert sorted(tried) == list(range(0, 22, 2))
    for entry in tried.values():
        penalised = entry["held_out_reward"] - 0.02 * entry["held_out_kl"]
        assert entry["held_out_objective"] == pytest.approx(penalised)
    best = max(tried, key=lambda step: tried[step]["held_out_objective"])
    assert told.best_step == best
    assert (told.best_reward, told.best_kl) == (
        tried[best]["held_out_reward"],
        tried[best]["held_out_kl"],
    )
    assert tried[0]["held_out_kl"] == pytest.approx(0, abs=1e-4)
    assert told.best_kl > 0.05


def test_a_reward_that_is_not_worth_its_kl_is_not_chosen(tmp_path):
    # No reward of a few words is worth 1,000 times its KL: the start has none, and is kept.
    told = _train(tmp_path, _CONFIG.model_copy(update={"beta": 1000.0, "learning_rate": 1e-3}))
    assert told.best_step == 0


def test_killed_at_any_step_it_ends_with_the_same_weights(tmp_path, monkeypatch):
    from selfimprove.training._policy_trainer import PolicyTrainer

    whole = _train(tmp_path / "whole")
    step, killed_at = PolicyTrainer.training_step, [1, 3, 5]

    def killed(self, *args, **settings):
        if killed_at and self.state.global_step == killed_at[0]:
            killed_at.pop(0)
            raise KeyboardInterrupt
        return step(self, *args, **settings)

    monkeypatch.setattr(PolicyTrainer, "training_step", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            _train(tmp_path / "killed")
    told = _train(tmp_path / "killed")
    assert weights_digest(tmp_path / "killed" / "model") == weights_digest(
        tmp_path / "whole" / "model"
    )
    assert (told.best_step, told.best_reward) == (whole.best_step, whole.best_reward)


@pytest.mark.parametrize(("references", "learns"), [(1, False), (2, True)])
def test_draws_are_compared_within_a_prompt_or_over_two_that_stand_together(
    references, learns, tmp_path
):
    def of_the_prompt_alone(keys, texts, _finished):
        return [float(key.rpartition("-")[2] in "02468") for key in keys]

    config = _CONFIG.model_copy(
        update={"n": 4, "references": references, "max_steps": 1, "batch_size": 2}
    )
    _train(tmp_path, config, of_the_prompt_alone)
    (spread,) = [e["grad_norm"] for e in _log(tmp_path) if "grad_norm" in e]
    assert (spread > 0) is learns


def test_how_rows_lie_is_tried_on_the_model_as_it_comes(tmp_path, monkeypatch):
    from selfimprove.training import support

    def limits(model, *_args, **_settings):
        assert model.config._attn_implementation == "sdpa"
        raise KeyboardInterrupt

    monkeypatch.setattr(support, "piece_limits", limits)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path)


def test_weights_of_another_training_are_not_put_into_the_best_policy(tmp_path):
    from selfimprove.training._tries import Tried, Tries

    tries = Tries(tmp_path, resumed_at=0)
    best = Tried(reward=1.0, kl=0.1, objective=0.9, unfinished=0.0, lowest=0.0, inside=True)
    learned = torch.nn.Linear(2, 1)
    tries.note(3, best, learned, writes=True)
    again = torch.nn.Linear(2, 1)
    tries.load_best(again, now=5)
    assert torch.equal(again.weight, learned.weight)
    with pytest.raises(TrainingError, match=r"tried-3\.safetensors holds other weights .* bias"):
        tries.load_best(torch.nn.Linear(2, 1, bias=False), now=5)


def test_the_best_policy_is_kept_and_not_the_last_one(tmp_path):
    calls = []

    def worse_later(
        keys: Sequence[str], texts: Sequence[str], finished: Sequence[bool]
    ) -> _Rewards:
        if keys[0].startswith("dev"):
            calls.append(len(keys))
            return [-float(len(calls)) for _ in texts]
        return _short(keys, texts, finished)

    told = _train(tmp_path, reward=worse_later)
    assert (told.best_step, told.best_reward, told.start_reward) == (0, -1.0, -1.0)
    assert _same_weights(folder(), tmp_path / "model")


def _runaway(folder: Path) -> TrainedPolicy:
    """Train so fast that the first step leaves the bound, by a reward that rises all the while."""
    calls: list[int] = []

    def rising(keys: Sequence[str], texts: Sequence[str], finished: Sequence[bool]) -> _Rewards:
        if keys[0].startswith("dev"):
            calls.append(len(keys))
            return [float(len(calls)) for _ in texts]
        return _short(keys, texts, finished)

    update = {"max_kl": 1e-3, "learning_rate": 3e-3, "try_every": 1, "save_every": 1}
    return _train(folder, _CONFIG.model_copy(update=update), reward=rising)


def test_a_policy_beyond_max_kl_ends_the_training_and_is_never_kept(tmp_path, caplog):
    told = _runaway(tmp_path)
    assert told.steps < 6
    assert "lower the learning rate or raise beta" in told.stopped
    assert "kept the policy of step" in caplog.text
    tried = {e["step"]: e for e in _log(tmp_path) if "held_out_reward" in e}
    last = max(tried)  # the runaway policy, with the highest reward of all
    assert tried[last]["held_out_reward"] > told.best_reward
    assert told.best_step < last
    assert told.best_kl == tried[told.best_step]["held_out_kl"] <= 1e-3


def test_a_training_stopped_for_its_kl_stays_stopped_when_it_is_resumed(tmp_path, monkeypatch):
    from selfimprove.training import model_folder

    whole = _runaway(tmp_path / "whole")
    write = model_folder.write_once
    monkeypatch.setattr(model_folder, "write_once", _killed)
    with pytest.raises(KeyboardInterrupt):
        _runaway(tmp_path / "killed")
    monkeypatch.setattr(model_folder, "write_once", write)
    told = _runaway(tmp_path / "killed")
    assert (told.best_step, told.steps) == (whole.best_step, whole.steps)
    assert told.stopped == whole.stopped


def _killed(*_args: object) -> None:
    raise KeyboardInterrupt


def test_where_not_even_the_start_is_inside_the_bound_it_comes_out_as_it_went_in(
    tmp_path, monkeypatch
):
    from selfimprove.training import _policy_trainer

    def far(self, rows):
        return [50.0 for _ in rows]

    monkeypatch.setattr(_policy_trainer.PolicyTrainer, "_kls", far)
    told = _train(tmp_path, _CONFIG.model_copy(update={"max_steps": 2}))
    assert (told.best_step, told.best_kl) == (0, 50.0)
    assert _same_weights(folder(), tmp_path / "model")


def _same_weights(before: Path, after: Path) -> bool:
    from safetensors.torch import load_file

    old, new = (load_file(f / "model.safetensors") for f in (before, after))
    return all(torch.equal(old[name].float(), new[name].float()) for name in old)


def test_an_unfinished_draw_is_worth_no_more_than_the_least_of_the_finished(tmp_path):
    """Long responses get more, and those that never end would get the most."""

    ended: list[bool] = []

    def longer(_keys: Sequence[str], texts: Sequence[str], finished: Sequence[bool]) -> _Rewards:
        ended.extend(finished)
        return [float(len(text)) for text in texts]

    told = train_policy(
        folder(), _prompts("train", 24), longer, _CONFIG.model_copy(update={"max_steps": 1}),
        _ENGINE, reference=folder(), held_out=_prompts("dev", 24), max_tokens=14,
        out=tmp_path / "model", checkpoints=tmp_path / "checkpoints", seed=0,
    )  # fmt: skip
    expected, share = _by_the_rule(_prompts("dev", 24), max_tokens=14)
    assert 0 < share < 1
    # The reward is told which draws came to their end: those of the start come first.
    assert ended[:24].count(False) == pytest.approx(24 * share)
    assert (told.start_reward, told.start_unfinished) == pytest.approx((expected, share))


def _by_the_rule(held_out: list[Prompt], max_tokens: int) -> tuple[float, float]:
    """Return the mean length of draws, where an unfinished one counts as the shortest finished one."""
    from selfimprove.sampling.engine import SamplingConfig, draw_in_order
    from selfimprove.sampling.torch_engine import TorchEngine
    from selfimprove.seeds import seed_of

    engine = TorchEngine(folder(), _ENGINE.model_copy(update={"dtype": "float32"}))
    sampling = SamplingConfig(n=1, temperature=1.0, max_tokens=max_tokens)
    draws = draw_in_order(engine, held_out, sampling, seed=seed_of(0, "held out"))
    shortest = min(len(d.text.strip()) for d in draws if d.finish == "stop")
    counted = [
        len(d.text.strip()) if d.finish == "stop" else min(len(d.text.strip()), shortest)
        for d in draws
    ]
    unfinished = [d.finish != "stop" for d in draws]
    return sum(counted) / len(counted), sum(unfinished) / len(unfinished)


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2, dropout=0.5)], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_and_rounding_are_no_distance_from_the_reference(tmp_path, dtype, lora):
    base = _with_dropout(tmp_path / "base")
    update = {"max_steps": 1, "dtype": dtype, "lora": lora}
    told = train_policy(
        base, _prompts("train", 6), _short, _CONFIG.model_copy(update=update), _ENGINE,
        reference=base, held_out=_prompts("dev", 4), max_tokens=12, out=tmp_path / "model",
        checkpoints=tmp_path / "checkpoints", seed=0,
    )  # fmt: skip
    assert (told.final_kl, told.start_kl) == (0.0, 0.0)


def _with_dropout(to: Path) -> Path:
    """Copy the shipped model, with dropout of a half in its attention."""
    shutil.copytree(folder(), to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    return to


def test_a_draw_without_a_reward_gets_the_least_of_its_batch(tmp_path):
    told = _train(tmp_path, _CONFIG.model_copy(update={"max_steps": 1}),
                  reward=lambda _keys, texts, _: [None, *(1.0 for _ in texts[1:])])  # fmt: skip
    assert told.first_reward == pytest.approx(1.0)


def test_adapters_are_trained_and_merged(tmp_path):
    config = _CONFIG.model_copy(
        update={"lora": LoraConfig(r=4), "max_steps": 2, "learning_rate": 1e-2}
    )
    told = _train(tmp_path, config)
    assert told.steps == 2
    assert not list((tmp_path / "model").glob("adapter*"))


def test_a_server_that_takes_adapters_needs_a_policy_that_has_them(tmp_path):
    served = EngineConfig(
        kind="server", server=ServerConfig(command=("false", "{port}"), adapters=True)
    )
    with pytest.raises(TrainingError, match="set `lora`"):
        train_policy(folder(), _prompts("train", 6), _short, _CONFIG, served, reference=folder(),
                     held_out=_prompts("dev", 1), max_tokens=8, out=tmp_path / "m",
                     checkpoints=tmp_path / "c", seed=0)  # fmt: skip


def test_a_training_without_prompts_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="there are 0 and 1"):
        train_policy(folder(), [], _short, _CONFIG, _ENGINE, reference=folder(),
                     held_out=_prompts("dev", 1), max_tokens=8, out=tmp_path / "m",
                     checkpoints=tmp_path / "c", seed=0)  # fmt: skip


def test_the_gradient_is_that_of_the_textbook_estimator(tmp_path):
    """One step of plain descent moves the weights by -rate x the sum that the formula gives."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from selfimprove.sampling.engine import SamplingConfig, draw_in_order
    from selfimprove.sampling.torch_engine import TorchEngine
    from selfimprove.seeds import rng, seed_of
    from selfimprove.training import _policy_trainer
    from selfimprove.training.policy_loss import leave_one_out

    held: dict[str, torch.Tensor] = {}
    scale = _policy_trainer.PolicyTrainer._scale

    def spied(self, model, advantages):
        scale(self, model, advantages)
        held["grad"] = model.get_input_embeddings().weight.grad.clone()

    config = _CONFIG.model_copy(update={"max_steps": 1, "normalize_advantages": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_policy_trainer.PolicyTrainer, "_scale", spied)
        _train(tmp_path, config)
    prompts = _prompts("train", 24)
    order = list(range(24))
    rng(0, "rl order", 0).shuffle(order)
    asked = [Prompt(str(place), prompts[i].content) for place, i in enumerate(order[:6])]
    sampling = SamplingConfig(n=3, temperature=1.0, max_tokens=40)
    draws = draw_in_order(TorchEngine(folder(), _ENGINE.model_copy(update={"dtype": "float32"})),
                          asked, sampling, seed=seed_of(0, "rl", 0, 0))  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder())
    rewards = torch.tensor(_short([], [d.text.strip() for d in draws], []))
    ended = torch.tensor([d.finish == "stop" for d in draws])
    rewards = torch.where(ended, rewards, rewards[ended].min())
    advantages = leave_one_out(rewards.view(6, 3)).flatten()
    loss = torch.zeros(())
    for number, draw in enumerate(draws):
        text = asked[number // 3].content[0].content  # type: ignore[union-attr]
        start = tokenizer(f"<|user|>{text}<|end|><|assistant|>")["input_ids"]
        ids = torch.tensor([[*start, *draw.tokens]])
        told = model(ids).logits.log_softmax(-1)[0, len(start) - 1 : -1]
        log_prob = told.gather(1, ids[0, len(start) :, None]).sum()
        loss = loss - advantages[number] * log_prob / len(draws)
    loss.backward()
    expected = model.get_input_embeddings().weight.grad
    assert isinstance(expected, torch.Tensor)
    assert torch.allclose(held["grad"], expected, atol=2e-4, rtol=1e-3)
