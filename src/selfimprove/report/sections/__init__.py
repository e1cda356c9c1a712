"""The page's sections, in their order; a section is a file here and a template of the same name.

`figures(run)` returns plain data, or None where the run has nothing to show: all the numbers of the
section, and nothing that the template would have to work out. A section of one method returns None
for the others. To add one: write both files and name it in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections import (
    ablations,
    accuracy,
    calibration,
    controls,
    cost,
    curriculum,
    funnels,
    gap_model,
    gate,
    harness,
    head_to_head,
    headline,
    improvement,
    judge,
    labels,
    lineage,
    overlaps,
    recipe,
    reference_use,
    responses,
    rounds,
    samples,
    scores,
    texts,
    win_rates,
)

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page."""

    name: str
    """Its key in the figures, its template and its anchor."""
    title: str
    figures: Callable[[RunFolder], Any]
    embedded: Callable[[RunFolder], Any] | None = None
    """Data that only the page's script shows; it is not among the figures."""
    alone: bool = False
    """Whether only a page of a single run has it."""


SECTIONS = (
    Section("headline", "Result", headline.figures),
    Section("scores", "Scores", scores.figures),
    Section("win_rates", "Win rates", win_rates.figures),
    Section("head_to_head", "Head to head", head_to_head.figures),
    Section("improvement", "Improvement", improvement.figures),
    Section("reference_use", "Does it read its reference?", reference_use.figures),
    Section("ablations", "Ablations", ablations.figures),
    Section("gap_model", "Gap reward", gap_model.figures),
    Section("curriculum", "Curriculum", curriculum.figures),
    Section("gate", "Gate", gate.figures),
    Section("accuracy", "Accuracy", accuracy.figures),
    Section("harness", "lm-evaluation-harness", harness.figures),
    Section("controls", "Controls", controls.figures),
    Section("calibration", "Calibration", calibration.figures),
    Section("labels", "Votes as labels", labels.figures),
    Section("judge", "Judge", judge.figures),
    Section("rounds", "Rounds", rounds.figures),
    Section("overlaps", "Training and held-out data", overlaps.figures),
    Section("funnels", "Filters", funnels.figures),
    Section("samples", "Samples", samples.figures, samples.embedded),
    Section("responses", "Responses", responses.figures),
    Section("texts", "Everything written", texts.figures, texts.embedded, alone=True),
    Section("cost", "Cost", cost.figures),
    Section("lineage", "Lineage", lineage.figures),
    Section("recipe", "Recipe", recipe.figures),
)
