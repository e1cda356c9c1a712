"""Seed data of a Self-Rewarding run: apart from what is measured on, and IFT apart from EFT (Sec. 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from selfimprove.data.demonstrations import read_demonstrations, read_ranked, read_reviews
from selfimprove.data.overlap import same_text
from selfimprove.data.seed_split import (
    SharedPrompt,
    deal_shared,
    ift_alone,
    ranked_alone,
    reviews_alone,
)
from selfimprove.data.sources import Sources
from selfimprove.evaluation.open_prompts import ResponsesConfig
from selfimprove.evaluation.overlaps import (
    Decontamination,
    Keys,
    held_out_prompts,
    ranked_apart,
    repeats,
)
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.judged_prompts import judged_prompts
from selfimprove.rows import Rows
from selfimprove.store import Run
from selfimprove.types import Demonstration, Ranked, UserPrompt

__all__ = ["SeedData", "decontamination", "seed_data"]


class NamesSeeds(Protocol):
    """The part of `seeds` that this file reads."""

    @property
    def ift(self) -> Sources: ...
    @property
    def eft(self) -> Sources: ...
    @property
    def ranked(self) -> Sources: ...
    @property
    def eft_share(self) -> float: ...


class HoldsOut(Protocol):
    """The part of a recipe that this file reads."""

    @property
    def seeds(self) -> NamesSeeds: ...
    @property
    def evaluation(self) -> ResponsesConfig: ...
    @property
    def judge(self) -> JudgeConfig: ...
    @property
    def decontaminate(self) -> bool: ...


class SeedData(NamedTuple):
    """What the first model learns from people; no prompt is in `ift` and in one of the others."""

    ift: Rows[Demonstration]
    eft: Rows[Demonstration]
    """Judging examples that exist already."""
    ranked: Rows[Ranked]


def decontamination(config: HoldsOut, steps: Run) -> Decontamination:
    """Read the prompts of every held-out set: measured, of validation, and of the judging set.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    measured = config.evaluation
    sets = (("evaluation prompts", measured.prompts), ("validation prompts", measured.validation))
    held_out = steps.rows("held-out-texts", held_out_prompts, sets, measured.judging, steps.seed)
    return Decontamination(steps, held_out, config.decontaminate)


def seed_data(config: HoldsOut, steps: Run, apart: Decontamination) -> SeedData:
    """Read the seed data.

    A source's `limit` counts prompts that may be used: what is held out, or in IFT already, is passed
    over.

    Raises:
        DataError: a file cannot be read, a row of it is broken, or all of it is held out.
    """
    seeds, seed = config.seeds, steps.seed

    def read_ift(passed_over: Keys) -> Rows[Demonstration]:
        name = "ift-refilled" if passed_over else "ift"
        return steps.rows(name, read_demonstrations, seeds.ift, seed, passed_over)

    def read_judged(passed_over: Keys) -> Rows[Ranked]:
        name = "ranked-refilled" if passed_over else "ranked"
        return steps.rows(name, read_ranked, seeds.ranked, passed_over)

    ift = apart.demonstrations("ift", read_ift)
    eft = steps.rows("eft-given", read_reviews, seeds.eft, seed)
    words = config.judge.prompt if config.judge.kind == "rubric" else "additive"
    about = steps.rows("eft-prompts", judged_prompts, eft, words)
    eft = apart.reviews("eft-given", eft, about)
    ranked = apart.ranked("ranked", read_judged)
    return _without_shared(config, steps, apart, SeedData(ift, eft, ranked), about)


def _without_shared(
    config: HoldsOut,
    steps: Run,
    apart: Decontamination,
    read: SeedData,
    about: Rows[UserPrompt],
) -> SeedData:
    """Leave every prompt to one kind of seed data."""
    answered = {same_text(d.prompt) for d in read.ift}
    if not any(same_text(r.prompt) in answered for r in (*read.ranked, *_asked(read.eft, about))):
        return read
    passed_over = tuple(sorted(answered | set(apart.passed_over())))
    more = steps.rows("ranked-beside-ift", read_ranked, config.seeds.ranked, passed_over)
    found = steps.rows("ranked-beside-ift-overlaps", repeats, more, apart.held_out)
    more = steps.rows("ranked-beside-ift-apart", ranked_apart, more, found if apart.removes else ())
    shared = steps.rows("shared-prompts", shared_prompts, read.ift, read.eft, about,
                        (*read.ranked, *more), config.seeds.eft_share, steps.seed)  # fmt: skip
    return SeedData(
        steps.rows("ift-alone", ift_alone, read.ift, shared),
        steps.rows("eft-alone", reviews_alone, read.eft, about, shared),
        steps.rows("ranked-alone", ranked_alone, (*read.ranked, *more), shared),
    )


def _asked(eft: Rows[Demonstration], about: Rows[UserPrompt]) -> list[Demonstration]:
    """Return the judging examples with the prompt that each is about in place of the whole."""
    text_of = {prompt.id: prompt.text for prompt in about}
    return [replace(row, prompt=text_of[row.id]) for row in eft]


def shared_prompts(
    ift: Sequence[Demonstration],
    eft: Sequence[Demonstration],
    about: Sequence[UserPrompt],
    ranked: Sequence[Ranked],
    least: float,
    seed: int,
) -> list[SharedPrompt]:
    """Return the prompts that IFT and EFT share, and which of the two keeps each."""
    text_of = {prompt.id: prompt.text for prompt in about}
    judged = [*(text_of[row.id] for row in eft), *(row.prompt for row in ranked)]
    return deal_shared((row.prompt for row in ift), judged, least, seed)
