"""What a PIT run learns from: its preferences without those on prompts that are measured on."""

from __future__ import annotations

from typing import NamedTuple

from selfimprove.data.preferences import InFold, Preference, outside_fold
from selfimprove.evaluation.overlaps import Decontamination, held_out_conversations, named
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.systems import HeldOut
from selfimprove.rows import Rows
from selfimprove.store import Run

__all__ = ["Learned", "learned_preferences"]


class Learned(NamedTuple):
    """What may be learned from, and what was found in it."""

    preferences: Rows[Preference]
    apart: Decontamination


def learned_preferences(
    config: PitConfig,
    steps: Run,
    preferences: Rows[Preference],
    folds: Rows[InFold],
    held_out: HeldOut,
) -> Learned:
    """Return the preferences of the three folds that share no prompt with the held-out ones.

    Raises:
        DataError: every prompt is a held-out one.
    """
    sources = config.evaluation.preferences
    name = named("held-out preferences", sources) if sources else "held-out part"
    texts = steps.rows("held-out-texts", held_out_conversations, held_out.preferences, name)
    apart = Decontamination(steps, texts, config.decontaminate)
    in_folds = steps.rows("training-preferences", outside_fold, preferences, folds, "test")
    return Learned(apart.preferences("preferences", in_folds), apart)
