"""A real lm-evaluation-harness on two tasks of our own, asked about a run and about models.

Runs where SELFIMPROVE_LM_EVAL is set, as `make test-lm-eval` does.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfimprove.cli import app
from selfimprove.tiny.shipped import folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_LM_EVAL" not in os.environ or importlib.util.find_spec("lm_eval") is None,
        reason="lm-evaluation-harness takes minutes: `make test-lm-eval`",
    ),
]

_SUMS = r"""
task: own_sums
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/sums.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "Q: {{question}}\nA:"
doc_to_target: "{{answer}}"
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, regexes_to_ignore: ["(?s).*#### "]}
generation_kwargs: {until: ["\n\n"], do_sample: false, max_gen_toks: 48}
filter_list:
  - name: strict-match
    filter: [{function: regex, regex_pattern: "The answer is (-?[0-9]+)"}, {function: take_first}]
  - name: flexible-extract
    filter: [{function: regex, group_select: -1, regex_pattern: "(-?[0-9]+)"}, {function: take_first}]
"""
_CHOICE = r"""
task: own_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/choice.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "Q: {{question}}\nA:"
doc_to_target: "{{label}}"
doc_to_choice: "{{options}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the tasks and their data, and let nothing look at the network or at a cache of others."""
    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1"),
                        ("HF_HOME", str(tmp_path / "hf")), ("OMP_NUM_THREADS", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    inner = tmp_path / "tasks"
    inner.mkdir()
    for name, text in (("sums", _SUMS), ("choice", _CHOICE)):
        (inner / f"{name}.yaml").write_text(text.replace("FOLDER", str(inner)))
    sums = [{"question": f"Mia has {a} shells and finds 2 more. How many shells has she?",
             "answer": f"{a} + 2\n#### {a + 2}"} for a in range(1, 7)]  # fmt: skip
    choice = [{"question": s["question"], "options": [" 2", " 3"], "label": n % 2}
              for n, s in enumerate(sums)]  # fmt: skip
    (inner / "sums.jsonl").write_text("\n".join(map(json.dumps, sums)))
    (inner / "choice.jsonl").write_text("\n".join(map(json.dumps, choice)))
    return inner


def test_a_run_is_measured_before_and_after(tasks: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text('{"model": "tinier"}')
    (run / "summary.json").write_text("{}")
    (run / "finished.json").write_text('{"model": "model"}')
    (run / "model").symlink_to(folder(), target_is_directory=True)
    done = CliRunner().invoke(app, ["eval", "lm-eval", str(run), "--task", "own_sums", "--task",
                                    "own_choice", "--include-path", str(tasks), "--device", "cpu",
                                    "--json"])  # fmt: skip
    assert done.exception is None, done.output
    told = json.loads(done.stdout)
    assert told == json.loads((run / "harness.json").read_text())
    figures = {(f["task"], f["filter"], f["metric"]): f["systems"] for f in told["figures"]}
    assert figures.keys() == {
        ("own_sums", "strict-match", "exact_match"),
        ("own_sums", "flexible-extract", "exact_match"),
        ("own_choice", "none", "acc"),
    }
    for before, after in figures.values():
        assert (before["n"], after["n"]) == (6, 6)
        assert after["versus_first"]["difference"] == pytest.approx(
            after["value"] - before["value"]
        )
    assert [m["model"] for m in told["models"]] == ["tinier", str(run)]
    page = CliRunner().invoke(app, ["report", str(run), "--json"]).stdout
    assert json.loads(page)["harness"] == told


def test_what_the_harness_cannot_do_is_told_with_its_last_words(
    tasks: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["eval", "lm-eval", "tiny", "--task", "no_such_task", "--out",
                                    str(tmp_path / "out"), "--device", "cpu"])  # fmt: skip
    assert done.exception is not None
    assert "lm-evaluation-harness failed on tiny" in str(done.exception)
