"""Judges: responses in, verdicts out. A recipe names the kind, the model and the engine.

- rubric: LLM-as-a-Judge; the model is shown a judge prompt and ends in `Score: k` (Sec. 2.2).
- pairwise: the model compares two responses at a time, in both orders.
- reward_model: a sequence classifier with one logit.
- function: code of the user's own.
- random: a control; scores that know nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from selfimprove.config import Config, fingerprint
from selfimprove.errors import JudgeError
from selfimprove.judges.function import function_verdicts
from selfimprove.judges.gap import Improved
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.models import is_here, locate
from selfimprove.own_code import OwnCode
from selfimprove.rows import Batch
from selfimprove.sampling.engine import EngineConfig
from selfimprove.seeds import rng
from selfimprove.types import Match, ModelRef, Outcome, Response, Verdict
from selfimprove.unfinished import decided

__all__ = ["RANDOM", "JudgeConfig", "compare", "highest_score", "judge", "judge_conversations",
           "judging_model", "lowest_score", "mean_scores", "outcome", "settled"]  # fmt: skip

_SELF: Final = "self"
_ASKED: Final = ("rubric", "pairwise")  # the kinds that are asked by a prompt
_WITHOUT_MODEL: Final = ("function", "random")
_FAILED: Final = "the server gave no response"
# The share without a score says something only of so many; a step's last shard may hold fewer.
_ENOUGH: Final = 8


class JudgeConfig(Config):
    """Who judges, how it is asked, and how often."""

    kind: Literal["rubric", "pairwise", "reward_model", "function", "random"] = "rubric"
    """rubric: points by a judge prompt; pairwise: comparisons; reward_model: a classifier with one
    logit; function: code of your own; random: a control."""
    function: OwnCode | None = None
    """Of kind `function`: module:name or path/to/file.py:name. It gets a list of prompts and one of
    responses, and returns a score for each, or None. Its file's digest is added by itself."""
    model: str = _SELF
    """self: the model of the iteration; or tiny, a folder, a hub id. With an engine of kind `server`
    the name by which the server knows it."""
    prompt: str = "additive"
    """A shipped judge prompt (additive, multiple_choice, tiny; pairwise), or a YAML file of one's own.
    A pairwise judge has `pairwise` where nothing is said."""
    prompt_digest: str | None = None
    """What the judge prompt says, by digest: filled in by itself, so that a stored verdict belongs to
    the words it was asked with; where a recipe gives it, the prompt must match."""
    layout: Literal["auto", "chat", "pair", "text"] = "auto"
    """How a reward_model is shown prompt and response. chat: as turns of its chat template; pair: as two
    segments, tokenizer(prompt, response), as BERT-like ones are trained; text: as one text with an
    empty line between them. auto: as it was trained where that was here (`selfimprove reward`), else
    the first of them that its tokenizer knows."""
    votes: int = Field(default=3, ge=1)
    """Verdicts on a response, of which the mean is taken. Paper: 3."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the verdicts. Paper: that of the candidates, 0.7."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Of the verdicts. Paper: 0.9."""
    max_tokens: int = Field(default=512, ge=1)
    """Of one verdict."""
    engine: EngineConfig | None = None
    """Another engine for the judge alone, e.g. a server; None: that of the run. What it leaves out is
    as in the run's; with a `kind` or a `server` of its own it shares `chat` alone."""
    max_unscored: float = Field(default=0.5, ge=0, le=1)
    """Above this share of responses without any score the step stops with an error."""

    derived: ClassVar[frozenset[str]] = frozenset({"prompt_digest"})
    later: ClassVar[frozenset[str]] = frozenset({"function"})

    @property
    def is_asked(self) -> bool:
        """Whether it writes its verdicts, and does not only score."""
        return self.kind in _ASKED

    @property
    def is_self(self) -> bool:
        """Whether the model of the iteration judges."""
        return self.model == _SELF and self.kind not in _WITHOUT_MODEL

    @property
    def holds_model_here(self) -> bool:
        """Whether `model` names weights on this machine, or such as are fetched to it."""
        if self.model == _SELF or self.kind in _WITHOUT_MODEL:
            return False
        server = self.engine.server if self.engine is not None else None
        return server is None or (bool(server.command) and is_here(self.model))

    @model_validator(mode="before")
    @classmethod
    def _pins_its_prompt(cls, tree: Any) -> Any:  # noqa: ANN401  whatever was given
        if not isinstance(tree, dict):
            return tree
        kind = tree.get("kind", "rubric")
        filled = {**tree}
        if kind == "pairwise":
            filled.setdefault("prompt", "pairwise")
        name = filled.get("prompt", "additive")
        if kind in _ASKED and isinstance(name, str):
            filled.setdefault("prompt_digest", _said_by(name, kind))
        return filled

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.kind == "function") != (self.function is not None):
            raise ValueError("judge: kind `function` and the name of a `function` belong together")
        if self.kind == "reward_model" and self.model == _SELF:
            raise ValueError("judge.model: a reward_model judge needs the folder of a classifier")
        if self.kind != "reward_model" and self.layout != "auto":
            raise ValueError("judge.layout: only a reward_model is shown prompt and response by it")
        if self.kind in _ASKED and self.votes > 1 and self.temperature == 0:
            raise ValueError("judge.votes: at temperature 0 all votes are the same; set votes=1")
        if self.kind in _ASKED and self.prompt_digest != _said_by(self.prompt, self.kind):
            raise ValueError(
                f"judge.prompt: {self.prompt} no longer says what it said when judge.prompt_digest was "
                "written; leave the digest out to judge by the new words"
            )
        return self


