"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfimprove import cli

_SMALL = Path(__file__).parent / "small.yaml"
_QUICK = ["controls=[]", "data.ood=[]", "evaluation.modes=[cot]"]


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run a command in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["selfimprove", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_help_names_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("run", "report", "eval", "data", "tiny", "doctor"))


@pytest.mark.slow
def test_run_report_and_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", str(_SMALL), *_QUICK, "--out", str(tmp_path / "run")]
    assert call(monkeypatch, *run, "--dry-run") == 0
    assert "to do" in capsys.readouterr().out
    assert call(monkeypatch, *run) == 0
    assert "on 24 held-out questions" in capsys.readouterr().out
    assert call(monkeypatch, *run) == 0
    assert "is finished; nothing was done" in capsys.readouterr().out
    assert call(monkeypatch, "report", str(tmp_path / "run")) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.read_text().startswith("<!doctype html>")
    assert call(monkeypatch, "report", str(tmp_path / "run"), "--json") == 0
    head = json.loads(capsys.readouterr().out)["headline"]
    assert {"metric", "before", "after", "difference", "interval", "n"} <= head.keys()


@pytest.mark.slow
def test_eval_prints_figures_for_a_person_and_for_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["eval", "tiny", "--data", "tiny:dev", "--limit", "8", "votes=2", "max_tokens=48"]
    assert call(monkeypatch, *asked) == 0
    assert "maj@2" in capsys.readouterr().out
    assert call(monkeypatch, *asked, "modes=[cot]", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scores"][0]["n"] == 8


def test_data_check_counts_and_names_the_broken_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n{"quest": "2 + 2?"}\n')
    assert call(monkeypatch, "data", "check", str(file), "--as", "gsm8k") == 1
    text = capsys.readouterr().out
    assert "2 rows, 1 good" in text
    assert "line 2" in text


def test_doctor_tells_what_a_model_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "doctor", "--model", "tiny") == 0
    text = capsys.readouterr().out
    assert "million parameters" in text
    assert "to fine-tune" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "nowhere.yaml"], "no recipe at nowhere.yaml"),
        (["run", str(_SMALL), "paths.temprature=1"], "did you mean 'temperature'"),
        (["run", str(_SMALL), "model=./nowhere", "--dry-run"], "no model at './nowhere'"),
        (["report", "nowhere"], "nowhere"),
        (["data", "check", "nowhere.jsonl", "--as", "gsm8k"], "nowhere.jsonl"),
        (["data", "check", str(_SMALL), "--as", "gsm9k"], "gsm8k"),
        (["eval", "tiny", "--data", "tiny:dev", "vote=3"], "did you mean 'votes'"),
    ],
)
def test_what_a_user_can_mend_is_one_message(
    words: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *words) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert says in text
    assert "Traceback" not in text


def test_stopping_by_hand_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(**_settings: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    assert "the same command goes on" in capsys.readouterr().err


def test_the_installed_command_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "selfimprove", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: selfimprove" in done.stdout
