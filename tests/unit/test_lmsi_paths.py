"""LMSI's paths: where they end, and what they vote for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest

from selfimprove.data.exemplars import Exemplar, ExemplarSet
from selfimprove.methods.lmsi.config import FormatsConfig, PathsConfig
from selfimprove.methods.lmsi.low_resource import ExemplarsConfig, own_exemplars, solve
from selfimprove.methods.lmsi.plot import draw_paths, mixed_formats
from selfimprove.sampling import served
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.served import Served
from selfimprove.types import Draw, ModelRef, Prompt, Question

QUESTION = Question("q", "d", "How many?", "number")
SETS = (ExemplarSet("d", (Exemplar("Two and two?", "2 + 2 = 4.", "4"),)),)


class Scripted:
    """A sampler that gives the same texts to every prompt."""

    identity: ClassVar[dict[str, str]] = {"engine": "scripted"}

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        del sampling, seed
        for prompt in prompts:
            for i, text in enumerate(self.texts):
                yield Draw(prompt.key, i, text, "stop", 9, 30)

    def close(self) -> None:
        pass


INVENTED = "\n\nTom has 3 cats. How many legs?\nThe answer is 12."


def _model() -> Served:
    return Served(ModelRef("m", "m", "0"), EngineConfig())


def _paths_of(monkeypatch: pytest.MonkeyPatch, config: PathsConfig, *texts: str):
    monkeypatch.setattr(served, "open_engine", lambda *_: Scripted(*texts))
    (batch,) = draw_paths([[QUESTION]], _model(), SETS, config, 0)
    return batch.rows


def test_what_is_invented_behind_the_answer_is_neither_voted_on_nor_trained_on(monkeypatch) -> None:
    drawn = _paths_of(
        monkeypatch,
        PathsConfig(m=2),
        f" 4 + 4 = 8. The answer is 8.{INVENTED}",
        " 4 + 4 = 8. The answer is 8.",
    )
    assert [p.answer for p in drawn] == ["8", "8"]
    assert {p.text for p in drawn} == {" 4 + 4 = 8. The answer is 8."}
    rows = mixed_formats([QUESTION], drawn, SETS, FormatsConfig(), 0).rows
    assert not [r for r in rows if "Tom" in r.prompt + r.completion]


def test_a_path_that_states_no_answer_votes_with_the_last_number_it_names(monkeypatch) -> None:
    texts = (" 4 + 4 = 8 eggs, altogether.", " 4 + 4 = 8. The answer is 8.", " It is unclear.")
    assert [p.answer for p in _paths_of(monkeypatch, PathsConfig(m=3), *texts)] == ["8", "8", None]
    strict = PathsConfig(m=3, reading="strict")
    assert [p.answer for p in _paths_of(monkeypatch, strict, *texts)] == [None, "8", None]


def test_exemplars_of_the_models_own_end_before_what_it_invents(monkeypatch) -> None:
    text = f" 4 + 4 = 8. The answer is 8.{INVENTED}"
    monkeypatch.setattr(served, "open_engine", lambda *_: Scripted(text))
    config = ExemplarsConfig(sets=1, shots=1)
    (solved,) = solve([[QUESTION]], _model(), config, 0)
    (made,) = own_exemplars([QUESTION], solved.rows, config, 0)
    assert made.exemplars == (Exemplar("How many?", "4 + 4 = 8.", "8"),)
