"""Any judge against matches that people decided: what `selfimprove eval judge` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from selfimprove.config import apply_override, load
from selfimprove.data.llmbar import DecidedMatch, read_decided_matches
from selfimprove.errors import ConfigError
from selfimprove.evaluation.clusters import told
from selfimprove.evaluation.judge_quality import prefers_first, prefers_longer
from selfimprove.judges.judge import judge, judging_model, mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.own_engine import beside_engine
from selfimprove.judges.pairwise import Orders, read_orders
from selfimprove.progress import track
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import serving
from selfimprove.types import ModelRef, Response, Verdict

__all__ = ["evaluate_judge"]

_AT_ONCE: Final = 64  # matches judged between two signs of progress
_RANDOM: Final = "random"


def evaluate_judge(
    data: str, judge: str, overrides: Sequence[str], *, limit: int | None, seed: int
) -> dict[str, Any]:
    """Measure a judge on a file of matches with people's labels, in LLMBar's layout.

    Args:
        data: the file.
        judge: tiny, a folder, a hub id, a server's name for its model (with `engine.kind=server`),
            the name of a function of your own (`judges.py:shortest`), or `random`.
        overrides: fields of `JudgeConfig` as key=value, e.g. `kind=pairwise`, `votes=1`.
        limit: read so many matches; None is all.
        seed: of the verdicts.

    Returns:
        JSON data. `accuracy`: the judge's decision is people's, its tie counts half; in
        `accuracy_strict` a tie is a miss. Of a pairwise
        judge, `accuracy_in_order` and `accuracy_swapped` are those of each order alone, `both_orders`
        the share right in both, `consistency` the share in which both orders say the same, and
        `prefers_first` the share that goes to whatever is shown first; a judge that scores responses
        one at a time knows no order, and these are None. Matches without a decision are left out of
        every share and counted in `unscored`.

    Raises:
        ConfigError: an override is unknown, or the judge is `self`.
        DataError: the file cannot be read.
        EngineError: the model cannot be loaded, or a prompt does not fit its context.
    """
    config = _config(judge, overrides)
    decided = read_decided_matches(Path(data), limit)
    verdicts = _verdicts(decided, config, seed)
    return {
        "judge": judge,
        "kind": config.kind,
        "prompt": config.prompt if config.is_asked else None,
        "data": Path(data).name,
        "matches": len(decided),
        "votes": config.votes if config.is_asked else 1,
        **_figures(decided, verdicts),
    }


def _config(judge: str, overrides: Sequence[str]) -> JudgeConfig:
    # Measuring a judge that often says nothing is a result, not an error.
    tree: dict[str, Any] = {"model": judge, "max_unscored": 1.0}
    if judge == _RANDOM:
        tree |= {"kind": _RANDOM, "votes": 1}
    elif judge.rpartition(":")[0].endswith(".py"):
        tree |= {"kind": "function", "function": judge, "model": "self"}
    for override in overrides:
        apply_override(tree, override)
    config = load(JudgeConfig, beside_engine(tree, {"chat": True}), "overrides")
    if config.is_self:
        raise ConfigError("--judge self: there is no run whose model it could be; name a model")
    return config


def _verdicts(decided: Sequence[DecidedMatch], config: JudgeConfig, seed: int) -> list[Verdict]:
    engine = config.engine or EngineConfig(chat=True)
    nobody = ModelRef(_RANDOM, "", "")
    model = judging_model(config, nobody)
    parts = [decided[i : i + _AT_ONCE] for i in range(0, len(decided), _AT_ONCE)]
    chunks = [[r for one in part for r in _responses(one)] for part in parts]
    with serving(model, engine) as asked:
        batches = judge(chunks, asked, config, seed)
        return [v for batch in track(batches, "matches", len(chunks)) for v in batch.rows]


def _responses(one: DecidedMatch) -> tuple[Response, Response]:
    match = one.match
    return (
        Response(match.id, match.prompt, 0, match.first, "stop", 0),
        Response(match.id, match.prompt, 1, match.second, "stop", 0),
    )


def _figures(decided: Sequence[DecidedMatch], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    scores = mean_scores(verdicts)
    of = {one.match.id: one for one in decided}
    both = {m for m in of if (m, 0) in scores and (m, 1) in scores}
    right = [_right(scores[m, 0] - scores[m, 1], of[m]) for m in sorted(both)]
    orders = _orders(verdicts)
    in_order = [_right(o.first - 0.5, of[m]) for m, o in orders.items() if o.first is not None]
    swapped = [_right(o.second - 0.5, of[m]) for m, o in orders.items() if o.second is not None]
    complete = {m: o for m, o in orders.items() if None not in o}
    judged = [_responses(of[m]) for m in sorted(both)]
    silent = {v.prompt_id: v.unscored for v in verdicts if v.unscored and v.prompt_id not in both}
    return {
        "judged": len(both),
        "unscored": dict(Counter(silent.values()).most_common()),
        "ties": sum(share == 0.5 for share in right),
        "accuracy": _mean(right),
        "accuracy_strict": _mean([float(share == 1) for share in right]),
        "accuracy_in_order": _mean(in_order),
        "accuracy_swapped": _mean(swapped),
        "both_orders": _mean([float(_in_both(o, of[m])) for m, o in complete.items()]),
        "consistency": _mean([float(o.agree) for o in complete.values()]),
        "prefers_first": told(prefers_first(verdicts)),
        "prefers_longer": told(prefers_longer(judged, scores)),
        "people_prefer_longer": told(prefers_longer(judged, _truth(decided))),
    }


def _right(first_ahead: float, one: DecidedMatch) -> float:
    """Return 1 where the judge's lead is on people's side, 0.5 where it sees a tie."""
    if first_ahead == 0:
        return 0.5
    return float((first_ahead > 0) == one.first_is_better)


def _orders(verdicts: Sequence[Verdict]) -> dict[str, Orders]:
    """Return what a pairwise judge said of each match's first response."""
    return {v.prompt_id: read_orders(v.said) for v in verdicts if v.index == 0 and v.said}


def _in_both(orders: Orders, one: DecidedMatch) -> bool:
    return all(share is not None and _right(share - 0.5, one) == 1 for share in orders)


def _truth(decided: Sequence[DecidedMatch]) -> dict[tuple[str, int], float]:
    return {
        (one.match.id, index): float((index == 0) == one.first_is_better)
        for one in decided
        for index in (0, 1)
    }


def _mean(values: Sequence[float]) -> dict[str, Any] | None:
    return told([[value] for value in values])
