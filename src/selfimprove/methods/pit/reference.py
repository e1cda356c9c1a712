"""Measures, on held-out prompts, whether M_PIT and R_PIT of a run read the reference (`evaluation.reference_use`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from selfimprove.errors import EngineError
from selfimprove.evaluation.clusters import told
from selfimprove.evaluation.reference_use import (
    ReferenceUseConfig,
    Shown,
    information,
    interaction,
    use,
)
from selfimprove.judges.gap import gap_scores, reward_scores
from selfimprove.judges.reward_rows import Scored
from selfimprove.methods.pit.baselines import candidates
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.inference import Conversation
from selfimprove.methods.pit.reference_rows import (
    asked_plainly,
    asked_to_improve,
    by_prompt,
    expected,
    first_ones,
    grid,
)
from selfimprove.rows import Rows
from selfimprove.sampling.responses import answer
from selfimprove.seeds import seed_of
from selfimprove.store import Run
from selfimprove.types import ModelRef, Response

__all__ = ["By", "reference_use", "reference_use_of_arm"]

_EXAMPLES = 6


class By(NamedTuple):
    """The models that are looked at, and who knows what is right."""

    start: ModelRef
    """M_P, whose responses are improved."""
    pit: ModelRef
    gap: ModelRef
    """R_PIT; or R_P, whose differences are the gaps."""
    reward: ModelRef
    """R_P."""
    right: Callable[[str, str], frozenset[str]] | None
    """What of a response to a prompt is right; None: nobody knows."""


def reference_use(
    config: PitConfig, steps: Run, prompts: Rows[Conversation], by: By
) -> dict[str, Any]:
    """Return every measure as JSON data, and some prompts side by side.

    Where texts that are put together for it do not fit the model's context, why it was not measured.
    """
    try:
        return _measured(config, steps, prompts, by)
    except EngineError as error:  # the run's own chains fit, and its report must not be lost
        return {"unmeasured": str(error)}


def _measured(config: PitConfig, steps: Run, prompts: Rows[Conversation], by: By) -> dict[str, Any]:
    looked, held = _looked_at(config, steps, prompts, by.start)
    written = {
        which: _written(config, steps, by.pit, looked, held, which)
        for which in ("own", "other", "placebo")
    }
    return {
        **use(_shown(held, written["own"], written["other"], by.right)),
        "gaps": _interaction(config, steps, by.gap, looked, held),
        "information": _information(config, steps, by.pit, looked, held, written["own"]),
        "placebo": _placebo(config, steps, by.reward, looked, written),
        "placebo_right": _right_over_placebo(written, by.right) if by.right is not None else None,
        "examples": _examples(held, written, by.right),
    }


def reference_use_of_arm(
    config: PitConfig,
    steps: Run,
    prompts: Rows[Conversation],
    by: By,
    arm: str,
    gap: ModelRef | None,
) -> dict[str, Any]:
    """Return the keep-rate gap of an arm's M_PIT, and the interaction share of its own reward `gap` where it has one.

    The references are those that the run itself is measured on. Nothing where texts do not fit the context.
    """
    try:
        looked, held = _looked_at(config, steps, prompts, by.start)
        own, other = (
            _written(config, steps, by.pit, looked, held, which, arm) for which in ("own", "other")
        )
        told: dict[str, Any] = {"keep_gap": use(_shown(held, own, other, by.right))["keep_gap"]}
        if gap is not None:
            told["gaps"] = _interaction(config, steps, gap, looked, held, arm)
    except EngineError:
        return {}
    return told


def _looked_at(
    config: PitConfig, steps: Run, prompts: Rows[Conversation], start: ModelRef
) -> tuple[Rows[Conversation], Rows[Response]]:
    """Return the prompts that are looked at, and what M_P responds to each."""
    how = config.evaluation.reference_use or ReferenceUseConfig()
    looked = steps.rows("reference-use-prompts", first_ones, prompts, how.prompts)
    asked = steps.rows("reference-use-asked", asked_plainly, looked)
    sampling = config.evaluation.sampling(config.max_response_tokens)
    held = steps.sharded("reference-use-responses", answer, asked, steps.asks(start),
                         sampling.model_copy(update={"n": how.responses}),
                         seed_of(steps.seed, "reference use"),
                         shard_items=how.prompts)  # fmt: skip
    return looked, held


def _written(  # noqa: PLR0913  the run, who improves what, and which arm it is
    config: PitConfig,
    steps: Run,
    pit: ModelRef,
    prompts: Rows[Conversation],
    held: Rows[Response],
    which: str,
    arm: str = "",
) -> Rows[Response]:
    """Let M_PIT improve one reference a prompt; with the same random numbers, whichever it is."""
    name = _named("reference-use", arm)
    shown = steps.rows(f"reference-use-{which}-asked", asked_to_improve, prompts, held, which,
                       config.template)  # fmt: skip
    return steps.sharded(f"{name}-{which}-drawn", answer, shown, steps.asks(pit),
                         config.improve.sampling(1, config.max_response_tokens),
                         seed_of(steps.seed, "reference use, improved"),
                         shard_items=len(prompts))  # fmt: skip


def _named(steps: str, arm: str) -> str:
    return f"{steps}-{arm}" if arm and arm != "pit" else steps


def _shown(
    held: Rows[Response],
    of_own: Rows[Response],
    of_other: Rows[Response],
    right_of: Callable[[str, str], frozenset[str]] | None,
) -> list[Shown]:
    of, rows = by_prompt(held.items), []
    for own, other in zip(of_own, of_other, strict=True):
        a, b = of[own.prompt_id][:2]
        if any(r.finish == "error" for r in (a, b, own, other)):
            continue  # a server gave no text
        texts = (a.text, b.text, own.text, other.text)
        right = None
        if right_of is not None:
            in_a, in_b, in_own, in_other = (right_of(own.prompt, text) for text in texts)
            right = in_a, in_b, in_own, in_other
        rows.append(Shown(*texts, right))
    return rows


def _interaction(
    config: PitConfig,
    steps: Run,
    gap: ModelRef,
    prompts: Rows[Conversation],
    held: Rows[Response],
    arm: str = "",
) -> dict[str, Any] | None:
    asked = steps.rows("reference-use-grid-asked", grid, prompts, held)
    scored: Rows[Scored] = steps.sharded(
        f"{_named('reference-use', arm)}-grid", gap_scores, asked, steps.asks(gap), config.gap != "trained",
        shard_items=config.evaluation.shard_prompts)  # fmt: skip
    gaps: dict[str, list[float | None]] = {}
    for row in scored:
        gaps.setdefault(row.prompt_id, []).append(row.score)
    size = len(held) // len(prompts)
    whole = [[float(s) for s in found if s is not None] for found in gaps.values()]
    return interaction(
        [[row[i : i + size] for i in range(0, len(row), size)] for row in whole
         if len(row) == size * size]
    )  # fmt: skip


def _information(
    config: PitConfig,
    steps: Run,
    pit: ModelRef,
    prompts: Rows[Conversation],
    held: Rows[Response],
    written: Rows[Response],
) -> dict[str, Any] | None:
    if steps.engine.server is not None or any(row.reasoning for row in written):
        return (
            None  # such a server tells none of given texts, and no text follows its block at once
        )
    rows = steps.sharded("reference-use-expected", expected, written, prompts, held,
                         steps.asks(pit), config.template, shard_items=len(written))  # fmt: skip
    texts = {key: [r.text for r in some] for key, some in by_prompt(held.items).items()}
    nats: dict[str, dict[str, float]] = {}  # of each different reference
    for row in rows:
        nats.setdefault(row.prompt_id, {})[texts[row.prompt_id][row.index]] = row.nats
    own = {key: of.pop(texts[key][0]) for key, of in nats.items()}
    return information(list(own.values()), [list(nats[key].values()) for key in own])


def _placebo(
    config: PitConfig,
    steps: Run,
    reward: ModelRef,
    prompts: Rows[Conversation],
    written: dict[str, Rows[Response]],
) -> dict[str, Any] | None:
    """Return by how much R_P likes outputs better that were shown their prompt's own reference."""
    if len(prompts) < 2:
        return None  # there is no other prompt
    scores: list[list[float | None]] = []
    for which in ("own", "placebo"):
        asked = steps.rows(f"reference-use-{which}-scored", candidates, prompts, written[which])
        scored = steps.sharded(f"reference-use-{which}-rewards", reward_scores, asked,
                               steps.asks(reward), shard_items=len(asked))  # fmt: skip
        scores.append([row.score for row in scored])
    pairs = zip(*scores, strict=True)
    gained = [[a - b] for a, b in pairs if a is not None and b is not None]
    return told(gained, difference=True)


