"""What PIT is compared with, from the same M_P: best-of-N by R_P, and Self-Refine by prompting.

Self-Refine (Madaan et al. 2023): the model writes feedback on its response by a rubric, then a
response that follows the feedback; nothing is trained. Best-of-N draws N responses and keeps the one
that R_P likes best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import Field

from selfimprove.config import Config, load, read_yaml, shipped_or_given
from selfimprove.judges.gap import reward_scores
from selfimprove.judges.reward_rows import Improved, Scored
from selfimprove.methods.pit.inference import Conversation, finished_steps, requests
from selfimprove.rows import Rows
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.responses import answer
from selfimprove.store import Run
from selfimprove.types import Message, ModelRef, Request, Response

__all__ = ["BaselinesConfig", "best_of_n", "best_places", "candidates", "rubric", "self_refine"]

_FOLDER: Final = Path(__file__).parent / "rubrics"


class BaselinesConfig(Config):
    """Which other ways to a better response are measured."""

    best_of_n: int | None = Field(default=4, ge=2)
    """Responses of which R_P chooses one; None: not measured."""
    self_refine: int | None = Field(default=1, ge=1)
    """Rounds of feedback and refinement; None: not measured."""
    rubric: str = "helpful_harmless"
    """By what Self-Refine judges: a shipped rubric, or a YAML file."""
    feedback_tokens: int = Field(default=256, ge=1)
    """Of one feedback."""


class Rubric(Config):
    """The words of Self-Refine."""

    version: int = Field(ge=1)
    """Goes up with every change of the words."""
    feedback: str
    """Asks what is wrong with {response} to {prompt}."""
    refine: str
    """Asks for a better one, given {prompt}, {response} and {feedback}."""


@cache
def rubric(name: str) -> Rubric:
    """Return a shipped rubric or the one in a YAML file.

    Raises:
        ConfigError: there is none of this name, or the file does not hold one.
    """
    path = shipped_or_given(_FOLDER, name, "rubric")
    return load(Rubric, read_yaml(path), str(path))


def self_refine(  # noqa: PLR0913  the run, what is refined, by whom, how
    steps: Run,
    conversations: Rows[Conversation],
    start: Rows[Response],
    model: ModelRef,
    config: BaselinesConfig,
    sampling: SamplingConfig,
    *,
    shard_items: int,
) -> list[Rows[Response]]:
    """Refine responses as often as the config says; return those of each round.

    A refinement that was cut off does not count: the response before it stays.
    """
    feedback_sampling = sampling.model_copy(update={"n": 1, "max_tokens": config.feedback_tokens})
    once = sampling.model_copy(update={"n": 1})
    held, chain, by = start, [], steps.asks(model)
    for number in range(1, (config.self_refine or 0) + 1):
        name = f"self-refine-y{number}"
        asked = steps.rows(f"{name}-feedback-asked", feedback_asked, conversations, held,
                           config.rubric)  # fmt: skip
        feedback = steps.sharded(f"{name}-feedback", answer, asked, by, feedback_sampling,
                                 steps.seed, shard_items=shard_items)  # fmt: skip
        asked = steps.rows(f"{name}-asked", refinement_asked, conversations, held, feedback,
                           config.rubric)  # fmt: skip
        drawn = steps.sharded(f"{name}-drawn", answer, asked, by, once, steps.seed,
                              shard_items=shard_items)  # fmt: skip
        held = steps.rows(f"{name}-responses", finished_steps, held, drawn)
        chain.append(held)
    return chain


def feedback_asked(
    conversations: Sequence[Conversation], responses: Sequence[Response], name: str
) -> list[Request]:
    """Return the requests for feedback."""
    return _filled(conversations, responses, rubric(name).feedback, {})


def refinement_asked(
    conversations: Sequence[Conversation],
    responses: Sequence[Response],
    feedback: Sequence[Response],
    name: str,
) -> list[Request]:
    """Return the requests for a response that follows the feedback."""
    said = {(f.prompt_id, f.index): f.text for f in feedback}
    return _filled(conversations, responses, rubric(name).refine, said)


def _filled(
    conversations: Sequence[Conversation],
    responses: Sequence[Response],
    words: str,
    feedback: dict[tuple[str, int], str],
) -> list[Request]:
    turns = {c.id: c.turns for c in conversations}
    rows = []
    for r in responses:
        *before, last = turns[r.prompt_id]
        values = {"prompt": last.content, "response": r.text,
                  "feedback": feedback.get((r.prompt_id, r.index), "")}  # fmt: skip
        # One pass: what stands in a slot is never read as a slot itself.
        parts = words.replace("}", "{").split("{")
        text = "".join(values.get(part, part) for part in parts)
        rows.append(Request(r.prompt_id, r.prompt, r.index, (*before, Message("user", text))))
    return rows


def best_of_n(  # noqa: PLR0913  the run, what is asked, of whom, by whose choice, how
    steps: Run,
    conversations: Rows[Conversation],
    model: ModelRef,
    reward: ModelRef,
    config: BaselinesConfig,
    sampling: SamplingConfig,
    seed: int,
    *,
    shard_prompts: int,
) -> Rows[Response]:
    """Draw `best_of_n` times as many responses as are measured, and keep the best of each N."""
    n = config.best_of_n or 1
    many = sampling.model_copy(update={"n": n * sampling.n})
    asked = steps.rows("held-out-requests", requests, conversations)
    drawn = steps.sharded(f"best-of-{n}-drawn", answer, asked, steps.asks(model), many, seed,
                          shard_items=shard_prompts)  # fmt: skip
    told = steps.rows(f"best-of-{n}-compared", candidates, conversations, drawn)
    scores = steps.sharded(f"best-of-{n}-scores", reward_scores, told, steps.asks(reward),
                           shard_items=shard_prompts * many.n)  # fmt: skip
    return steps.rows(f"best-of-{n}-responses", best_of_each, drawn, scores, n)


def candidates(
    conversations: Sequence[Conversation], responses: Sequence[Response]
) -> list[Improved]:
    """Return what R_P reads."""
    turns = {c.id: c.turns for c in conversations}
    return [
        Improved(r.prompt_id, r.index, turns[r.prompt_id], r.text, finished=r.is_finished)
        for r in responses
    ]


def best_of_each(responses: Sequence[Response], scores: Sequence[Scored], n: int) -> list[Response]:
    """Return the best of every n draws of a prompt; its index is then that of its n."""
    drawn = list(responses)  # rows of a step can be gone through, not looked up
    return [
        replace(drawn[place], index=number, reasoning="")
        for (_, number), place in best_places(drawn, scores, n).items()
    ]


def best_places(
    responses: Sequence[Response], scores: Sequence[Scored], n: int
) -> dict[tuple[str, int], int]:
    """Return, by prompt and number of its n draws, where the best of them stands among `responses`.

    Finished goes before unfinished, scored before not; of equals the first is taken.
    """
    known = {(s.prompt_id, s.index): s.score for s in scores}
    best: dict[tuple[str, int], int] = {}
    for place, r in enumerate(responses):
        key = (r.prompt_id, r.index // n)
        if key not in best or _rank(r, known) > _rank(responses[best[key]], known):
            best[key] = place
    return best


def _rank(
    response: Response, scores: dict[tuple[str, int], float | None]
) -> tuple[bool, bool, float]:
    score = scores[response.prompt_id, response.index]
    return response.is_finished, score is not None, score or 0.0
