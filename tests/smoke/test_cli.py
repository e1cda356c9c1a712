"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from selfimprove import cli
from selfimprove.data.alpaca_eval import ModelOutput, read_outputs, write_outputs

_SMALL = Path(__file__).parent / "small.yaml"
_QUICK = ["controls=[]", "data.ood=[]", "evaluation.modes=[cot]"]
_ANNOTATIONS = "alpaca_eval/alpaca-7b__alpaca_eval_gpt4__annotations.json"


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
    told = capsys.readouterr().out
    assert "is finished; nothing was done" in told
    assert "the model, as it was measured: /" in told
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


def test_the_word_after_eval_is_a_command_or_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "eval", "--help") == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("MODEL", "accuracy", "head-to-head", "judge"))
    assert call(monkeypatch, "eval", "tiny", "--help") == 0
    of_model = capsys.readouterr().out
    assert call(monkeypatch, "eval", "accuracy", "--help") == 0
    assert of_model == capsys.readouterr().out
    assert "--data" in of_model
    assert call(monkeypatch, "eval", "head-to-head", "--help") == 0
    assert "--preferences" in capsys.readouterr().out


def test_the_options_of_eval_may_come_before_the_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "eval", "--data", "tiny:dev", "./nowhere") == 1
    assert "no model at './nowhere'" in capsys.readouterr().err


def test_the_published_row_is_printed(
    shared_data: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counted = ["eval", "head-to-head", "--preferences", str(shared_data(_ANNOTATIONS))]
    assert call(monkeypatch, *counted) == 0
    text = capsys.readouterr().out
    assert "alpaca-7b against text_davinci_003" in text
    assert "805 on 805 prompts: 205 won, 584 lost, 16 tied, 0 not judged" in text
    assert "26.459627%" in text
    assert "1.535711%" in text
    assert call(monkeypatch, *counted, "--json") == 0
    assert json.loads(capsys.readouterr().out)["win_rate"] == pytest.approx(0.26459627329)


def outputs(folder: Path, generator: str, *texts: str) -> str:
    """Write a file of model outputs and return its path."""
    path = folder / f"{generator}.json"
    rows = [ModelOutput("mine", f"question {n}", text, generator) for n, text in enumerate(texts)]
    write_outputs(path, rows)
    return str(path)


def test_two_files_of_outputs_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = outputs(tmp_path, "new", *(f"an answer of {n} words" for n in range(30)))
    second = outputs(tmp_path, "old", *(f"another {n}" for n in range(30)))
    asked = ["eval", "head-to-head", first, second, "--judge", "tiny", "judge.kind=random"]
    assert call(monkeypatch, *asked, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["first"], told["second"], told["n"], told["unscored"]) == ("new", "old", 30, 0)
    low, high = told["win_rate_interval"]
    assert low < 0.5 < high  # a judge that knows nothing
    assert told["first_length"] > told["second_length"]
    assert call(monkeypatch, *asked, "--limit", "12") == 0
    assert "12 on 12 prompts" in capsys.readouterr().out


def test_reasoning_in_outputs_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = outputs(tmp_path, "new", *("<think>At length.</think>\n\nFour." for _ in range(9)))
    second = outputs(tmp_path, "old", *("Five." for _ in range(9)))
    asked = ["eval", "head-to-head", first, second, "--judge", "tiny", "judge.kind=random"]
    assert call(monkeypatch, *asked, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["first_length"] == told["second_length"] == 5


@pytest.mark.slow
def test_two_models_answer_and_are_judged_and_their_outputs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = ["--judge", "tiny", "judge.prompt=tiny", "judge.votes=1", "judge.max_tokens=40"]
    asked = ["eval", "head-to-head", "tiny", "tinier", *judged, "--json", "--limit", "12"]
    answered = ["--prompts", "tiny:test", "sampling.max_tokens=40", "--outputs", str(tmp_path)]
    assert call(monkeypatch, *asked, *answered) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["first"], told["second"]) == ("tiny", "tinier")
    assert told["n"] + told["unscored"] == 12
    kept = read_outputs(tmp_path / "first.json")
    assert [o.generator for o in kept] == ["tiny"] * 12
    # The kept outputs, judged again, end as the models did.
    files = [str(tmp_path / f"{name}.json") for name in ("first", "second")]
    assert call(monkeypatch, "eval", "head-to-head", *files, *judged, "--json") == 0
    assert json.loads(capsys.readouterr().out) == told


def test_a_judge_is_measured_against_people(
    shared_data: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [
        "eval",
        "judge",
        "--data",
        str(shared_data("llmbar/Natural.json")),
        "--judge",
        "random",
    ]
    assert call(monkeypatch, *asked) == 0
    text = capsys.readouterr().out
    assert "100 of 100 judged" in text
    assert "people prefer longer" in text
    assert call(monkeypatch, *asked, "--json", "--limit", "20") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["matches"] == 20
    low, high = told["accuracy"]["interval"]
    assert low < 0.5 < high


def test_seeds_are_made_of_real_conversations_and_the_funnel_is_told(
    tmp_path: Path,
    shared_data: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trees = str(shared_data("oasst/en_tree.jsonl"))
    assert call(monkeypatch, "data", "seeds", trees, "--as", "oasst", "--out", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "trees with a best reply" in text
    assert "no usable reply of rank 0: 1" in text
    rows = [json.loads(line) for line in (tmp_path / "ift.jsonl").read_text().splitlines()]
    assert len(rows) == 93
    assert all(row["prompt"] and row["completion"] for row in rows)
    assert not (tmp_path / "eft.jsonl").exists()  # no model was named that judges


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
        (["eval", "nowhere", "--data", "tiny:dev"], "no model at 'nowhere'"),
        (["eval", "head-to-head"], "two systems and --judge MODEL, or --preferences FILE"),
        (["eval", "head-to-head", "a.json", "b.json"], "--judge MODEL"),
        (["eval", "head-to-head", "a.json", "b.json", "--judge", "tiny"], "no file a.json"),
        (["eval", "head-to-head", "tiny", "tinier", "--judge", "tiny"], "needs --prompts"),
        (["eval", "head-to-head", "a", "b", "--judge", "self"], "no run whose model it could be"),
        (["eval", "head-to-head", "a", "b", "--judge", "tiny", "judge.vote=1"], "mean 'votes'"),
        (["eval", "head-to-head", "--preferences", "nowhere.json"], "no file nowhere.json"),
        (["eval", "head-to-head", "a", "--preferences", "b"], "--gamed and --json go with it"),
        (["eval", "judge", "--data", "nowhere.json", "--judge", "random"], "nowhere.json"),
        (["eval", "judge", "--data", str(_SMALL), "--judge", "random", "vote=1"], "mean 'votes'"),
        (["data", "seeds", "nowhere.jsonl", "--as", "oasst", "--out", "o"], "nowhere.jsonl"),
        (["data", "seeds", "x", "--as", "oasst", "--out", "o", "judge.vote=1"], "mean 'votes'"),
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


def test_models_are_listed_and_an_unknown_one_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path))
    assert call(monkeypatch, "models") == 0
    listed = capsys.readouterr().out
    assert "tinier" in listed
    assert "not here: selfimprove models get smollm2-135m" in listed
    assert call(monkeypatch, "models", "get", "smolm2-135m") == 1
    assert "did you mean smollm2-135m" in capsys.readouterr().err


def test_the_installed_command_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "selfimprove", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: selfimprove" in done.stdout
