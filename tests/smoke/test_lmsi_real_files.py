"""The shipped recipes run through every step on the real question files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.smoke.random_model import random_qwen2

from selfimprove.runtime.launch import launch

Find = Callable[[str], Path]

_RECIPE = Path(__file__).parents[2] / "recipes" / "lmsi-gsm8k.yaml"
_SMALL = [
    "data.train_limit=6",
    "data.test_limit=4",
    "paths.m=8",
    "paths.max_tokens=48",
    "evaluation.votes=4",
    "evaluation.max_tokens=48",
    "sft.max_steps=2",
    "sft.batch_size=4",
    "sft.max_length=8192",
    "engine.device=cpu",
    "controls=[unfiltered]",
]
_SIX = {
    "gsm8k": "gsm8k/train.jsonl",
    "drop": "drop/drop_dev_part.jsonl.gz",
    "arc": "arc_challenge/train.json",
    "openbookqa": "openbookqa/train.tsv",
}
_ANLI = ("anli/r2_dev_part.jsonl", "anli/r3_dev_part.jsonl")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_qwen2(tmp_path_factory.mktemp("model") / "random-qwen2")


def _silent(_line: str) -> None:
    """Announce nothing."""


@pytest.mark.slow
def test_the_gsm8k_recipe_runs_on_the_real_questions(
    model: Path, shared_data: Find, tmp_path: Path
) -> None:
    files = [
        f"data.train={shared_data('gsm8k/train.jsonl')}",
        f"data.test={shared_data('gsm8k/test_first660.jsonl')}",
    ]
    root = launch(_RECIPE, [f"model={model}", *files, *_SMALL], tmp_path / "run", _silent).root
    summary = json.loads((root / "summary.json").read_text())
    assert summary["headline"]["n"] == 4
    assert [a["name"] for a in summary["arms"]] == ["base", "round-1", "unfiltered"]


@pytest.mark.slow
def test_the_six_sets_of_the_paper_run_together(
    model: Path, shared_data: Find, tmp_path: Path
) -> None:
    sources = [f"{kind}:{shared_data(name)}" for kind, name in _SIX.items()]
    sources += [f"anli:{shared_data(name)}" for name in _ANLI]
    listed = json.dumps(sources)
    files = [f"data.train={listed}", f"data.test={listed}"]
    small = [*_SMALL, "data.train_limit=3", "data.test_limit=2", "engine.chat=false", "controls=[]"]
    root = launch(_RECIPE, [f"model={model}", *files, *small], tmp_path / "run", _silent).root
    summary = json.loads((root / "summary.json").read_text())
    together = f"all {len(sources)} sets"
    assert summary["headline"]["set"] == together
    first, *others = dict.fromkeys(s["set"] for s in summary["arms"][0]["scores"])
    assert (first, len(others)) == (together, len(sources))
