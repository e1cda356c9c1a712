"""The benchmarks are scripts: what they import is there, and in the right order; what they keep is true."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import pytest

from selfimprove.rows import Filtered, encode
from selfimprove.store import Run
from selfimprove.types import FinishReason, Question, Response, Verdict

_FOLDER = Path(__file__).parents[1] / "benchmarks"
_FILES = sorted(_FOLDER.glob("*.py"))
_OURS = {file.stem for file in _FILES}
_SCRIPTS = [file for file in _FILES if "argparse.ArgumentParser(" in file.read_text()]


def _imports(file: Path) -> list[tuple[str, list[str]]]:
    """Modules that a file imports when it is loaded, in order, and the names it takes from them."""
    found = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
    return found


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_takes_from_the_project_is_there(file: Path) -> None:
    for module, names in _imports(file):
        if module.split(".")[0] == "selfimprove":
            loaded = importlib.import_module(module)
            assert [name for name in names if not hasattr(loaded, name)] == []
        elif module in _OURS:
            told = ast.parse((_FOLDER / f"{module}.py").read_text()).body
            there = {n.name for n in told if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            there |= {t.id for n in told if isinstance(n, ast.Assign)
                      for t in n.targets if isinstance(t, ast.Name)}  # fmt: skip
            there |= {n.target.id for n in told
                      if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}  # fmt: skip
            assert set(names) <= there


@pytest.mark.parametrize("file", _SCRIPTS, ids=lambda file: file.stem)
def test_selfimprove_is_imported_before_torch(file: Path) -> None:
    # It sets what torch's OpenMP reads once, when torch is loaded.
    modules = [module for module, _ in _imports(file)]
    heavy = ("torch", "datasets", "tokenizers", "transformers", "trl", "real_size", "plain_loop")
    first = min((modules.index(m) for m in heavy if m in modules), default=len(modules))
    assert "machine" in modules[:first]


def _asked(text: str) -> Filtered[Question]:
    return Filtered([Question(text, "gsm8k", text, "number")], ())


def test_figures_of_a_run_say_when_and_with_what_the_run_was_made_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(_FOLDER))
    run = Run(tmp_path / "run")
    run.rows("first", _asked, "one")
    run.rows("last", _asked, "two")
    run.close()
    for name, finished, torch in (("first", "2026-01-02T23:59:00+00:00", "2.0"),
                                  ("last", "2026-01-03T00:01:00+00:00", "2.1")):  # fmt: skip
        done = run.root / name / "done.json"
        engine = {"engine": "torch", "threads": "1", "weights": name}
        told = {"finished": finished, "versions": {"torch": torch}, "engines": [engine]}
        done.write_text(json.dumps(json.loads(done.read_text()) | told))
    for name in ("recipe", "summary"):
        (run.root / f"{name}.json").write_text(f'"{name}"')
    found = importlib.import_module("run_figures").figures(run.root, "abc1234", ["selfimprove run"])
    assert (found["commit"], found["date"]) == ("abc1234", "2026-01-03")
    assert found["versions"] == [{"torch": "2.0"}, {"torch": "2.1"}]  # it went on with another
    assert found["engines"] == [{"engine": "torch", "threads": "1"}]
    assert list(found["result"]["steps"]) == ["first", "last"]
    assert set(found["machine"]) == {"cpu", "cpu_has", "memory_gib", "gpu"}  # no load, no versions


def _answer(run: Path, system: str, told: list[tuple[FinishReason, float]]) -> None:
    """Store what a system answered to one prompt after the other: how it ended, and its score."""
    answers = [Response(f"p{i}", "?", 0, "x" * (i + 1), finish, 3)
               for i, (finish, _) in enumerate(told)]  # fmt: skip
    verdicts = [Verdict(f"p{i}", 0, 0, score, None, "") for i, (_, score) in enumerate(told)]
    for step, rows, row_type in ((f"{system}-responses", answers, Response),
                                 (f"{system}-truth", verdicts, Verdict)):  # fmt: skip
        (run / step).mkdir()
        (run / step / "shard-00000.parquet").write_bytes(encode(rows, row_type))


def test_finished_answers_are_compared_without_the_matches_that_a_cut_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(_FOLDER))
    compared = importlib.import_module("finished_alone").compared
    _answer(tmp_path, "new", [("stop", 3), ("stop", 1), ("stop", 1), ("length", 9), ("length", 9)])
    _answer(tmp_path, "old", [("stop", 1), ("stop", 2), ("length", 9), ("length", 1), ("stop", 1)])
    told = compared(tmp_path, "new", "old")
    counted = [
        [told[of][name] for name in ("wins", "ties", "losses")] for of in ("all", "finished")
    ]
    assert counted == [[2, 1, 2], [1, 0, 1]]  # the cut ones: one won, one tied, one lost
    assert told["finished"]["mean_score_difference"] == 0.5  # of +2 and -1


def test_systems_are_compared_in_each_seed_and_over_the_matches_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(_FOLDER))
    module = importlib.import_module("seeds_together")
    judged = importlib.import_module("finished_alone").judged
    scores = {"0": {"new": [3, 1, 2], "old": [1, 2, 2]}, "1": {"new": [4, 4, 4], "old": [1, 1, 4]}}
    for seed, answers in scores.items():
        (tmp_path / seed).mkdir()
        for name, points in answers.items():
            _answer(tmp_path / seed, name, [("stop", point) for point in points])
    arms = [{name: judged(tmp_path / seed, name) for name in ("new", "old")} for seed in scores]
    told = module.compared(arms, "new", "old")
    counted = [
        [one[name] for name in ("wins", "ties", "losses")]
        for one in (*told["by_seed"], told["all"])
    ]
    assert counted == [[1, 1, 1], [2, 1, 0], [3, 2, 1]]
    assert told["all"]["decided_rate"] == 0.75
