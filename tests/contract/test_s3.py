"""A run at s3://, against a real S3 server: killed, cut off, raced for and damaged, it ends as a local one.

Runs where SELFIMPROVE_S3 is set and obstore and moto are installed, as `make test-s3` does.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.contract.s3_server import BUCKET, Wire, denying, point_at, serving
from tests.smoke.killing import command, differences

from selfimprove.errors import CorruptShardError, LockedRunError, RemoteError
from selfimprove.models import locate
from selfimprove.remote import here, whole
from selfimprove.remote.objects import Objects, open_objects
from selfimprove.remote.place import copy_of
from selfimprove.report.figures import figures
from selfimprove.report.listing import listed
from selfimprove.report.page import write
from selfimprove.runtime.launch import launch, plan_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_S3" not in os.environ or not (find_spec("obstore") and find_spec("moto")),
        reason="an S3 server takes minutes: `make test-s3`",
    ),
]

_SMALL = Path(__file__).parent.parent / "smoke" / "small.yaml"
_TINY = [
    "model=tinier", "data.train.limit=16", "data.dev.limit=6", "data.test.limit=6", "data.ood=[]", "controls=[]",
    "paths.m=2", "paths.max_tokens=32", "paths.shard_questions=2", "evaluation.votes=2", "evaluation.modes=[cot]",
    "evaluation.max_tokens=32", "evaluation.shard_questions=3", "sft.epochs=4", "sft.batch_size=4",
    "sft.save_every=4",
]  # fmt: skip


def _silent(_line: str) -> None:
    """Announce nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launch(_SMALL, _TINY, tmp_path_factory.mktemp("local") / "run", _silent).root


@pytest.fixture(autouse=True)
def settings(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point_at(monkeypatch, server)
    monkeypatch.setenv("SELFIMPROVE_REMOTE_LEASE", "10")
    monkeypatch.setenv("SELFIMPROVE_REMOTE_PATIENCE", "40")
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "first"))


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/of/{request.node.name}"


