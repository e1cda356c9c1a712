"""Judges: responses in, verdicts out. A recipe names the kind, the model and the engine.

- rubric: LLM-as-a-Judge; the model is shown a judge prompt and ends in `Score: k` (Sec. 2.2).
- pairwise: the model compares two responses at a time, in both orders.
- reward_model: a sequence classifier with one logit.
- function: code of the user's own.
- random: a control; scores that know nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal

from selfimprove.errors import JudgeError
from selfimprove.judges.function import function_verdicts
from selfimprove.judges.judge_config import (
    JudgeConfig,
)
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.judges.pairwise import decide, tournament
from selfimprove.judges.reward_rows import Improved
from selfimprove.judges.rubric import rubric_verdicts
from selfimprove.models import locate
from selfimprove.rows import Batch
from selfimprove.sampling.served import Served
from selfimprove.seeds import rng
from selfimprove.store import Run
from selfimprove.types import Match, ModelRef, Outcome, Response, Verdict
from selfimprove.unfinished import decided

__all__ = ["asked_judge", "compare", "highest_score", "judge", "judge_conversations", "judging_model", "lowest_score", "mean_scores", "outcome", "settled"]  # fmt: skip

_FAILED: Final = "the server gave no response"
# The share without a score says something only of so many; a step's last shard may hold fewer.
_ENOUGH: Final = 8


def judging_model(
    config: JudgeConfig, current: ModelRef, find: Callable[[str], ModelRef] = locate
) -> ModelRef:
    """Return the model that judges: the one of the iteration, or the one that is named, which `find` finds.

    Raises:
        EngineError: there is no such model.
    """
    if not config.names_model:
        return current
    if not config.holds_model_here:
        return ModelRef(config.model, config.model, "")  # its weights lie with the server
    return find(config.model)


def asked_judge(steps: Run, config: JudgeConfig, current: ModelRef) -> Served:
    """Return the judge to be asked by a step of a run, through its own engine where it has one.

    Raises:
        EngineError: there is no such model.
    """
    return steps.asks(judging_model(config, current, steps.locate), config.engine)


def judge(
    chunks: Sequence[Sequence[Response]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[Verdict]]:
    """Judge every response; verdicts come in the order of the responses, then of the votes.

    One that a server failed to give is not judged, and is counted as unscored.

    Args:
        chunks: responses; for a pairwise judge those of one prompt together and in one chunk.
        model: the judge: `judging_model`, behind `config.engine` or the run's.
        config: how it is asked.
        seed: with prompt id, index and vote it seeds each verdict.

    Raises:
        JudgeError: too many responses or matches of a chunk got no score.
        EngineError: the model cannot be loaded or sampled.
    """
    found: Iterator[Batch[Verdict]]
    given = [[r for r in chunk if r.finish != "error"] for chunk in chunks]
    if config.kind == "random":
        found = (Batch(_random(chunk, seed)) for chunk in given)
    elif config.function is not None:
        found = function_verdicts(given, config.function)
    elif config.kind == "reward_model":
        from selfimprove.judges.reward_model import reward_verdicts

        found = reward_verdicts(given, model, _layout(config))
    elif config.kind == "pairwise":
        found = tournament(given, model, config, seed)
    else:
        found = rubric_verdicts(given, model, config, seed)
    return _beside_failures(chunks, _heard(found, config))


def _beside_failures(
    chunks: Sequence[Sequence[Response]], found: Iterable[Batch[Verdict]]
) -> Iterator[Batch[Verdict]]:
    """Pass verdicts on, with one for each response that there is not."""
    for chunk, batch in zip(chunks, found, strict=True):
        place = {(r.prompt_id, r.index): number for number, r in enumerate(chunk)}
        failed = [Verdict(r.prompt_id, r.index, 0, None, _FAILED, "") for r in chunk
                  if r.finish == "error"]  # fmt: skip
        rows = sorted([*batch.rows, *failed], key=lambda v: place[v.prompt_id, v.index])
        yield replace(batch, rows=rows)


def judge_conversations(
    chunks: Sequence[Sequence[Improved]],
    model: Served,
    config: JudgeConfig,
) -> Iterator[Batch[Verdict]]:
    """Let a reward model judge replies to conversations, turn by turn as it was trained to read them.

    Raises:
        JudgeError: too many replies of a chunk got no score.
        EngineError: the model cannot be loaded.
    """
    from selfimprove.judges.reward_model import conversation_verdicts

    found = conversation_verdicts(chunks, model, _layout(config))
    return _heard(found, config)


def _layout(config: JudgeConfig) -> Literal["chat", "pair", "text"] | None:
    return None if config.layout == "auto" else config.layout


def _heard(found: Iterable[Batch[Verdict]], config: JudgeConfig) -> Iterator[Batch[Verdict]]:
    """Pass verdicts on; refuse a chunk in which too many are none."""
    for batch in found:
        judged = {
            (v.prompt_id, v.index): f"{v.unscored}; it said {_words(v)[:200]!r}" for v in batch.rows
        }
        scored = mean_scores(batch.rows)
        _refuse_silence(
            [why for key, why in judged.items() if key not in scored], len(judged), config
        )
        yield batch


def _words(verdict: Verdict) -> str:
    if verdict.said is None:
        return verdict.text
    return "\n".join((*verdict.said.first, *verdict.said.second))


def compare(
    chunks: Sequence[Sequence[Match]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[Outcome]]:
    """Let a judge decide matches: a pairwise one in both orders, the others by their scores.

    A match with an unfinished response is settled by that, and not asked.

    Raises:
        JudgeError: too many responses or matches of a chunk got no score.
        EngineError: the model cannot be loaded or sampled.
    """
    undecided = [[match for match in chunk if settled(match) is None] for chunk in chunks]
    by = _by_comparing if config.kind == "pairwise" else _by_scores
    judged = by([asked for asked in undecided if asked], model, config, seed)
    for chunk, asked in zip(chunks, undecided, strict=True):
        batch: Batch[Outcome] = next(judged) if asked else Batch(())
        told = {o.id: o for o in batch.rows}
        yield replace(batch, rows=[settled(match) or told[match.id] for match in chunk])


def _by_comparing(
    chunks: Sequence[Sequence[Match]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[Outcome]]:
    for batch in decide(chunks, model, config, seed):
        silent = [o.unscored for o in batch.rows if o.unscored is not None]
        _refuse_silence(silent, len(batch.rows), config)
        yield batch


def _by_scores(
    chunks: Sequence[Sequence[Match]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[Outcome]]:
    asked = [
        [
            Response(match.id, match.prompt, index, text, "stop", 0)
            for match in chunk
            for index, text in enumerate((match.first, match.second))
        ]
        for chunk in chunks
    ]
    for chunk, batch in zip(chunks, judge(asked, model, config, seed), strict=True):
        scores = mean_scores(batch.rows)
        outcomes = [
            outcome(match, scores.get((match.id, 0)), scores.get((match.id, 1))) for match in chunk
        ]
        yield Batch(outcomes, batch.tokens_sampled, batch.prompt_tokens, batch.engine)


def lowest_score(config: JudgeConfig) -> float | None:
    """Return the least that a judge can give; None: its scale has no end."""
    if config.kind in ("reward_model", "function"):
        return None
    return float(judge_prompt(config.prompt).lowest) if config.kind == "rubric" else 0.0


def highest_score(config: JudgeConfig) -> float | None:
    """Return the most that a judge's prompt lets it give; None: it is asked for no points."""
    return float(judge_prompt(config.prompt).highest) if config.kind == "rubric" else None


