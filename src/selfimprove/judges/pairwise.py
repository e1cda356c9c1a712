"""Pairwise judging: every comparison is asked in both orders, and disagreement is a tie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby
from typing import Final, NamedTuple

from selfimprove.answers.own_answer import next_judged
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.judge_prompts import JudgePrompt, judge_prompt
from selfimprove.judges.rubric import voting
from selfimprove.rows import Batch
from selfimprove.sampling.engine import Engine, draw_in_order
from selfimprove.sampling.own_words import own_words, response
from selfimprove.sampling.responses import asked
from selfimprove.sampling.served import Served
from selfimprove.types import BothOrders, Match, Outcome, Prompt, Response, Verdict
from selfimprove.unfinished import decided

__all__ = ["Orders", "decide", "read_choice", "read_orders", "tournament"]

_BETTER: Final = re.compile(r"(?<!\w)better[*_`]*[ \t]?[:=][ \t*_`<\[(]*(?P<choice>[^\n]*)", re.I)
_CHOICE: Final = re.compile(
    r"(?:response[ \t]+)?(?P<one>A|B|tie)(?!\w)"
    r"(?![ \t]*(?:[,/&+=≈~<≤≥]|or|and|vs\.?|versus)[ \t]*(?:A|B|tie)\b)",
    re.I,
)
_WON: Final = {"a": 1.0, "b": 0.0, "tie": 0.5}


def read_choice(text: str) -> float | None:
    """Read the last `Better: A`, `B` or `tie` of a judge's own turn: the share that goes to A.

    A new case that the judge goes on to invent does not count.

    >>> read_choice("A is longer, yet vague. Better: B")
    0.0
    """
    text = response(text)
    found = list(_BETTER.finditer(text))
    stated = (f.end() for f in found if _CHOICE.match(f["choice"]))
    end = next_judged(text, next(stated, len(text)))
    last = [f["choice"] for f in found if f.start() < end][-1:]
    choice = _CHOICE.match(last[0]) if last else None
    return _WON[choice["one"].lower()] if choice else None


class Orders(NamedTuple):
    """What one response got when it was shown first, and when it was shown second."""

    first: float | None
    """Its share of the win, a mean over the votes that chose; None: none of them did."""
    second: float | None

    @property
    def agree(self) -> bool:
        """Both orders say the same of it: won, lost or tied."""
        return _side(self.first) == _side(self.second)


def _side(share: float | None) -> int | None:
    return None if share is None else (share > 0.5) - (share < 0.5)


def read_orders(said: BothOrders) -> Orders:
    """Return what a response got in each order."""
    swapped = _mean_choice(said.second)
    return Orders(_mean_choice(said.first), None if swapped is None else 1 - swapped)


def _mean_choice(texts: Sequence[str]) -> float | None:
    chosen = [choice for text in texts if (choice := read_choice(text)) is not None]
    return sum(chosen) / len(chosen) if chosen else None


def decide(
    chunks: Sequence[Sequence[Match]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[Outcome]]:
    """Decide matches; the first wins only where both orders say so."""
    for batch in _decisions(chunks, model, config, seed):
        rows = [_outcome(decision) for decision in batch.rows]
        yield Batch(rows, batch.tokens_sampled, batch.prompt_tokens, batch.engine)


@dataclass(slots=True)
class _Decision:
    """One match with the judge's words on it."""

    match: Match
    first_first: list[str] = field(default_factory=list)
    """One text a vote, with the match's first response shown first."""
    second_first: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    """What the judge thought before its texts, of both orders."""

    @property
    def settled(self) -> float | None:
        """Share of the win that goes to the first by the rule of `unfinished`; None: it must be judged."""
        return decided(self.match.first_finish, self.match.second_finish)

    @property
    def preference(self) -> float | None:
        """Share of the win that goes to the first; None: one order brought no choice."""
        if self.settled is not None:
            return self.settled
        orders = self.orders
        if orders.first is None or orders.second is None:
            return None
        return (1 + (_side(orders.first) or 0)) / 2 if orders.agree else 0.5

    @property
    def orders(self) -> Orders:
        return read_orders(BothOrders(tuple(self.first_first), tuple(self.second_first)))

    @property
    def unscored(self) -> str | None:
        return "no choice in one of the orders" if self.preference is None else None


