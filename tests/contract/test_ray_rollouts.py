"""Policies drawn from by replicas of a real Ray: the weights of one process, whoever dies.

Runs where SELFIMPROVE_RAY is set, as `make test-ray` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.contract.rollouts_alone import logged, train
from tests.contract.test_ray import _descendants, _replicas

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.ray_policy import RayPolicy
from selfimprove.tiny.shipped import folder
from selfimprove.weights import weights_digest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_RAY" not in os.environ, reason="Ray takes minutes: `make test-ray`"
    ),
    pytest.mark.filterwarnings("ignore"),
]

_STEPS = 8
_ALONE = Path(__file__).with_name("rollouts_alone.py")


def _learned(root: Path) -> str:
    """Return the digest of the last weights, whichever were the best."""
    return weights_digest(root / "checkpoints" / f"checkpoint-{_STEPS}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By staleness: a trainer that draws itself, and two replicas a step ahead."""
    root = tmp_path_factory.mktemp("whole")
    train(root / "0", 0, 0)
    train(root / "1", 2, 1)
    return {0: root / "0", 1: root / "1"}


def test_two_replicas_give_the_weights_of_one_process(tmp_path: Path, whole: dict[int, Path]):
    train(tmp_path, 2, 0)
    assert _learned(tmp_path) == _learned(whole[0])
    assert weights_digest(tmp_path / "model") == weights_digest(whole[0] / "model")
    assert max(logged(tmp_path, "sampling_logp_difference_max")) < 1e-4


def test_a_step_ahead_any_number_of_replicas_gives_the_same(tmp_path: Path, whole: dict[int, Path]):
    train(tmp_path, 1, 1)
    assert _learned(tmp_path) == _learned(whole[1]) != _learned(whole[0])


@pytest.mark.parametrize("staleness", [0, 1])
def test_killed_it_goes_on_to_the_same_weights(
    tmp_path: Path, whole: dict[int, Path], staleness: int
):
    for steps in (3, 6):
        assert _killed_after(tmp_path, staleness, steps) < _STEPS
    subprocess.run(_command(tmp_path, staleness), check=True, capture_output=True)
    assert _learned(tmp_path) == _learned(whole[staleness])
    assert weights_digest(tmp_path / "model") == weights_digest(whole[staleness] / "model")


def _killed_after(root: Path, staleness: int, steps: int) -> int:
    """Kill a training once its log has so many steps; return how many it has by then."""
    before = len(logged(root, "reward"))
    with subprocess.Popen(
        _command(root, staleness), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        deadline = time.monotonic() + 300
        # What it makes again after the checkpoint is in the log twice.
        while max(logged(root, "step"), default=0) < steps or len(logged(root, "reward")) == before:
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
    return int(max(logged(root, "step")))


def _command(root: Path, staleness: int) -> list[str]:
    return [sys.executable, str(_ALONE), str(root), "2", str(staleness)]


def test_a_replica_that_is_killed_is_replaced_by_one_that_gets_the_newest_weights(
    tmp_path: Path, whole: dict[int, Path], monkeypatch: pytest.MonkeyPatch
):
    given = RayPolicy.give
    victims: list[int] = []

    def give(self: RayPolicy, weights: object) -> None:
        if len(logged(tmp_path, "reward")) == 3 and not victims:
            victims.append(_a_replica())
            os.kill(victims[0], signal.SIGKILL)
        given(self, weights)  # type: ignore[arg-type]

    monkeypatch.setattr(RayPolicy, "give", give)
    train(tmp_path, 2, 0)
    assert victims
    assert _learned(tmp_path) == _learned(whole[0])


def _a_replica() -> int:
    """Return the number of a process that is a replica of this one's Ray."""
    own = _descendants(os.getpid())
    return next(pid for pid in _replicas() if pid in own)


def test_replicas_by_vllm_are_refused_before_anything_is_begun():
    engine = EngineConfig.model_validate({"kind": "ray", "ray": {"per_replica": "vllm"}})
    with pytest.raises(EngineError, match="per_replica=torch"):
        RayPolicy(folder(), engine)
