"""Chains of improvement: one rule says where one ends, in a run and in `improve --stop`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from selfimprove.config import load
from selfimprove.errors import EngineError
from selfimprove.judges.gap import GapScorer
from selfimprove.judges.reward_rows import Gain, Improved, Scores
from selfimprove.methods.pit.baselines import candidates
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.improve import Improver, Item
from selfimprove.methods.pit.inference import (
    Conversation,
    ImproveConfig,
    compared,
    stopped,
    wins,
)
from selfimprove.methods.pit.tasks import Task, from_policy
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.types import Draw, FinishReason, Message, ModelRef, Prompt, Response

# What is said step by step, y_0 first, and the worth of each text to the gap reward.
_WORTH = {"a": 0.0, "a better": 1.0, "the best": 2.0, "worse": -1.0, "cut": 3.0}
_UNREADABLE = "too long"

Said = tuple[str, FinishReason]


def said(*texts: str) -> list[Said]:
    return [(text, "length" if text == "cut" else "stop") for text in texts]


CHAINS = [
    (said("a", "a better", "the best"), "the best"),
    (said("a", "worse", "the best"), "a"),
    # Ended by a step that changed nothing: nothing revives it.
    (said("a", "a", "the best"), "a"),
    (said("a", "worse", "a", "the best"), "a"),
    (said("a", "a better", "a better", "the best"), "a better"),
    # Unfinished ones are no improvement, except on one another.
    (said("a", "cut", "the best"), "a"),
    ([("a", "length"), ("the best", "stop")], "the best"),
    ([("a", "length"), ("cut", "length")], "cut"),
    # What cannot be read wins nothing.
    (said("a", _UNREADABLE, "the best"), "a"),
]


def _gap(new: str, old: str) -> float | None:
    return None if _UNREADABLE in (new, old) else 0.7 + _WORTH[new] - _WORTH[old]


@pytest.mark.parametrize(("chain", "held"), CHAINS)
def test_a_chain_ends_before_its_first_step_that_does_not_win(chain: list[Said], held: str) -> None:
    rows = [[Response("p", "Why?", 0, text, finish, 1)] for text, finish in chain]
    texts = [text for text, _ in chain]
    told = [[Gain("p", 0, _gap(new, old), _gap(old, old), None)] for old, new in pairwise(texts)]
    assert [r.text for r in stopped(rows[0], rows[1:], told, 0.0)] == [held]


class _Scripted:
    """Says one text after the other."""

    def __init__(self, script: Sequence[Said]) -> None:
        self._script = iter(script)
        self.identity: dict[str, str] = {}

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        for prompt in prompts:
            text, finish = next(self._script)
            yield Draw(prompt.key, 0, text, finish, 1, 1)

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to give back."""


class _Gaps:
    def __init__(self) -> None:
        self.identity: dict[str, str] = {}
        self.read: list[Improved] = []

    def told(self, rows: Sequence[Improved]) -> Scores:
        self.read += rows
        return Scores([_gap(row.candidate, row.reference) for row in rows], 0)

    def gains(self, rows: Sequence[Improved]) -> list[Gain]:
        return GapScorer.gains(self, rows)  # type: ignore[arg-type]


class _Held:
    """Holds what is scripted in the place of models."""

    def __init__(self, engines: dict[str, _Scripted], gaps: _Gaps) -> None:
        self._engines, self._gaps = engines, gaps

    def engine(self, model: ModelRef, config: EngineConfig) -> Any:
        return self._engines[model.name]

    def scorer(self, model: ModelRef, config: EngineConfig, load: object) -> Any:
        return self._gaps

    def free(self) -> None:
        """Nothing to give back."""


def _improver(policy: Sequence[Said], pit: Sequence[Said], gaps: _Gaps | None = None) -> Improver:
    tree = {"method": "pit", "model": "tiny", "preferences": ["tiny:train"],
            "evaluation": {"scorer": "reward"}}  # fmt: skip
    how = ImproveConfig(steps=len(pit))
    first, second, gap = (ModelRef(name, name, "") for name in ("policy", "pit", "gap"))
    held = _Held({"policy": _Scripted(policy), "pit": _Scripted(pit)}, gaps or _Gaps())
    return Improver(load(PitConfig, tree, "test"), how, first, second, gap, held)


