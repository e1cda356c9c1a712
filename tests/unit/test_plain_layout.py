"""Without a chat template: one plain layout wherever a model is trained, sampled or judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest

from selfimprove.data.preferences import Preference
from selfimprove.judges.judge import compare, judge
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.methods.pit import stages as pit
from selfimprove.methods.self_rewarding import plot as self_rewarding
from selfimprove.methods.self_rewarding.pairs import ScoredPair
from selfimprove.sampling import responses, served
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.served import Served
from selfimprove.training.dpo import DpoConfig
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import (
    Demonstration,
    Draw,
    Match,
    Message,
    ModelRef,
    Prompt,
    Request,
    Response,
    UserPrompt,
)

_PLAIN = EngineConfig(chat=False)
_MODEL = ModelRef("m", "nowhere", "digest")
_LAID_OUT = "Human:\nWhy?\n\nAssistant:\n"


class _Engine:
    identity: ClassVar[dict[str, str]] = {"engine": "fake"}

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def draw(self, prompts: Sequence[Prompt], *_: SamplingConfig, seed: int) -> Iterator[Draw]:
        for prompt in prompts:
            self.shown.append(prompt.content)
            yield Draw(prompt.key, 0, "Score: 1\nBetter: A", "stop", 1, 1)

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> _Engine:
    found = _Engine()
    monkeypatch.setattr(served, "open_engine", lambda _folder, _config: found)
    return found


def test_candidates_and_answers_are_asked_for_behind_a_separator(engine: _Engine) -> None:
    sampling = SamplingConfig()
    list(responses.respond([[UserPrompt("p", "s", "Why?")]], Served(_MODEL, _PLAIN), sampling, 0))
    request = Request("p", "Why?", 0, (Message("user", "Why?"),))
    list(responses.answer([[request]], Served(_MODEL, _PLAIN), sampling, 0))
    assert engine.shown == [_LAID_OUT, _LAID_OUT]


def test_judges_are_asked_in_the_layout_they_are_trained_in(engine: _Engine) -> None:
    one = JudgeConfig(votes=1)
    list(judge([[Response("p", "Why?", 0, "So.", "stop", 1)]], Served(_MODEL, _PLAIN), one, 0))
    two = JudgeConfig(kind="pairwise", votes=1)
    list(compare([[Match("m", "p", "Why?", "So.", "Because.")]], Served(_MODEL, _PLAIN), two, 0))
    assert len(engine.shown) == 3
    for shown in engine.shown:
        assert shown.startswith("Human:\n")
        assert shown.endswith("\n\nAssistant:\n")


def test_supervised_and_preference_training_see_what_sampling_sees() -> None:
    given = [Demonstration("d", "s", "Why?", "So.")]
    (one,) = self_rewarding.imitate(_MODEL, given, [], SftConfig(), _PLAIN.layout, 0).examples
    told = [ScoredPair("p", "Why?", "So.", "No.", 1.0, 0.0, 1, 1)]
    (pair,) = self_rewarding.prefer(_MODEL, told, DpoConfig(), _PLAIN.layout, 0).pairs
    preferences = [Preference("p", "s", (Message("user", "Why?"),), "So.", "No.")]
    (other,) = pit.imitate(_MODEL, preferences, SftConfig(), _PLAIN.layout, 0).examples
    assert [one.prompt, pair.prompt, other.prompt] == [_LAID_OUT] * 3
