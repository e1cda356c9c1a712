"""Every error at the edge of the program is a message: what, where, and what to do."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from selfimprove import cli
from selfimprove.data.read import check, read_questions
from selfimprove.errors import DiskFullError, EngineError, StoreError, TrainingError
from selfimprove.files import make_folder, told, write_json, writing_to
from selfimprove.sampling.literal_text import control_tokens_in
from selfimprove.tiny.card import Made
from selfimprove.tiny.pretrain import _restore
from selfimprove.tiny.shipped import folder as shipped


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that must fail with status 1, and return its one message."""
    monkeypatch.setattr(sys, "argv", ["selfimprove", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "error: " in said
    return said.rpartition("error: ")[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.jsonl"
    path.write_text('{"prompt": "Q: 1\\nA:", "completion": " 1"}\n')
    return path


_RECIPE = Path(__file__).parents[1] / "smoke" / "small.yaml"


@pytest.mark.parametrize(
    "words",
    [
        ("run", _RECIPE, "--out", "{}"),
        ("run", _RECIPE, "--out", "{}/within"),
        ("sft", "tiny", "--data", "{}", "--out", "{}"),
        ("tiny", "pretrain", "{}", "--steps", "1"),
        ("eval", "head-to-head", "tiny", "tinier", "--judge", "random", "--prompts", "tiny:dev",
         "--limit", "1", "--outputs", "{}"),
    ],
)  # fmt: skip
def test_an_out_that_is_a_file_is_told_at_once(monkeypatch, capsys, file, words) -> None:
    said = run(monkeypatch, capsys, *(str(word).format(file) for word in words))
    assert str(file) in said
    assert "a file stands where a folder is needed: choose another place" in said


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no file")
@pytest.mark.parametrize(
    "words",
    [
        ("tiny", "pretrain", "/proc/self", "--steps", "1"),
        ("eval", "head-to-head", "tiny", "tinier", "--judge", "random", "--prompts", "tiny:dev",
         "--limit", "1", "--outputs", "/proc/self"),
        ("run", _RECIPE, "--out", "/proc/self"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_made(
    monkeypatch, capsys, words
) -> None:
    for work in ("selfimprove.tiny.pretrain._train", "selfimprove.evaluation.versus.respond"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("it is at work"))
    assert "/proc/self" in run(monkeypatch, capsys, *words)


@pytest.mark.parametrize("words", [("report", "{}"), ("improve", "{}"), ("report", "{}/nothing")])
def test_a_folder_that_is_no_run_is_told(monkeypatch, capsys, tmp_path, words) -> None:
    said = run(monkeypatch, capsys, *(word.format(tmp_path) for word in words))
    assert str(tmp_path) in said
    assert "selfimprove run" in said


def test_a_recipe_that_is_no_yaml_or_a_folder_is_told(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [b\nc: d")
    assert "is not a YAML file" in run(monkeypatch, capsys, "run", tmp_path / "bad.yaml")
    assert "is not a YAML file" in run(monkeypatch, capsys, "run", tmp_path)


def broken(folder: Path, name: str) -> Path:
    """Copy the shipped model and cut one of its files in half."""
    shutil.copytree(shipped(), folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("way", ["eval", "sft"])
def test_a_damaged_model_folder_is_named(monkeypatch, capsys, tmp_path, file, name, way) -> None:
    model = broken(tmp_path / "model", name)
    words = {
        "eval": ("eval", model, "--data", "tiny:dev", "--limit", "1"),
        "sft": ("sft", model, "--data", file, "--out", tmp_path / "out"),
    }
    assert str(model) in run(monkeypatch, capsys, *words[way])


def test_a_folder_that_lacks_weights_is_never_filled_up_with_random_ones(
    monkeypatch, capsys, tmp_path
) -> None:
    shutil.copytree(shipped(), tmp_path / "model")
    held = load_file(shipped() / "model.safetensors")
    del held["model.layers.1.mlp.up_proj.weight"]
    save_file(held, tmp_path / "model" / "model.safetensors")
    said = run(
        monkeypatch, capsys, "eval", tmp_path / "model", "--data", "tiny:dev", "--limit", "1"
    )
    assert "lacks 1 weights of its architecture, such as model.layers.1.mlp.up_proj.weight" in said


def test_what_the_system_refuses_says_what_to_do() -> None:
    refused = PermissionError(errno.EACCES, "Permission denied", "/data/rows.jsonl")
    assert told(refused) == (
        "/data/rows.jsonl: permission denied; change its permissions, or choose another place"
    )


def test_an_error_of_the_system_is_no_traceback(monkeypatch, capsys, tmp_path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x.yaml"))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "x.yaml: permission denied" in run(monkeypatch, capsys, "run", tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        RuntimeError("Error while serializing: I/O error: No space left (os error 28)"),
    ],
)
def test_a_full_disk_is_known_by_the_words_of_every_library(error: Exception) -> None:
    with pytest.raises(DiskFullError, match="no room left to write /runs/x"), \
            writing_to(Path("/runs/x")):  # fmt: skip
        raise error


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), writing_to(Path("/runs/x")):
        raise RuntimeError("shapes differ")
    with pytest.raises(ConnectionError), writing_to(Path("/runs/x")):
        raise ConnectionError(errno.ECONNREFUSED, "refused")


def test_a_page_that_would_replace_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(StoreError, match="a folder stands where a file is needed"):
        write_json(tmp_path / "page.html", {})
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        make_folder(tmp_path / "file" / "runs")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (r'{"prompt": "hi \ud800", "completion": "x"}', "holds half of a surrogate pair"),
        ('{"prompt": "hi", "completion": "x", "n": ' + "1" * 5000 + "}", "too many digits"),
    ],
)
def test_a_row_that_cannot_be_kept_is_named_and_binds_nothing(
    monkeypatch, capsys, file, tmp_path, line, says
) -> None:
    good = file.read_text()
    file.write_text(good + line + "\n")
    out = tmp_path / "out"
    said = run(monkeypatch, capsys, "sft", "tiny", "--data", file, "--out", out)
    assert f"{file}, line 2:" in said
    assert says in said
    assert not (out / "rows").exists()


def test_an_emoji_in_escapes_is_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(r'{"question": "\ud83d\ude00?", "answer": "1"}')
    assert [q.text for q in read_questions(path, "questions")] == ["😀?"]


def test_rows_with_nan_or_half_a_surrogate_pair_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(r'[{"question": NaN, "answer": "1"}, {"question": "\udc00", "answer": "1"}, '
                    r'{"question": "Why?", "answer": NaN}]')  # fmt: skip
    told = check(path, "questions")
    assert [(b.place, b.problem.split(",")[0]) for b in told.bad] == [
        ("row 1", "'question' is nan"),
        ("row 2", r"holds half of a surrogate pair (\ud800 to \udfff)"),
    ]
    assert (told.good, told.unlabelled) == (1, 1)


def test_a_file_without_rows_is_told(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "e.json").write_text("[]")
    said = run(monkeypatch, capsys, "eval", "tiny", "--data", f"gsm8k:{tmp_path}/e.json")
    assert "e.json is empty: it holds no rows" in " ".join(said.split())


def test_a_damaged_parquet_file_is_named(monkeypatch, capsys, tmp_path) -> None:
    file = tmp_path / "p.parquet"
    pq.write_table(pa.table({"question": ["Why?"] * 9, "answer": ["#### 1"] * 9}), file)
    content = bytearray(file.read_bytes())
    content[4:40] = b"\xff" * 36  # the header of a page
    file.write_bytes(content)
    said = run(monkeypatch, capsys, "data", "check", file, "--as", "gsm8k")
    assert "p.parquet is not a whole Parquet file" in " ".join(said.split())


def test_json_that_is_nested_too_deeply_is_told(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "o.json").write_text("[" * 100_000)
    file = tmp_path / "o.json"
    said = run(monkeypatch, capsys, "eval", "head-to-head", file, file, "--judge", "random")
    assert f"{file} is no JSON file" in said


@pytest.mark.parametrize("role", [["user"], {"a": 1}, 3, None])
def test_a_turn_with_an_odd_role_is_a_broken_row(tmp_path: Path, role: object) -> None:
    turns = [{"role": role, "content": "Why?"}]
    (tmp_path / "p.json").write_text(
        json.dumps([{"prompt": turns, "chosen": "So.", "rejected": "No."}])
    )
    (bad,) = check(tmp_path / "p.json", "preferences").bad
    assert bad.place == "row 1"


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"PK\x03\x04" + b"\0" * 100])
def test_a_damaged_checkpoint_of_a_pretraining_is_told(tmp_path: Path, content: bytes) -> None:
    model = torch.nn.Linear(1, 1)
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is damaged: delete it"):
        _restore(tmp_path / "checkpoint.pt", Made("tiny", 0, 1, 1), model, None)  # type: ignore[arg-type]


def test_a_damaged_tokenizer_beside_a_server_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(EngineError, match=r"tokenizer\.json is damaged"):
        control_tokens_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "null"),
        ("config.json", '{"model_type": "llama", "hidden_size": "x"}'),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "null"),
    ],
)
def test_a_model_folder_of_odd_files_is_named(
    monkeypatch, capsys, tmp_path, name: str, content: str
) -> None:
    shutil.copytree(shipped(), tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    said = run(
        monkeypatch, capsys, "eval", tmp_path / "model", "--data", "tiny:dev", "--limit", "1"
    )
    assert str(tmp_path / "model") in said


def test_adapters_for_layers_that_are_not_there_are_told_of(
    monkeypatch, capsys, file, tmp_path
) -> None:
    words = ("--data", file, "--out", tmp_path / "out", "epochs=1", "lora.target_modules=[flurb]")
    said = run(monkeypatch, capsys, "sft", "tiny", *words)
    assert "lora.target_modules=('flurb',): Target modules {'flurb'} not found" in said
