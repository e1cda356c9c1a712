"""Measures, on held-out prompts, whether M_PIT and R_PIT of a run read the reference (`evaluation.reference_use`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from selfimprove.data.improvement_prompts import improvement_template, rendered
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
from selfimprove.judges.reward_rows import Improved, Scored
from selfimprove.methods.pit.baselines import candidates
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.inference import Conversation
from selfimprove.rows import Batch, Rows
from selfimprove.sampling.conversation import as_asked, in_words
from selfimprove.sampling.engine import Engine
from selfimprove.sampling.responses import answer
from selfimprove.sampling.served import Served
from selfimprove.seeds import seed_of
from selfimprove.store import Run
from selfimprove.types import ModelRef, Prompt, Request, Response

__all__ = ["By", "reference_use"]

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


@dataclass(frozen=True, slots=True)
class Expected:
    """How probable a text is to M_PIT behind one reference."""

    prompt_id: str
    index: int
    """Of the reference, among the prompt's."""
    nats: float
    """The text's log-probability."""


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
    how = config.evaluation.reference_use or ReferenceUseConfig()
    looked = steps.rows("reference-use-prompts", first_ones, prompts, how.prompts)
    asked = steps.rows("reference-use-asked", asked_plainly, looked)
    sampling = config.evaluation.sampling(config.max_response_tokens)
    held = steps.sharded("reference-use-responses", answer, asked, steps.asks(by.start),
                         sampling.model_copy(update={"n": how.responses}),
                         seed_of(steps.seed, "reference use"),
                         shard_items=how.prompts)  # fmt: skip
    written = {
        which: _written(config, steps, by.pit, looked, held, which)
        for which in ("own", "other", "placebo")
    }
    return {
        **use(_shown(held, written, by.right)),
        "gaps": _interaction(config, steps, by.gap, looked, held),
        "information": _information(config, steps, by.pit, looked, held, written["own"]),
        "placebo": _placebo(config, steps, by.reward, looked, written),
        "placebo_right": _right_over_placebo(written, by.right) if by.right is not None else None,
        "examples": _examples(held, written, by.right),
    }


def first_ones(prompts: Sequence[Conversation], most: int) -> list[Conversation]:
    """Return the prompts that are looked at."""
    return list(prompts)[:most]


def asked_plainly(prompts: Sequence[Conversation]) -> list[Request]:
    """Return what M_P is asked."""
    return [Request(c.id, in_words(c.turns), 0, c.turns) for c in prompts]


def _written(
    config: PitConfig,
    steps: Run,
    pit: ModelRef,
    prompts: Rows[Conversation],
    held: Rows[Response],
    which: str,
) -> Rows[Response]:
    """Let M_PIT improve one reference a prompt; with the same random numbers, whichever it is."""
    shown = steps.rows(f"reference-use-{which}-asked", asked_to_improve, prompts, held, which,
                       config.template)  # fmt: skip
    return steps.sharded(f"reference-use-{which}-drawn", answer, shown, steps.asks(pit),
                         config.improve.sampling(1, config.max_response_tokens),
                         seed_of(steps.seed, "reference use, improved"),
                         shard_items=len(prompts))  # fmt: skip


def asked_to_improve(
    prompts: Sequence[Conversation], held: Sequence[Response], which: str, template: str
) -> list[Request]:
    """Return what M_PIT is asked: to improve the prompt's own response, another one, or a placebo.

    Args:
        prompts: that are looked at.
        held: responses of M_P to each.
        which: own is the first response, other the second, placebo the first one of the next prompt.
        template: of the request.
    """
    words, of = improvement_template(template), _by_prompt(held)
    asked = list(prompts)
    later = [*asked[1:], asked[0]]
    chosen = {
        "own": [of[c.id][0] for c in prompts],
        "other": [of[c.id][1] for c in prompts],
        "placebo": [of[c.id][0] for c in later],
    }[which]
    return [
        Request(c.id, in_words(c.turns), 0, rendered(words, c.turns, reference.text))
        for c, reference in zip(prompts, chosen, strict=True)
    ]


def _by_prompt(rows: Sequence[Response]) -> dict[str, list[Response]]:
    return {key: list(some) for key, some in groupby(rows, key=lambda row: row.prompt_id)}


def _shown(
    held: Rows[Response],
    written: dict[str, Rows[Response]],
    right_of: Callable[[str, str], frozenset[str]] | None,
) -> list[Shown]:
    of, rows = _by_prompt(held.items), []
    for own, other in zip(written["own"], written["other"], strict=True):
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
) -> dict[str, Any] | None:
    asked = steps.rows("reference-use-grid-asked", grid, prompts, held)
    scored: Rows[Scored] = steps.sharded(
        "reference-use-grid", gap_scores, asked, steps.asks(gap), config.gap != "trained",
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


def grid(prompts: Sequence[Conversation], held: Sequence[Response]) -> list[Improved]:
    """Return every response of a prompt as a candidate over every one as a reference."""
    turns = {c.id: c.turns for c in prompts}
    rows = []
    for key, some in _by_prompt(held).items():
        if any(r.finish == "error" for r in some):
            continue
        pairs = ((candidate, reference) for candidate in some for reference in some)
        rows += [
            Improved(key, index, turns[key], y.text, ref.text, finished=y.is_finished,
                     reference_finished=ref.is_finished)
            for index, (y, ref) in enumerate(pairs)
        ]  # fmt: skip
    return rows


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
    texts = {key: [r.text for r in some] for key, some in _by_prompt(held.items).items()}
    nats: dict[str, dict[str, float]] = {}  # of each different reference
    for row in rows:
        nats.setdefault(row.prompt_id, {})[texts[row.prompt_id][row.index]] = row.nats
    own = {key: of.pop(texts[key][0]) for key, of in nats.items()}
    return information(list(own.values()), [list(nats[key].values()) for key in own])


def expected(
    chunks: Sequence[Sequence[Response]],
    prompts: Sequence[Conversation],
    held: Sequence[Response],
    pit: Served,
    template: str,
) -> Iterator[Batch[Expected]]:
    """Take the log-probability of each text behind each reference of its prompt, in the references' order.

    Raises:
        EngineError: a reference and a text do not fit the model's context.
    """
    words, of = improvement_template(template), _by_prompt(held)
    turns = {c.id: c.turns for c in prompts}

    def scored(by: Engine, chunk: Sequence[Response]) -> Batch[Expected]:
        asked = [
            (r, index, rendered(words, turns[r.prompt_id], reference.text))
            for r in chunk
            for index, reference in enumerate(of[r.prompt_id])
        ]
        pairs = [
            (Prompt(f"{r.prompt_id}#{index}", as_asked(x, chat=pit.chat)), r.text)
            for r, index, x in asked
        ]
        told = zip(asked, by.logprobs(pairs), strict=True)
        return Batch([Expected(r.prompt_id, index, sum(nats)) for (r, index, _), nats in told],
                    engine=by.identity)  # fmt: skip

    return pit.each(chunks, scored)


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
    of = _by_prompt(held.items)

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
