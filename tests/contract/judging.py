"""A judge told by an engine of its own: a good response and one that has little to do with what was asked."""

from __future__ import annotations

from selfimprove.judges.judge import judge, judging_model
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Served
from selfimprove.tiny.shipped import folder
from selfimprove.types import ModelRef, Response

_ASKED = "Write about a owl in the park with kites."
_GOOD = "The owl hunts at night. In the park it plays with kites. That is all."


def scores_by(engine: EngineConfig) -> list[float | None]:
    """Return the scores of the two, read from the verdicts that the engine drew."""
    config = JudgeConfig(model=str(folder()), prompt="tiny", votes=1, temperature=0, max_tokens=48,
                         engine=engine)  # fmt: skip
    responses = [
        Response("p", _ASKED, i, text, "stop", 0) for i, text in enumerate((_GOOD, "The cow eats."))
    ]
    by = judging_model(config, ModelRef("", "", ""))
    (batch,) = judge([responses], Served(by, config.engine or EngineConfig()), config, 0)
    return [v.score for v in batch.rows]