def _elsewhere(patch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Become another machine: nothing of a run is here yet."""
    patch.setenv("SELFIMPROVE_CACHE", str(folder / name))


def _pulled(url: str) -> Path:
    root = here(url)
    for step in root.glob("*/step.json"):
        whole(step.parent)
    return root


def _objects(url: str) -> Objects:
    return open_objects(url, 10.0)


def _killed_once(
    url: str, reached: Callable[[set[str]], bool], overrides: Sequence[str] = _TINY
) -> set[str]:
    """Start the run, kill -9 it once so much is published, and return what is there."""
    there: set[str] = set()
    with subprocess.Popen(
        command(_SMALL, Path(url), overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while not reached(there):
                assert process.poll() is None, f"it ended first; {sorted(there)}"
                time.sleep(0.02)
                there = set(_objects(url).names())
        finally:
            os.kill(process.pid, signal.SIGKILL)
    return set(_objects(url).names())


def test_a_run_at_a_url_equals_a_local_one_and_can_be_read_from_anywhere(
    local: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not launch(_SMALL, _TINY, Path(url), _silent).was_finished
    assert launch(_SMALL, _TINY, Path(url), _silent).was_finished
    _elsewhere(monkeypatch, tmp_path, "reader")
    assert {s.state for s in plan_recipe(_SMALL, _TINY, Path(url)).steps} == {"done"}
    assert figures(Path(url))["headline"] == figures(local)["headline"]
    assert [run.state for run in listed(Path(url).parent) if run.path == Path(url)] == ["finished"]
    write([Path(url)], Path(url) / "report.html")
    assert b"<html" in (_objects(url).read("report.html") or (b"", ""))[0][:500]
    pulled = here(url)
    assert not list(pulled.glob("*/model/model.safetensors"))  # a report needs no model
    assert locate(url).digest == locate(str(local)).digest
    assert differences(local, _pulled(url)) == []


def test_killed_in_the_middle_of_sampling_it_goes_on_elsewhere(
    local: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _killed_once(url, lambda names: "round-1-paths/shard-00001.json" in names)
    assert "round-1-paths/done.json" not in there
    _elsewhere(monkeypatch, tmp_path, "second")
    said: list[str] = []
    launch(_SMALL, _TINY, Path(url), said.append)
    assert any("round-1-paths: resuming" in line for line in said)
    assert any("waiting up to 10 s" in line for line in said)
    assert differences(local, _pulled(url)) == []


def test_killed_in_training_it_goes_on_from_a_published_checkpoint(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = [*_TINY, "sft.epochs=50", "sft.save_every=20"]
    marker = re.compile(r"round-1-model/checkpoints/checkpoint-\d+\.json")
    there = _killed_once(url, lambda names: any(map(marker.fullmatch, names)), longer)
    assert "round-1-model/done.json" not in there
    _elsewhere(monkeypatch, tmp_path, "second")
    found: list[str] = []

    def look(line: str) -> None:
        if line == "round-1-model: started":
            found.extend(path.name for path in copy_of(url).glob("round-1-model/checkpoints/*"))

    root = launch(_SMALL, longer, Path(url), look).root
    assert found
    other = launch(_SMALL, longer, tmp_path / "uninterrupted", _silent).root
    assert differences(other, root) == []
    assert not any("/checkpoints/" in name for name in _objects(url).names())


def test_a_run_outlives_a_server_that_is_away_for_a_while(
    local: Path, url: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(server)
    point_at(monkeypatch, wire.url)

    def interrupt() -> None:
        while "round-1-paths/shard-00000.json" not in direct.names():
            time.sleep(0.05)
        wire.cut()
        time.sleep(6)
        wire.mend()

    with pytest.MonkeyPatch.context() as patch:
        point_at(patch, server)
        direct = _objects(url)
    cutting = threading.Thread(target=interrupt)
    cutting.start()
    root = launch(_SMALL, _TINY, Path(url), _silent).root
    cutting.join()
    assert differences(local, root) == []
    assert "finished.json" in direct.names()


def test_a_server_that_stays_away_is_told_and_the_next_run_publishes_what_it_missed(
    local: Path, url: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(server)
    point_at(monkeypatch, wire.url)
    monkeypatch.setenv("SELFIMPROVE_REMOTE_PATIENCE", "2")
    said: list[str] = []

    def announce(line: str) -> None:
        said.append(line)
        if line.startswith("round-1-paths: started"):
            wire.cut()

    with pytest.raises(RemoteError, match=rf"{url}/.*cannot be reached.*the same command on this"):
        launch(_SMALL, _TINY, Path(url), announce)
    wire.mend()
    root = launch(_SMALL, _TINY, Path(url), _silent).root
    assert differences(local, root) == []
    assert "finished.json" in _objects(url).names()


def test_of_two_drivers_one_is_refused(
    local: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def second(line: str) -> None:
        if not line.startswith("round-1-votes: started"):
            return
        with pytest.MonkeyPatch.context() as patch:
            _elsewhere(patch, tmp_path, "second")
            patch.setattr("socket.gethostname", lambda: "second")
            with pytest.raises(LockedRunError, match="is being written by") as told:
                launch(_SMALL, _TINY, Path(url), _silent)
            refused.append(str(told.value))

    root = launch(_SMALL, _TINY, Path(url), second).root
    assert refused
    assert differences(local, root) == []


def test_a_damaged_and_a_truncated_shard_are_named_and_made_again(
    local: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(_SMALL, _TINY, Path(url), _silent)
    objects = _objects(url)
    shard = "round-1-paths/shard-00002"
    held = objects.read(f"{shard}.parquet")
    assert held is not None
    for bad in (bytes(len(held[0])), held[0][:-7]):
        objects.put(f"{shard}.parquet", bad)
        objects.delete(["finished.json"])
        _elsewhere(monkeypatch, tmp_path, f"second of {len(bad)}")
        with pytest.raises(
            CorruptShardError, match=f"{shard}.parquet .*delete it, .*{shard}.json and"
        ):
            launch(_SMALL, _TINY, Path(url), _silent)
        objects.delete([f"{shard}.parquet", f"{shard}.json", "round-1-paths/done.json"])
        root = launch(_SMALL, _TINY, Path(url), _silent).root
        assert differences(local, root) == []
        assert objects.read(f"{shard}.parquet") is not None


def test_what_is_wrong_with_a_place_is_told_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(
        RemoteError, match=r"s3://no-such-bucket/run.*: there is no such bucket: make it"
    ):
        here("s3://no-such-bucket/run")
    with denying() as refusing:
        point_at(monkeypatch, refusing)
        with pytest.raises(RemoteError, match="access is denied: these credentials need to list"):
            here(f"s3://{BUCKET}/run")
    monkeypatch.setenv("SELFIMPROVE_REMOTE_PATIENCE", "1")
    with pytest.raises(RemoteError, match=r"cannot be reached.*AWS_ENDPOINT_URL"):
        here(f"s3://{BUCKET}/run")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(RemoteError, match="no credentials were found"):
        here(f"s3://{BUCKET}/run")


@pytest.mark.skipif(find_spec("boto3") is None, reason="profiles are read by boto3")
def test_credentials_of_a_profile_are_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[mine]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert _objects(url).names() == {}
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(RemoteError, match="check AWS_PROFILE"):
        _objects(url)


def test_a_lock_at_s3_is_taken_by_one_of_many_at_once(url: str) -> None:
    objects = [_objects(url) for _ in range(8)]
    won: list[int] = []

    def take(index: int) -> None:
        if objects[index].put_if("lock.json", json.dumps({"by": index}).encode(), None) is not None:
            won.append(index)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(len(objects))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    held = objects[0].read("lock.json")
    assert held is not None
    assert json.loads(held[0]) == {"by": won[0]}
    assert objects[1].put_if("lock.json", b"{}", held[1]) is not None
    assert objects[2].put_if("lock.json", b"{}", held[1]) is None
