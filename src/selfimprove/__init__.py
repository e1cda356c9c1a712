"""selfimprove: language models that improve themselves (LMSI, Self-Rewarding LMs, PIT).

    import selfimprove as si

    result = si.lmsi("tiny", train="tiny:train", test="tiny:test", m=8)
    print(result.difference)

Names are loaded when they are first used, so that importing this costs nothing (docs/python.md).
"""

import os as _os
import sys as _sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfimprove.answer_kinds import answer_type
    from selfimprove.api.methods import lmsi, pit, run, self_rewarding
    from selfimprove.api.model import Model
    from selfimprove.api.result import Measured, Result
    from selfimprove.api.steps import (
        agreeing,
        draw_paths,
        evaluate,
        fine_tune,
        read_questions,
        table,
        training_rows,
        vote,
    )
    from selfimprove.errors import SelfImproveError
    from selfimprove.types import Message, Question, ReasoningPath

__all__ = [
    "Measured",
    "Message",
    "Model",
    "Question",
    "ReasoningPath",
    "Result",
    "SelfImproveError",
    "agreeing",
    "answer_type",
    "draw_paths",
    "evaluate",
    "fine_tune",
    "lmsi",
    "pit",
    "read_questions",
    "run",
    "self_rewarding",
    "table",
    "training_rows",
    "vote",
]

__version__ = "0.1.0"

# GNU OpenMP, which torch computes with, reads this once. Its threads wait for each other by spinning
# for milliseconds: on a busy machine they spin on the very cores that the awaited ones need.
if "torch" not in _sys.modules and "OMP_WAIT_POLICY" not in _os.environ:
    _os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_WHERE = {
    "Measured": "api.result",
    "Message": "types",
    "Model": "api.model",
    "Question": "types",
    "ReasoningPath": "types",
    "Result": "api.result",
    "SelfImproveError": "errors",
    "agreeing": "api.steps",
    "answer_type": "answer_kinds",
    "draw_paths": "api.steps",
    "evaluate": "api.steps",
    "fine_tune": "api.steps",
    "lmsi": "api.methods",
    "pit": "api.methods",
    "read_questions": "api.steps",
    "run": "api.methods",
    "self_rewarding": "api.methods",
    "table": "api.steps",
    "training_rows": "api.steps",
    "vote": "api.steps",
}


def __getattr__(name: str) -> object:
    """Load a public name."""
    if name not in _WHERE:
        raise AttributeError(f"module 'selfimprove' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"selfimprove.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, for whoever completes them."""
    return [*__all__, "__version__"]