def settled(match: Match) -> Outcome | None:
    """Return how a match ends before anyone judges it, by the rule of `unfinished`, if it does."""
    lengths = len(match.first), len(match.second)
    if "error" in (match.first_finish, match.second_finish):
        return Outcome(match.id, match.prompt_id, None, _FAILED, *lengths)
    share = decided(match.first_finish, match.second_finish)
    return None if share is None else Outcome(match.id, match.prompt_id, share, None, *lengths)


def outcome(match: Match, first: float | None, second: float | None) -> Outcome:
    """Let the higher score win; equal ones are a tie, and without one of them there is no result.

    A match with an unfinished response is settled by that.
    """
    if (before := settled(match)) is not None:
        return before
    lengths = len(match.first), len(match.second)
    if first is None or second is None:
        return Outcome(match.id, match.prompt_id, None, "a response has no score", *lengths)
    won = (first > second) + (first == second) / 2
    return Outcome(match.id, match.prompt_id, won, None, *lengths)


def mean_scores(verdicts: Iterable[Verdict]) -> dict[tuple[str, int], float]:
    """Return the mean of each response's scores, never rounded; without any it is absent."""
    found: dict[tuple[str, int], list[float]] = {}
    for verdict in verdicts:
        if verdict.score is not None:
            found.setdefault((verdict.prompt_id, verdict.index), []).append(verdict.score)
    return {key: sum(scores) / len(scores) for key, scores in found.items()}


def _random(responses: Sequence[Response], seed: int) -> list[Verdict]:
    """Return scores between 0 and 1, each from a stream of its own."""
    scores = [rng(seed, "random judge", r.prompt_id, r.index).random() for r in responses]
    return [
        Verdict(r.prompt_id, r.index, 0, score, None, "")
        for r, score in zip(responses, scores, strict=True)
    ]


def _refuse_silence(unscored: Sequence[str], of: int, config: JudgeConfig) -> None:
    if of >= _ENOUGH and len(unscored) / of > config.max_unscored:
        way = (
            "raise judge.max_tokens, choose another judge.prompt or judge.model,"
            if config.is_asked
            else "let the judge score more of them,"
        )
        raise JudgeError(
            f"{len(unscored)} of {of} got no score from the judge (the first: {unscored[0]}): {way} or "
            "allow it with judge.max_unscored"
        )
