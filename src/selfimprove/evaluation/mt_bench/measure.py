"""Models on MT-Bench: what `selfimprove eval mt-bench` does.

Each question is answered, its second turn is answered in the same conversation, and a judge rates both
answers one by one. A rating that cannot be read is unscored, counted, and in no mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from selfimprove.config import load
from selfimprove.errors import ConfigError
from selfimprove.evaluation.mt_bench.judging import (
    JudgePrompt,
    judge_prompts,
    judged_turns,
    read_rating,
)
from selfimprove.evaluation.mt_bench.rows import TURNS, TwoTurns, read_questions
from selfimprove.evaluation.mt_bench.scores import Rated, difference, figures
from selfimprove.files import make_folder, write_replacing
from selfimprove.judges.judge import judging_model
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.own_engine import ChatsAndJudges
from selfimprove.judges.rubric import voting
from selfimprove.judges.score_text import Scored
from selfimprove.models import locate
from selfimprove.progress import track
from selfimprove.sampling.conversation import as_asked
from selfimprove.sampling.engine import SamplingConfig, draw_in_order
from selfimprove.sampling.own_words import own_words
from selfimprove.sampling.responses import answer
from selfimprove.sampling.served import Served, serving
from selfimprove.types import Message, ModelRef, Prompt, Request, Response

__all__ = ["measure_mt_bench"]

_CHUNK: Final = 32  # judgements between two signs of progress
_TEMPERATURES: Final = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Of answers, by category; 0 elsewhere. As published."""
_NOT_TAKEN: Final = ("kind", "prompt", "function", "layout", "max_unscored")


class _Bench(ChatsAndJudges):
    """What may be overridden on the command line."""

    judge: JudgeConfig
    """Who rates: its model and engine, and how often it is asked."""
    max_tokens: int = 1024
    """Of one answer. Published: 1,024."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One answer to be judged."""

    question: TwoTurns
    turn: int
    answers: tuple[str, ...]
    """To the turns so far."""


def measure_mt_bench(  # noqa: PLR0913  models, a judge, its files, how, and a seed
    models: Sequence[str],
    questions: Path,
    judge: str,
    how: Mapping[str, Any],
    *,
    references: Path | None = None,
    prompts: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    out: Path | None = None,
) -> list[dict[str, Any]]:
    """Return the mean ratings of each model, and its difference from the first, as JSON data.

    Args:
        models: each answers all questions.
        questions: MT-Bench's `question.jsonl`.
        judge: a model that rates, or a server's name for one, with judge.engine.kind=server.
        how: fields of `judge` and `engine`, and max_tokens.
        references: `reference_answer/gpt-4.jsonl`, for mathematics, reasoning and coding.
        prompts: MT-Bench's `judge_prompts.jsonl`, or a YAML file as ours; None: ours.
        limit: first so many questions.
        seed: of answers and ratings.
        out: a folder for what models and judge said, a .jsonl file each.

    Raises:
        ConfigError: a field is unknown, or a judge prompt is missing.
        DataError: a file cannot be read, or a question lacks its reference.
        EngineError: a model cannot be loaded or reached, or a conversation does not fit its context.
    """
    config, wording = _config(judge, how), judge_prompts(prompts)
    asked = read_questions(questions, references, limit)
    by = judging_model(config.judge, ModelRef("", "", ""))
    found: list[dict[str, Any]] = []
    first: list[Rated] | None = None
    for model in models:
        answered, unfinished = _answers(model, asked, config, seed)
        rated = _ratings(answered, asked, by, config, wording, seed)
        if out is not None:
            _write(out / f"{len(found)}-{Path(model).name}.jsonl", rated)
        versus = None if first is None else difference(first, rated)
        found.append({"model": model, "judge": judge, "prompts": str(prompts or "selfimprove"),
                      "questions": len(asked), **figures(rated), "unfinished": unfinished,
                      "versus_first": versus})  # fmt: skip
        first = first or rated
    return found


def _config(judge: str, how: Mapping[str, Any]) -> _Bench:
    told = how.get("judge") or {}
    if not isinstance(told, Mapping):
        raise ConfigError(f"judge={told}: name a field of it, e.g. judge.max_tokens=512")
    if refused := [name for name in _NOT_TAKEN if name in told]:
        raise ConfigError(
            f"judge.{refused[0]}: MT-Bench's judge is asked by --prompts alone; leave it out"
        )
    # Published: greedy.
    tree = {"model": judge, "votes": 1, "temperature": 0, "max_tokens": 1024, **told}
    config = load(_Bench, {**how, "judge": tree}, "overrides")
    if config.judge.is_self:
        raise ConfigError("--judge self: there is no run whose model it could be; name a model")
    return config


