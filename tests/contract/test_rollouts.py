"""A policy drawn from where it does not learn: the same weights as ever, a step ahead if asked, killed or not."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract.rollouts_alone import logged, prompts_of

from selfimprove.errors import CorruptShardError, TrainingError
from selfimprove.sampling.engine import EngineConfig, SamplingConfig, ServerConfig
from selfimprove.sampling.held_policy import HeldPolicy, Weights, packed
from selfimprove.seeds import seed_of
from selfimprove.tiny.shipped import folder
from selfimprove.training import _policy_sampler, model_folder
from selfimprove.training._mismatch import Mismatch
from selfimprove.training.policy_config import PolicyGradientConfig, RolloutConfig
from selfimprove.training.policy_gradient import TrainedPolicy, train_policy
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.training_config import LoraConfig
from selfimprove.training.whole_weights import whole_weights
from selfimprove.types import Draw, Prompt
from selfimprove.weights import weights_digest

pytestmark = pytest.mark.slow

_HERE = EngineConfig(chat=True, device="cpu", dtype="float32")
_APART = EngineConfig(chat=True, device="cpu", dtype="float32", kind="ray")
_STEPS = 4
_CONFIG = PolicyGradientConfig(learning_rate=1e-3, batch_size=4, n=2, max_steps=_STEPS, try_every=2,
                               save_every=1, beta=0.02)  # fmt: skip


class _Replica:
    """What a replica holds, in this process: weights come as they do there."""

    def __init__(self) -> None:
        self._held = HeldPolicy(folder(), _HERE)
        self.given = 0
        self.drawn: list[tuple[int, int]] = []
        """Seeds of draws, each with how many times weights had been given by then."""

    def give(self, weights: Weights) -> None:
        for part in packed(weights):
            self._held.take(part)
        self.given += 1

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        self.drawn.append((seed, self.given))
        yield from self._held.draw(prompts, sampling, seed)

    def close(self) -> None:
        """Hold nothing."""


@pytest.fixture(scope="module", autouse=True)
def replicas() -> Iterator[list[_Replica]]:
    """Each training's, in the place of Ray's."""
    begun: list[_Replica] = []

    def begin(*_: object) -> _Replica:
        begun.append(_Replica())
        return begun[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_policy_sampler, "_replicas", begin)
        yield begun


def _train(root: Path, engine: EngineConfig = _APART, **rollouts: Any) -> TrainedPolicy:
    how = {"by": "engine", **rollouts} if engine is not _HERE else {}
    config = PolicyGradientConfig.model_validate({**_CONFIG.model_dump(), "rollouts": how})
    return train_policy(
        folder(), prompts_of("train", 12), lambda _k, texts, _e: [-len(t.split()) / 4 for t in texts],
        config, engine, reference=folder(), held_out=prompts_of("dev", 4), max_tokens=16,
        out=root / "model", checkpoints=root / "checkpoints", seed=0,
    )  # fmt: skip


def _learned(root: Path) -> str:
    """Return the digest of the last weights, whichever were the best."""
    return weights_digest(root / "checkpoints" / f"checkpoint-{_STEPS}")


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory, replicas: list[_Replica]) -> Path:
    """A training whose draws are made a step ahead."""
    root = tmp_path_factory.mktemp("ahead")
    _train(root, max_staleness=1)
    return root


def test_weights_are_those_of_a_trainer_that_draws_itself(tmp_path: Path, replicas: list[_Replica]):
    here, apart = _train(tmp_path / "here", _HERE), _train(tmp_path / "apart")
    assert _learned(tmp_path / "here") == _learned(tmp_path / "apart")
    assert (here.best_step, here.best_reward) == (apart.best_step, apart.best_reward)
    # Once a step, however often is drawn of it; once more for the last try.
    assert replicas[-1].given == _STEPS + 1
    assert max(logged(tmp_path / "apart", "sampling_logp_difference_max")) < 1e-4
    assert not logged(tmp_path / "here", "sampling_kl")


def test_a_step_ahead_is_drawn_of_the_weights_before(ahead: Path, replicas: list[_Replica]):
    given = dict(replicas[-1].drawn)
    # Weights that were given for the k-th time are those after k - 1 steps.
    at = [given[seed_of(0, "rl", step, 0)] - 1 for step in range(_STEPS)]
    assert at == [0, 0, 1, 2]
    off = logged(ahead, "sampling_logp_difference")
    assert max(off[:2]) < 1e-5  # the first step warms up: nothing has changed by the second
    assert min(off[2:]) > 1e-3
    assert len(logged(ahead, "sampling_truncated")) == _STEPS - 1


def test_killed_with_draws_under_way_it_ends_with_the_same_weights(
    tmp_path: Path, ahead: Path, monkeypatch: pytest.MonkeyPatch
):
    from selfimprove.training._policy_trainer import PolicyTrainer

    step, killed_at = PolicyTrainer.training_step, [2]

    def killed(self: Any, *args: Any) -> torch.Tensor:
        if killed_at and self.state.global_step == killed_at[0]:
            killed_at.pop(0)
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(PolicyTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, max_staleness=1)
    _train(tmp_path, max_staleness=1)
    assert _learned(tmp_path) == _learned(ahead)
    assert weights_digest(tmp_path / "model") == weights_digest(ahead / "model")


def test_a_checkpoint_without_what_was_drawn_ahead_is_told_of(tmp_path: Path, ahead: Path):
    shutil.copytree(ahead / "checkpoints", tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints" / f"checkpoint-{_STEPS}")
    (drawn,) = (tmp_path / "checkpoints").glob(f"rollouts-{_STEPS - 1}.*.json")
    drawn.unlink()
    with pytest.raises(CorruptShardError, match=drawn.name):
        _train(tmp_path, max_staleness=1)


@pytest.mark.parametrize(
    ("how", "factor"),
    [
        ({"importance_sampling": "none"}, [1.0, 1.0, 1.0]),
        ({"importance_sampling": "token"}, [1.0, 2.0, 0.5]),
        ({"importance_sampling": "token", "clip_max": 1.5}, [1.0, 1.5, 0.5]),
        ({"importance_sampling": "sequence"}, [2.0, 2.0, 0.5]),
    ],
)
def test_a_token_teaches_as_often_as_it_counts(how: dict[str, Any], factor: list[float]):
    sampled = ((-1.0, -2.0), (-0.5,))
    held = torch.tensor([-1.0, -2.0 + math.log(2), -0.5 - math.log(2)]).requires_grad_()
    mismatch = Mismatch(RolloutConfig(by="engine", **how), corrects=True)
    mismatch.counted(held, torch.tensor([2, 1]), sampled).sum().backward()
    assert held.grad is not None
    assert held.grad.tolist() == pytest.approx(factor)
    noted = mismatch.noted()
    assert noted["sampling_logp_difference"] == pytest.approx([0.0, math.log(2), math.log(2)])
    assert noted["sampling_logp_difference_max"] == pytest.approx([math.log(2)])


def test_adapters_are_sent_as_a_part_of_what_they_change():
    model, _, _ = model_folder.load(folder(), SftConfig(lora=LoraConfig(r=4)), 0)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.fill_(0.05)
    sent = {name: weights.clone() for name, weights in whole_weights(model)}
    merged = dict(model_folder.merged(model, dict).named_parameters())
    assert sent.keys() == merged.keys()
    for name, weights in merged.items():
        assert torch.allclose(sent[name], weights, atol=1e-6)


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (EngineConfig(kind="torch"), "draws where the policy learns"),
        (EngineConfig(kind="server", server=ServerConfig(url="http://127.0.0.1:1/v1")), "command"),
    ],
)
def test_an_engine_that_takes_no_weights_is_refused(tmp_path: Path, engine: EngineConfig, why: str):
    with pytest.raises(TrainingError, match=why):
        _train(tmp_path, engine)