def _said_by(prompt: str, kind: str) -> str:
    return fingerprint(judge_prompt(prompt, pairwise=kind == "pairwise"))


RANDOM = JudgeConfig(kind="random", votes=1)
"""The control judge."""


def judging_model(config: JudgeConfig, current: ModelRef) -> ModelRef:
    """Return the model that judges: the one of the iteration, or the one that is named.

    Raises:
        EngineError: there is no such model.
    """
    if config.model == _SELF or config.kind in _WITHOUT_MODEL:
        return current
    if not config.holds_model_here:
        return ModelRef(config.model, config.model, "")  # its weights lie with the server
    return locate(config.model)


def judge(
    chunks: Sequence[Sequence[Response]],
    model: ModelRef,
    config: JudgeConfig,
    engine: EngineConfig,
    seed: int,
) -> Iterator[Batch[Verdict]]:
    """Judge every response; verdicts come in the order of the responses, then of the votes.

    One that a server failed to give is not judged, and is counted as unscored.

    Args:
        chunks: responses; for a pairwise judge those of one prompt together and in one chunk.
        model: the judge, from `judging_model`.
        config: how it is asked.
        engine: the run's, unless `config.engine` names another.
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

        found = reward_verdicts(given, model, config.engine or engine, _layout(config))
    elif config.kind == "pairwise":
        from selfimprove.judges.pairwise import tournament

        found = tournament(given, model, config, config.engine or engine, seed)
    else:
        from selfimprove.judges.rubric import rubric_verdicts

        found = rubric_verdicts(given, model, config, config.engine or engine, seed)
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
    model: ModelRef,
    config: JudgeConfig,
    engine: EngineConfig,
) -> Iterator[Batch[Verdict]]:
    """Let a reward model judge replies to conversations, turn by turn as it was trained to read them.

    Raises:
        JudgeError: too many replies of a chunk got no score.
        EngineError: the model cannot be loaded.
    """
    from selfimprove.judges.reward_model import conversation_verdicts

    found = conversation_verdicts(chunks, model, config.engine or engine, _layout(config))
    return _heard(found, config)


def _layout(config: JudgeConfig) -> Literal["chat", "pair", "text"] | None:
    return None if config.layout == "auto" else config.layout


def _heard(found: Iterable[Batch[Verdict]], config: JudgeConfig) -> Iterator[Batch[Verdict]]:
    """Pass verdicts on; refuse a chunk in which too many are none."""
    for batch in found:
        judged = {
            (v.prompt_id, v.index): f"{v.unscored}; it said {v.text[:200]!r}" for v in batch.rows
        }
        scored = mean_scores(batch.rows)
        _refuse_silence(
            [why for key, why in judged.items() if key not in scored], len(judged), config
        )
        yield batch


def compare(
    chunks: Sequence[Sequence[Match]],
    model: ModelRef,
    config: JudgeConfig,
    engine: EngineConfig,
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
    judged = by([asked for asked in undecided if asked], model, config, engine, seed)
    for chunk, asked in zip(chunks, undecided, strict=True):
        batch: Batch[Outcome] = next(judged) if asked else Batch(())
        told = {o.id: o for o in batch.rows}
        yield replace(batch, rows=[settled(match) or told[match.id] for match in chunk])


def _by_comparing(
    chunks: Sequence[Sequence[Match]],
    model: ModelRef,
    config: JudgeConfig,
    engine: EngineConfig,
    seed: int,
) -> Iterator[Batch[Outcome]]:
    from selfimprove.judges.pairwise import decide

    for batch in decide(chunks, model, config, config.engine or engine, seed):
        silent = [o.unscored for o in batch.rows if o.unscored is not None]
        _refuse_silence(silent, len(batch.rows), config)
        yield batch


def _by_scores(
    chunks: Sequence[Sequence[Match]],
    model: ModelRef,
    config: JudgeConfig,
    engine: EngineConfig,
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
    for chunk, batch in zip(chunks, judge(asked, model, config, engine, seed), strict=True):
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
        raise JudgeError(
            f"{len(unscored)} of {of} got no score from the judge (the first: {unscored[0]}): raise "
            "judge.max_tokens, choose another judge.prompt or judge.model, or allow it with "
            "judge.max_unscored"
        )
