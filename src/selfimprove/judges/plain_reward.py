"""A plain reward model in memory: a number for each response."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from selfimprove.errors import EngineError
from selfimprove.files import read_json
from selfimprove.judges.reward_rows import Improved, Scores
from selfimprove.sampling.conversation import Spoken, as_asked
from selfimprove.sampling.engine import EngineConfig

__all__ = ["RewardScorer", "reads_gaps", "trained_here"]


def reads_gaps(path: Path) -> bool:
    """Whether a reward model was trained on gaps.

    Raises:
        EngineError: the folder holds no model.
    """
    return trained_here(path).get("reads") == "gap"


def trained_here(path: Path) -> dict[str, Any]:
    """Return what the training of a reward model noted; nothing of one from elsewhere.

    Raises:
        EngineError: the folder holds no model.
    """
    try:
        noted: dict[str, Any] = read_json(path / "config.json").get("selfimprove", {})
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} holds no reward model: {error}") from error
    return noted


@final
class RewardScorer:
    """A plain reward model in memory."""

    def __init__(self, path: Path, engine: EngineConfig) -> None:
        from selfimprove.sampling.scalar_model import load_scalar_model

        self._model = load_scalar_model(path, engine)
        # A model from elsewhere notes nothing; such models are trained on the chat template.
        reads = self._model.settings.get("reads", "reward")
        if reads != "reward":
            raise EngineError(f"{path} is a {reads} reward model, not one of single responses")
        templated = bool(self._model.tokenizer.chat_template)
        self._chat = bool(self._model.settings.get("chat", templated))
        self.identity, self.context = self._model.identity, self._model.context

    def told(self, rows: Sequence[Improved]) -> Scores:
        """Return R_P(x, y) of each candidate y; too long a prompt loses its oldest turns."""
        scores, tokens = self._model.read([[self._spoken(row)] for row in rows])
        return Scores([score for (score,) in scores], tokens)

    def differences(self, rows: Sequence[Improved]) -> Scores:
        """Return R_P(x, y) - R_P(x, y_ref) of each candidate; None where one of the two does not fit."""
        scores, tokens = self._model.read([[self._spoken(r), self._over(r)] for r in rows])
        found = [
            None if ours is None or theirs is None else ours - theirs for ours, theirs in scores
        ]
        return Scores(found, tokens)

    def _spoken(self, row: Improved) -> Spoken:
        return Spoken(as_asked(row.prompt, chat=self._chat), row.candidate, row.finished)

    def _over(self, row: Improved) -> Spoken:
        asked = as_asked(row.prompt, chat=self._chat)
        return Spoken(asked, row.reference, row.reference_finished)