# ---- answering


def _answers(
    model: str, asked: Sequence[TwoTurns], config: _Bench, seed: int
) -> tuple[list[_Turn], int]:
    """Return the answers to be judged, and how many of them did not end."""
    turns: list[_Turn] = []
    unfinished = 0
    said: dict[str, tuple[str, ...]] = {q.id: () for q in asked}
    with serving(locate(model), config.engine) as served:
        for turn in range(TURNS):
            # A question whose first answer a server failed to give has no second turn.
            going = [q for q in asked if len(said[q.id]) == turn]
            rows = [r for r in _drawn(served, going, said, config, seed) if r.finish != "error"]
            unfinished += sum(not r.is_finished for r in rows)
            of = {q.id: q for q in going}
            for row in rows:
                said[row.prompt_id] = (*said[row.prompt_id], row.text)
                turns.append(_Turn(of[row.prompt_id], turn, said[row.prompt_id]))
    return turns, unfinished


def _drawn(
    served: Served,
    going: Sequence[TwoTurns],
    said: Mapping[str, tuple[str, ...]],
    config: _Bench,
    seed: int,
) -> Iterator[Response]:
    """Yield the answers to one turn, those of one temperature together."""
    warmth = {q.id: _TEMPERATURES.get(q.category, 0.0) for q in going}
    for temperature in sorted(set(warmth.values())):
        sampling = SamplingConfig(temperature=temperature, max_tokens=config.max_tokens)
        chunk = [_request(q, said[q.id]) for q in going if warmth[q.id] == temperature]
        for batch in answer([chunk], served, sampling, seed):
            yield from batch.rows


def _request(question: TwoTurns, said: tuple[str, ...]) -> Request:
    turns: list[Message] = []
    for asked, answered in zip(question.turns, said, strict=False):
        turns += [Message("user", asked), Message("assistant", answered)]
    last = question.turns[len(said)]
    return Request(question.id, last, 0, (*turns, Message("user", last)))


# ---- judging


def _ratings(
    answered: Sequence[_Turn],
    asked: Sequence[TwoTurns],
    by: ModelRef,
    config: _Bench,
    wording: Mapping[str, JudgePrompt],
    seed: int,
) -> list[Rated]:
    """Return a rating of each turn of each question, in the order of the questions."""
    engine = config.judge.engine or config.engine
    found = {
        (q.id, t): Rated(q, t, None, "not answered", "", "") for q in asked for t in range(TURNS)
    }
    chunks = [answered[i : i + _CHUNK] for i in range(0, len(answered), _CHUNK)]
    with serving(by, engine) as served, served.open() as sampler:
        for chunk in track(iter(chunks), "ratings", len(chunks)):
            prompts = [
                Prompt(f"{t.question.id}#{t.turn}",
                       as_asked(judged_turns(wording, t.question, t.answers, t.turn), chat=served.chat))
                for t in chunk
            ]  # fmt: skip
            votes: dict[str, list[Rated]] = {}
            of = {prompt.key: t for prompt, t in zip(prompts, chunk, strict=True)}
            for draw in draw_in_order(sampler, prompts, voting(config.judge), seed=seed):
                said, t = own_words(draw), of[draw.key]
                read = read_rating(said.text)
                score = read.score if isinstance(read, Scored) else None
                why = None if isinstance(read, Scored) else read.reason
                if said.finish == "error":
                    why = "the server gave no answer"
                elif score is None and said.finish == "length":
                    why = "cut off by judge.max_tokens"
                votes.setdefault(draw.key, []).append(
                    Rated(t.question, t.turn, score, why, t.answers[-1], said.text)
                )
            found.update({(v[0].question.id, v[0].turn): _mean(v) for v in votes.values()})
    return list(found.values())


def _mean(votes: Sequence[Rated]) -> Rated:
    scores = [v.score for v in votes if v.score is not None]
    if not scores:
        return votes[0]
    said = "\n\n".join(v.judgement for v in votes)
    return replace(votes[0], score=sum(scores) / len(scores), unscored=None, judgement=said)


def _write(path: Path, rated: Sequence[Rated]) -> None:
    rows = [
        {"question_id": r.question.id, "category": r.question.category, "turn": r.turn + 1,
         "question": r.question.turns[r.turn], "answer": r.answer, "judgement": r.judgement,
         "score": r.score, "unscored": r.unscored}
        for r in rated
    ]  # fmt: skip
    make_folder(path.parent)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_replacing(path, lines.encode("utf-8", errors="replace"))
