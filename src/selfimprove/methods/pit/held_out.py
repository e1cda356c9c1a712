"""What a PIT run is measured on, and what it learns from: its preferences without those on such prompts."""

from __future__ import annotations

from typing import NamedTuple

from selfimprove.data.preferences import InFold, Preference, outside_fold
from selfimprove.errors import DataError
from selfimprove.evaluation.overlaps import Decontamination, held_out_conversations, named
from selfimprove.evaluation.pit_board import held_out_preferences
from selfimprove.methods.pit import tasks as pit_tasks
from selfimprove.methods.pit.baselines import rubric
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.inference import Conversation
from selfimprove.rows import Rows
from selfimprove.store import Run

__all__ = ["HeldOut", "Learned", "held_out", "learned_preferences"]


class HeldOut(NamedTuple):
    """What is measured on."""

    preferences: Rows[Preference]
    prompts: Rows[Conversation]


def held_out(
    config: PitConfig, steps: Run, preferences: Rows[Preference], folds: Rows[InFold]
) -> HeldOut:
    """Read what is measured on, before anything is trained: a missing file costs nothing yet.

    Raises:
        DataError: a file cannot be read, or nothing in it fits the windows.
        ConfigError: there is no rubric of this name.
    """
    if config.baselines.self_refine:
        rubric(config.baselines.rubric)
    told = held_out_preferences(config.evaluation, steps, preferences, folds)
    fit = steps.rows("held-out-preferences", pit_tasks.fitting, told, steps.locate(config.model),
                     steps.engine.layout, config.max_prompt_tokens,
                     config.max_response_tokens)  # fmt: skip
    if not fit:
        raise DataError(
            f"none of the {len(told)} held-out preferences fits max_prompt_tokens and "
            "max_response_tokens: there is nothing to measure on; raise these, or give other "
            "evaluation.preferences"
        )
    prompts = steps.rows("held-out-prompts", pit_tasks.conversations, fit,
                         config.evaluation.prompts, steps.seed)  # fmt: skip
    return HeldOut(fit, prompts)


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