def _decisions(
    chunks: Sequence[Sequence[Match]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[_Decision]]:
    wording = judge_prompt(config.prompt, pairwise=True)

    def decided(sampler: Engine, chunk: Sequence[Match]) -> Batch[_Decision]:
        decisions = [_Decision(match) for match in chunk]
        places: dict[str, list[str]] = {}
        prompts: list[Prompt] = []
        for decision in (d for d in decisions if d.settled is None):
            for text, told in _both_orders(decision, wording):
                key = f"{decision.match.id}/{'AB' if told is decision.first_first else 'BA'}"
                places[key] = told
                prompts.append(asked(key, text, chat=model.chat))
        draws = draw_in_order(sampler, prompts, voting(config), seed=seed)
        of = {decision.match.id: decision for decision in decisions}
        for draw in map(own_words, draws):
            places[draw.key].append(draw.text.strip())
            of[draw.key.rpartition("/")[0]].reasoning.append(draw.reasoning)
        prompt_tokens = sum(d.prompt_tokens for d in draws if d.index == 0)
        sampled = sum(d.new_tokens for d in draws)
        return Batch(decisions, sampled, prompt_tokens, sampler.identity)

    return model.each(chunks, decided)


def _both_orders(decision: _Decision, wording: JudgePrompt) -> Iterator[tuple[str, list[str]]]:
    """Yield the judge's prompt for each order, with the list that its answers go to."""
    match = decision.match
    for shown, told in (
        ((match.first, match.second), decision.first_first),
        ((match.second, match.first), decision.second_first),
    ):
        # One delimiter for both orders: nothing but the order differs.
        yield wording.filled(match.id, match.prompt, *shown), told


def _outcome(decision: _Decision) -> Outcome:
    match = decision.match
    lengths = len(match.first), len(match.second)
    return Outcome(match.id, match.prompt_id, decision.preference, decision.unscored, *lengths)


def tournament(
    chunks: Sequence[Sequence[Response]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[Verdict]]:
    """Compare every two responses of a prompt; a response's mean score is its share of the wins.

    A match with an unfinished response is settled by that,
    and not asked. All responses of a prompt must lie in one chunk; a prompt with a single response has
    no verdicts.
    """
    rounds = [list(_matches(chunk)) for chunk in chunks]
    made = _decisions(rounds, model, config, seed)
    for chunk, batch in zip(chunks, made, strict=True):
        place = {(r.prompt_id, r.index): i for i, r in enumerate(chunk)}
        verdicts = [verdict for decision in batch.rows for verdict in _both_sides(decision)]
        ordered = sorted(verdicts, key=lambda v: (place[v.prompt_id, v.index], v.opponent))
        yield Batch(ordered, batch.tokens_sampled, batch.prompt_tokens, batch.engine)


def _matches(responses: Sequence[Response]) -> Iterator[Match]:
    for prompt_id, group in groupby(responses, key=lambda r: r.prompt_id):
        for one, other in combinations(group, 2):
            name = f"{prompt_id}#{one.index}-{other.index}"
            yield Match(name, prompt_id, one.prompt, one.text, other.text, one.finish, other.finish)


def _both_sides(decision: _Decision) -> tuple[Verdict, Verdict]:
    prompt, why, won = decision.match.prompt_id, decision.unscored, decision.preference
    first, second = (int(i) for i in decision.match.id.rsplit("#", 1)[1].split("-"))
    lost = None if won is None else 1 - won
    ours, theirs = tuple(decision.first_first), tuple(decision.second_first)
    one, other = (BothOrders(ours, theirs), BothOrders(theirs, ours)) if ours else (None, None)
    thought = "\n\n".join(filter(None, decision.reasoning))
    return (
        Verdict(prompt, first, 0, won, why, "", reasoning=thought, opponent=second, said=one),
        Verdict(prompt, second, 0, lost, why, "", reasoning=thought, opponent=first, said=other),
    )
