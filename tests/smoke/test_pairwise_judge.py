"""Whole runs under a judge that compares: every method that a judge measures, to the last figure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.smoke.dry_runs import check_bounds

from selfimprove.report.page import write
from selfimprove.runtime.launch import launch
from selfimprove.sampling import served
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.open import open_engine
from selfimprove.types import Draw, Prompt

_HERE = Path(__file__).parent
_PAIRWISE = "evaluation.judge={kind: pairwise, model: tiny, votes: 1, temperature: 0}"


class _KnownJudge:
    """An engine whose every choice between two responses is known beforehand: the longer one."""

    def __init__(self, model: Path, config: EngineConfig) -> None:
        self._own = open_engine(model, config)
        self.identity = self._own.identity
        self.logprobs, self.close = self._own.logprobs, self._own.close

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        texts = [p.content if isinstance(p.content, str) else p.content[0].content for p in prompts]
        if not all("Response B: " in text for text in texts):
            yield from self._own.draw(prompts, sampling, seed=seed)
            return
        for prompt, text in zip(prompts, texts, strict=True):
            first, second = (
                text.split(f"Response {name}: ")[1].split("\n==")[0] for name in ("A", "B")
            )
            choice = "A" if len(first) > len(second) else "B"
            yield Draw(prompt.key, 0, f"Better: {choice}", "stop", 1, 1)


@pytest.fixture(autouse=True)
def _known_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "open_engine", _KnownJudge)


def _finished(recipe: str, overrides: list[str], root: Path) -> dict[str, Any]:
    launch(_HERE / recipe, overrides, root, lambda _line: None)
    check_bounds(_HERE / recipe, overrides, root)
    assert 'id="run-1-win_rates"' in write([root], root / "report.html").read_text()
    told: dict[str, Any] = json.loads((root / "summary.json").read_text())
    return told


@pytest.mark.slow
def test_self_rewarding_is_measured_by_win_rates(tmp_path: Path) -> None:
    small = [_PAIRWISE, "evaluation.draws=2", "evaluation.scorer=judge", "iterations=1"]
    told = _finished("small-self-rewarding.yaml", small, tmp_path / "run")
    opponents = {a["name"]: [s["against"] for s in a["scores"]] for a in told["arms"]}
    assert opponents == {
        "sft": [], "m1": ["sft"], "m2": ["m1"], "random-judge": ["m1"], "no-eft": ["sft"],
    }  # fmt: skip
    assert told["headline"]["metric"] == "win rate against m1"
    assert {h["n"] for h in told["head_to_head"]} == {24 * 2}
    assert any(h["wins"] != h["losses"] for h in told["head_to_head"])


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["judge", "oracle"])
def test_pit_is_measured_by_win_rates(tmp_path: Path, scorer: str) -> None:
    small = [_PAIRWISE, "evaluation.draws=1", f"evaluation.scorer={scorer}",
             "evaluation.temperatures=[]", "evaluation.reference_use=null"]  # fmt: skip
    if scorer == "oracle":
        small += ["ablations=[]", "baselines.self_refine=null", "rounds=first", "gap=difference"]
        launch(_HERE / "small-pit.yaml", small, tmp_path / "run", lambda _line: None)
        told = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert told["headline"]["unit"] == "points"
    else:
        told = _finished("small-pit.yaml", small, tmp_path / "run")
        assert told["headline"]["metric"] == "win rate against policy-sft"
        before = {a["name"]: [s["against"] for s in a["scores"]] for a in told["arms"]}
        assert (before["policy-sft"], before["pit-y1"], before["pit-y2"]) == (
            [], ["policy-sft"], ["pit-y1"],
        )  # fmt: skip
        assert all(row["n"] == 12 for row in told["ablations"])
    judged = {(p["first"], p["second"]) for p in told["pairs_of_systems"] if p["scorer"] == "judge"}
    assert {("pit-y2", "pit-y1"), ("pit-y2", "policy-sft"), ("best-of-2", "pit-y1")} <= judged
    for pair in told["pairs_of_systems"]:
        assert pair["win"] + pair["tie"] + pair["lose"] == pytest.approx(1)
