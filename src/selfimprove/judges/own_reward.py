"""A reward that is code of the user's own, in the place of a trained reward model.

A folder stands for it, as one stands for a reward model: its config names the function, with a digest of its code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, final

from selfimprove.files import make_folder, write_json
from selfimprove.judges.plain_reward import RewardScorer, trained_here
from selfimprove.judges.reward_rows import Improved, Scores
from selfimprove.own_code import load_named, numbers_of
from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.engine import EngineConfig
from selfimprove.types import ModelRef

__all__ = ["FunctionScorer", "Named", "own_reward", "reward_scorer"]

Function: TypeAlias = Callable[[list[str], list[str]], Sequence[float | None]]
"""Prompts and the responses to them, of equal number; a reward each, None where there is none."""


@dataclass(frozen=True, slots=True)
class Named:
    """What was written in the place of a reward model."""

    function: str
    tokens: int = 0
    """Trained on: none."""


def own_reward(base: ModelRef, function: str, *, out: Path, checkpoints: Path) -> Named:
    """Write a folder that stands for the user's own reward."""
    make_folder(out)
    write_json(out / "config.json", {"selfimprove": {"reads": "reward", "function": function}})
    head = json.dumps({"nothing": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = len(head).to_bytes(8, "little") + head + bytes(4)
    (out / "model.safetensors").write_bytes(weights)
    return Named(function)


def reward_scorer(path: Path, engine: EngineConfig) -> RewardScorer | FunctionScorer:
    """Return what tells plain rewards: a reward model, or the function that a folder names.

    Raises:
        EngineError: the folder holds no plain reward model.
        ConfigError: there is no such function, or its code is another by now.
    """
    function = trained_here(path).get("function")
    return FunctionScorer(function) if function else RewardScorer(path, engine)


@final
class FunctionScorer:
    """The user's own reward."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._function: Function = load_named(name)
        self.identity = {"engine": "function", "function": name}
        self.context = 0

    def told(self, rows: Sequence[Improved]) -> Scores:
        """Return R(x, y) of each candidate y."""
        return Scores(self._of([(in_words(r.prompt), r.candidate) for r in rows]), 0)

    def differences(self, rows: Sequence[Improved]) -> Scores:
        """Return R(x, y) - R(x, y_ref) of each candidate; None where one of the two has none."""
        ours = self.told(rows).scores
        theirs = self._of([(in_words(r.prompt), r.reference) for r in rows])
        return Scores(
            [None if a is None or b is None else a - b for a, b in zip(ours, theirs, strict=True)],
            0,
        )

    def _of(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        return numbers_of(self._name, self._function, [x for x, _ in pairs], [y for _, y in pairs])
