"""One model, measured on its own: what `selfimprove eval` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfimprove.config import load
from selfimprove.data.sources import DataConfig
from selfimprove.evaluation.accuracy import Answered, AskConfig, answer_questions, scores
from selfimprove.evaluation.scoreboard import calibrations, read_held_out, score_figures
from selfimprove.models import locate
from selfimprove.progress import track
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import serving

__all__ = ["evaluate_model"]

_CHUNK = 128  # questions asked at once


class _Single(AskConfig):
    """What may be overridden on the command line."""

    engine: EngineConfig = EngineConfig()
    """Sampling engine."""


def evaluate_model(
    model: str, data: Sequence[str], how: Mapping[str, Any], *, limit: int | None, seed: int
) -> dict[str, Any]:
    """Return the scores and the calibration of `model` on every data source.

    Args:
        model: by name, folder, file or hub id.
        data: as `format:file`.
        how: fields of `AskConfig`, and `engine`.
        limit: first so many questions of a source.
        seed: of sampled votes.

    Raises:
        ConfigError: a field is unknown.
        DataError: a source cannot be read.
        EngineError: the model cannot be loaded.
    """
    config = load(_Single, how, "evaluation")
    sources = load(DataConfig, {"train": [], "test": list(data), "test_limit": limit}, "--data")
    questions = read_held_out(tuple(("in", s) for s in sources.test))
    chunks = [questions[i : i + _CHUNK] for i in range(0, len(questions), _CHUNK)]
    ask = AskConfig(**{name: getattr(config, name) for name in AskConfig.model_fields})
    rows: list[Answered] = []
    with serving(locate(model), config.engine) as asked:
        answered = answer_questions(chunks, asked, ask, seed)
        for batch in track(answered, "questions", len(chunks)):
            rows += batch.rows
    return {
        "model": model,
        "scores": [score_figures(s) for s in scores(rows)],
        "calibration": calibrations(model, rows),
    }
