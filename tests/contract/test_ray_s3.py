"""Replicas on a real Ray, the run at s3://, and chaos: an actor, the S3 server and the driver are killed.

Runs where SELFIMPROVE_RAY is set and obstore and moto are installed, as `make test-ray` does.
SELFIMPROVE_CHAOS=lmsi-tiny: with this recipe instead of the small ones of the tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.contract.s3_server import BUCKET, Lasting, point_at
from tests.contract.test_ray import _APART, _EXACT, _TWO, _descendants, _replicas, _same, _working
from tests.smoke.killing import command, run_whole

from selfimprove.errors import RemoteError
from selfimprove.remote import here, whole
from selfimprove.remote.objects import open_objects

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_RAY" not in os.environ or not (find_spec("obstore") and find_spec("moto")),
        reason="Ray and an S3 server take minutes: `make test-ray`",
    ),
    pytest.mark.filterwarnings("ignore"),
]

_SMOKE = Path(__file__).parents[1] / "smoke"
_CHAOS = os.environ.get("SELFIMPROVE_CHAOS")
_SHARDS = {
    "small.yaml": ["paths.shard_questions=4", "evaluation.shard_questions=4"],
    "small-self-rewarding.yaml": ["candidates.shard_prompts=5", "evaluation.shard_prompts=4"],
    "small-pit.yaml": ["evaluation.shard_prompts=2", *_APART],
}
_RECIPES = [(Path(_CHAOS), [])] if _CHAOS else [(_SMOKE / name, more) for name, more in _SHARDS.items()]  # fmt: skip
_MOST = 7_200.0  # seconds; somebody else may use this machine


@pytest.mark.parametrize(("recipe", "more"), _RECIPES, ids=[str(r[0].stem) for r in _RECIPES])
def test_a_run_at_s3_by_two_replicas_that_is_killed_everywhere_is_that_of_one_process(
    recipe: Path, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*_EXACT, *more]
    run_whole(recipe, tmp_path / "one", [*words, "engine.kind=torch"])
    shards = len(list((tmp_path / "one").glob("*/shard-*.json")))
    server = Lasting(tmp_path / "recording")
    point_at(monkeypatch, server.url)
    monkeypatch.setenv("SELFIMPROVE_REMOTE_LEASE", "10")
    # On a busy machine the server takes minutes to come back.
    monkeypatch.setenv("SELFIMPROVE_REMOTE_PATIENCE", "1800")
    run = _Run(recipe, [*words, *_TWO], f"s3://{BUCKET}/of/{recipe.stem}")
    try:
        monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "first machine"))
        run.start()
        run.kill_an_actor(behind=0.1 * shards)
        run.kill_the_server(server, behind=0.25 * shards)
        run.kill_the_driver(behind=0.4 * shards)
        monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "second machine"))
        run.start()
        run.kill_an_actor(behind=0.5 * shards)
        run.kill_the_server(server, behind=0.65 * shards)
        assert run.process.wait(_MOST) == 0
        _same(tmp_path / "one", _pulled(run.url))
    finally:
        run.end()
        server.kill()


class _Run:
    """A command that writes at s3://, and those who end what it needs."""

    def __init__(self, recipe: Path, words: Sequence[str], url: str) -> None:
        self._words = command(recipe, Path(url), words)
        self.url = url
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        self.process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def kill_an_actor(self, behind: float) -> None:
        """Kill (-9) a replica that draws, behind so many shards."""
        self._until(lambda: self._shards() > behind)
        self._until(lambda: bool(self._drawing()))
        victim = self._drawing()[0]
        os.kill(victim, signal.SIGKILL)
        self._told(f"replica {victim} is killed")
        self._until(lambda: victim not in _replicas())

    def kill_the_server(self, server: Lasting, behind: float) -> None:
        """Kill (-9) the S3 server, which comes back half a lease later as it was."""
        self._until(lambda: self._shards() > behind)
        server.kill()
        self._told("the S3 server is killed")
        time.sleep(5)
        assert self.process.poll() is None
        server.again()
        self._told("the S3 server is back")

    def kill_the_driver(self, behind: float) -> None:
        """Kill (-9) the process that was started; all that it had started ends by itself."""
        self._until(lambda: self._shards() > behind)
        started = _descendants(self.process.pid)
        self.end()
        self._told("the driver is killed")
        deadline = time.monotonic() + 120
        while started & set(_replicas()):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _drawing(self) -> list[int]:
        own = _descendants(self.process.pid)
        return [pid for pid in _working() if pid in own]

    def _shards(self) -> int:
        """Return how many are published."""
        try:
            names = open_objects(self.url, 10.0).names()
        except RemoteError:
            return 0
        return sum("/shard-" in name and name.endswith(".json") for name in names)

    def _told(self, line: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}, behind {self._shards()} shards\n")

    def _until(self, seen: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _MOST
        while not seen():
            assert self.process.poll() is None, f"it ended first, behind {self._shards()} shards"
            assert time.monotonic() < deadline
            time.sleep(0.3)  # a list of all objects each time


def _pulled(url: str) -> Path:
    root = here(url)
    for step in root.glob("*/step.json"):
        whole(step.parent)
    return root
