"""The one comparison that the run was made for, and the sentence that states it."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.wording import sentence, verdict


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return the headline with its verdict; None while there is none."""
    headline = run.summary.headline
    if headline is None:
        return None
    said = sentence(headline)
    if run.summary.gate and not any(decision.promoted for decision in run.summary.gate):
        said += " No round passed the gate, so the base model stays."
    elif run.summary.gate and not any(decision.n for decision in run.summary.gate):
        said += " No gate chose between the models."
    return {
        **headline.model_dump(mode="json"),
        "verdict": verdict(headline.interval),
        "sentence": said,
    }