@pytest.mark.parametrize(("chain", "held"), CHAINS)
def test_improving_until_no_step_wins_follows_the_same_rule(chain: list[Said], held: str) -> None:
    improver = _improver(chain[:1], chain[1:])
    (found,) = improver.chains([Item.said("p", "Why?")], stop=True, seed=0)
    assert found.best == held


def test_reasoning_is_no_part_of_what_is_improved_and_is_told_beside_it() -> None:
    improver = _improver([], said("<think>Longer?</think>a better"))
    given = Item("p", (Message("user", "Why?"),), "<think>Hm.</think>a")
    (found,) = improver.chains([given], stop=False, seed=0)
    assert found.as_dict()["chain"] == [
        {"step": 0, "response": "a", "gap": None, "finished": True, "reasoning": "Hm."},
        {"step": 1, "response": "a better", "gap": 1.0, "finished": True, "reasoning": "Longer?"},
    ]


def test_what_was_cut_off_is_shown_as_cut_off_to_the_gap_reward() -> None:
    gaps = _Gaps()
    improver = _improver([("a", "length")], [("cut", "length"), ("a better", "stop")], gaps)
    list(improver.chains([Item.said("p", "Why?")], stop=False, seed=0))
    flags = [(r.candidate, r.finished, r.reference, r.reference_finished) for r in gaps.read]
    steps = [
        ("cut", False, "a", False), ("a", False, "a", False),
        ("a better", True, "cut", False), ("cut", False, "cut", False),
    ]  # fmt: skip
    assert flags == steps
    x = Conversation("p", (Message("user", "Why?"),))
    rows = [Response("p", "Why?", 0, *one, 1) for one in (("a", "length"), ("a better", "stop"))]
    told = compared([x], rows[1:], rows[:1])
    assert [(r.index, r.candidate, r.finished, r.reference_finished) for r in told] == [
        (0, "a better", True, False),
    ]  # fmt: skip
    assert [row.finished for row in candidates([x], rows)] == [False, True]


def test_a_gain_of_nothing_is_no_win() -> None:
    assert not wins(0.0, 0.0, finished=True, was_finished=True)
    assert not wins(None, 0.0, finished=True, was_finished=True)


def test_only_finished_responses_are_references_of_the_second_round() -> None:
    tasks = [Task(name, name, (Message("user", "Why?"),), None) for name in "pqrs"]
    ends: list[Said] = [("a", "stop"), ("a bet", "length"), ("", "error"), ("c", "stop")]
    drawn = [Response(t.id, "Why?", 0, *end, 1) for t, end in zip(tasks, ends, strict=True)]
    found = from_policy(tasks, drawn)
    assert [(t.id, t.reference) for t in found.rows] == [("p", "a"), ("s", "c")]
    assert [(d.why, d.count) for d in found.funnels[0].dropped] == [
        ("M_P's response did not end", 2)
    ]
    with pytest.raises(EngineError, match="max_response_tokens"):
        from_policy(tasks, drawn[1:])


def test_two_references_of_a_prompt_stand_together_or_there_is_none() -> None:
    tasks = [Task(name, name, (Message("user", "Why?"),), None) for name in "pqr"]
    ends: list[Said] = [("a", "stop"), ("b", "stop"), ("c", "stop"), ("d", "length"), ("e", "stop"),
                        ("f", "stop")]  # fmt: skip
    drawn = [Response("pqr"[n // 2], "Why?", n % 2, *end, 1) for n, end in enumerate(ends)]
    found = from_policy(tasks, drawn)
    assert [(t.id, t.of, t.reference) for t in found.rows] == [
        ("p-0", "p", "a"), ("p-1", "p", "b"), ("r-0", "r", "e"), ("r-1", "r", "f"),
    ]  # fmt: skip
    assert [(f.given, f.kept) for f in found.funnels] == [(3, 2)]
