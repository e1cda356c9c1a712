"""A run that could not be summarised ends before its first token, not after its last training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfimprove.errors import ConfigError, DataError, SelfImproveError
from selfimprove.runtime.launch import launch

_HERE = Path(__file__).parent
_LMSI, _SELF_REWARDING, _PIT = "small.yaml", "small-self-rewarding.yaml", "small-pit.yaml"


@pytest.mark.parametrize(
    ("recipe", "override", "kind", "said"),
    [
        (_LMSI, "data.test=[]", ConfigError, r"data\.test holds no question"),
        (_LMSI, "data.train=[]", ConfigError, r"data\.train holds no question"),
        (_LMSI, "data.dev=gsm8k:missing.jsonl", DataError, r"missing\.jsonl"),
        (_LMSI, "data.dev={source: test, limit: 12}", DataError, "one of data.test"),
        (_SELF_REWARDING, "evaluation.validation=oasst:missing.jsonl", DataError, "missing"),
        (_SELF_REWARDING, "evaluation.judging=oasst:missing.jsonl", DataError, "missing"),
        (_SELF_REWARDING, "evaluation.validation={format: tiny, source: test, limit: 9}", DataError,
         "one of evaluation.prompts"),
        (_SELF_REWARDING, "evaluation.judge={kind: pairwise}", ConfigError, "takes no part"),
        (_SELF_REWARDING, "evaluation.judge={kind: pairwise, model: nowhere}", SelfImproveError,
         "no model at 'nowhere'"),
        (_SELF_REWARDING, "judge={kind: pairwise, votes: 1, prompt: pairwise} & seeds.ranked=oasst:x",
         ConfigError, r"seeds\.ranked: verdicts become judging examples where they are reviews"),
        (_SELF_REWARDING, "judge={kind: random, votes: 1} & learn=positives", ConfigError,
         "learn: positives needs the perfect score of a rubric"),
        (_PIT, "evaluation={preferences: 'hh_rlhf:missing.jsonl'}", DataError, "missing"),
        (_PIT, "max_prompt_tokens=3", DataError, "fits max_prompt_tokens|folds"),
        (_PIT, "evaluation.judge={kind: pairwise}", ConfigError, "takes no part"),
        (_PIT, "template=nowhere", ConfigError, "no improvement template is called 'nowhere'"),
        (_PIT, "baselines.rubric=nowhere", ConfigError, "no rubric is called 'nowhere'"),
        (_PIT, "improve.temperature=[]", ConfigError, r"improve\.temperature"),
        (_PIT, "improve.temperature=-0.5", ConfigError, r"improve\.temperature"),
        (_PIT, "evaluation.temperatures=[0.5, -1]", ConfigError, r"evaluation\.temperatures\.1"),
        (_LMSI, "formats.use=[]", ConfigError, r"formats\.use"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_summarised_ends_before_the_first_token(
    tmp_path: Path, recipe: str, override: str, kind: type[SelfImproveError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        launch(_HERE / recipe, override.split(" & "), tmp_path / "run", lambda _line: None)
    for record in (tmp_path / "run").glob("*/done.json"):
        told = json.loads(record.read_text())
        assert told.get("tokens_sampled", 0) == told.get("tokens_trained", 0) == 0
    assert not list((tmp_path / "run").glob("*-model"))
