"""What else takes s3:// for a folder: single trainings, trainings of several processes, whoever asks a finished run.

Runs where SELFIMPROVE_S3 is set and obstore and moto are installed, as `make test-s3` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from tests.contract.s3_server import BUCKET, free_port, point_at, serving
from tests.smoke.killing import differences

import selfimprove as si
from selfimprove.models import locate
from selfimprove.remote import here
from selfimprove.remote.objects import open_objects

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_S3" not in os.environ or not (find_spec("obstore") and find_spec("moto")),
        reason="an S3 server takes minutes: `make test-s3`",
    ),
]

_SMOKE = Path(__file__).parents[1] / "smoke"
_FEW = ["learning_rate=1e-4", "max_steps=2", "batch_size=4"]
_FEW_QUESTIONS = ["data.train.limit=16", "data.test.limit=4", "data.ood=[]", "controls=[]", "evaluation.votes=2",
                  "formats.use=[standard]"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving() as url, pytest.MonkeyPatch.context() as patch:
        point_at(patch, url)
        patch.setenv("SELFIMPROVE_REMOTE_LEASE", "10")
        patch.setenv("SELFIMPROVE_CACHE", str(tmp_path_factory.mktemp("writer")))
        yield url


@pytest.fixture(scope="module")
def improver() -> str:
    """A finished PIT run."""
    url = f"s3://{BUCKET}/commands/pit"
    _command("run", str(_SMOKE / "small-pit.yaml"), "ablations=[]", "--out", url)
    return url


def _command(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "selfimprove", *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _elsewhere(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Become another machine: nothing of a run is here yet."""
    patch.setenv("SELFIMPROVE_CACHE", str(folder / "reader"))


@pytest.mark.parametrize(
    "words",
    [
        ("sft", "tiny", "--data", "tiny:train", "layout=direct"),
        ("reward", "tiny", "--data", "tiny:train"),
    ],
)
def test_a_single_training_at_a_url_is_the_model_that_a_folder_becomes(
    words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, limit = f"s3://{BUCKET}/commands/{words[0]}", ("--limit", "24")
    _command(*words, *limit, *_FEW, "--out", url)
    _command(*words, *limit, *_FEW, "--out", str(tmp_path / "here"))
    _elsewhere(monkeypatch, tmp_path)
    assert locate(url).digest == locate(str(tmp_path / "here")).digest


def test_a_model_that_python_trains_lies_at_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/commands/fine-tuned"
    questions = si.read_questions("tiny:train", limit=4)
    with si.Model("tiny", device="cpu") as model:
        paths = si.draw_paths(model, questions, m=2, max_tokens=24)
        rows = si.training_rows(questions, paths)
        trained = si.fine_tune(model, rows, out=url, max_steps=2, batch_size=4)
    drawn = trained.generate("Q: What is 2 + 3?", max_tokens=4, temperature=0)
    _elsewhere(monkeypatch, tmp_path)
    with si.Model(url, device="cpu") as pulled:
        assert pulled.generate("Q: What is 2 + 3?", max_tokens=4, temperature=0) == drawn


def test_a_run_at_a_url_trains_in_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/commands/two-processes"
    words = [str(_SMOKE / "small.yaml"), *_FEW_QUESTIONS, "--num-processes", "2"]
    _command("run", *words, "--out", url)
    _command("run", *words, "--out", str(tmp_path / "here"))
    _elsewhere(monkeypatch, tmp_path)
    told = open_objects(url, 10.0).read("round-1-model/done.json")
    assert told is not None
    assert json.loads(told[0])["training"]["processes"] == 2
    assert locate(url).digest == locate(str(tmp_path / "here")).digest
    root = here(url)
    assert not [name for name in differences(tmp_path / "here", root) if "json" in name]


def test_a_run_at_a_url_improves_responses(
    improver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _elsewhere(monkeypatch, tmp_path)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "Write about a owl."}) + "\n")
    told = _command("improve", improver, str(prompts), "--steps", "1", "--json")
    assert len(told.splitlines()) == 1
    assert json.loads(told)


def test_a_run_at_a_url_is_served(
    improver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _elsewhere(monkeypatch, tmp_path)
    port = free_port()
    words = [sys.executable, "-m", "selfimprove", "serve", improver, "--port", str(port)]
    asked = Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps({"model": "pit", "max_tokens": 8, "messages": [{"role": "user", "content": "Write about a owl."}]})
        .encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with subprocess.Popen(words, stderr=subprocess.PIPE) as server:
        try:
            deadline = time.monotonic() + 300
            while not _answers(port):
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            said = json.loads(urlopen(asked, timeout=120).read())
            assert said["choices"][0]["message"]["role"] == "assistant"
        finally:
            server.kill()


def _answers(port: int) -> bool:
    with suppress(OSError):
        return bool(urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10).status == 200)
    return False