def _right_over_placebo(
    written: dict[str, Rows[Response]], right_of: Callable[[str, str], frozenset[str]]
) -> dict[str, Any] | None:
    """Return how many more right parts outputs have that were shown their prompt's own reference."""
    pairs = zip(written["own"], written["placebo"], strict=True)
    counts = [[float(len(right_of(y.prompt, y.text))) for y in pair] for pair in pairs]
    return told([[own - placebo] for own, placebo in counts], difference=True)


def _examples(
    held: Rows[Response],
    written: dict[str, Rows[Response]],
    right_of: Callable[[str, str], frozenset[str]] | None,
) -> list[dict[str, Any]]:
    of = by_prompt(held.items)

    def side(reference: Response, improved: Response) -> dict[str, Any]:
        told: dict[str, Any] = {"reference": reference.text, "improved": improved.text}
        if right_of is not None:
            was, now = (right_of(improved.prompt, r.text) for r in (reference, improved))
            told["parts"] = {"kept": sorted(was & now), "repaired": sorted(now - was),
                             "broken": sorted(was - now)}  # fmt: skip
        return told

    told = []
    for own, other in list(zip(written["own"], written["other"], strict=True))[:_EXAMPLES]:
        a, b = of[own.prompt_id][:2]
        told.append({
            "prompt": own.prompt,
            "sides": [side(a, own), side(b, other)],
        })  # fmt: skip
    return told
