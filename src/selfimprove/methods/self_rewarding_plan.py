"""The steps of a Self-Rewarding run, and what they would cost at most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from selfimprove.data.demonstrations import read_demonstrations, read_ranked, read_reviews
from selfimprove.data.user_prompts import read_prompts
from selfimprove.evaluation.open_prompts import not_reported
from selfimprove.evaluation.true_scores import read_rated
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.methods.plan import CHARACTERS_A_TOKEN, Line, Use
from selfimprove.methods.self_rewarding_config import SelfRewardingConfig
from selfimprove.types import Ranked

__all__ = ["lines", "uses"]


def lines(config: SelfRewardingConfig) -> Iterator[Line]:
    """Yield the steps of a run in the order they happen.

    Raises:
        DataError: a data file cannot be read.
    """
    ift = read_demonstrations(config.seeds.ift, config.seed).rows
    eft = read_reviews(config.seeds.eft, config.seed).rows
    ranked = read_ranked(config.seeds.ranked).rows
    measured = _Measured(config)
    trained = _tokens(len(d.prompt) + len(d.response) for d in ift)
    reviews = _tokens(len(d.prompt) + len(d.response) for d in eft)
    yield "ift", f"read {len(ift)} demonstrations", 0, 0
    yield "sft-model", "fine-tune the baseline on them", 0, int(trained * config.sft.epochs)
    yield "eft-given", f"read {len(eft)} judging examples", 0, 0
    if ranked and config.seeds.reviews.words == "ranks":
        reviews += _tokens(_by_rank(row, config.judge.prompt) for row in ranked)
    elif ranked:
        shown = sum(len(r.responses) for r in ranked)
        yield "ranked-verdicts", f"judge {shown} ranked responses", shown * _verdict(config), 0
    yield "m1-model", "fine-tune M1", 0, int((trained + reviews) * config.sft.epochs)
    yield from measured.arm("sft")
    yield from measured.arm("m1")
    for number in range(1, config.iterations + 1):
        yield from _round(config, number)
        yield from measured.gate(number)
        yield from measured.arm(f"m{number + 1}")
        for control in config.controls if number == 1 else ():
            name = control.replace("_", "-")
            yield f"{name}-model", f"train the control arm '{control}'", 0, _pair_tokens(config)
            yield from measured.control(name, "sft" if control == "no_eft" else "m1")


def _by_rank(row: Ranked, prompt: str) -> int:
    """Return the characters of a ranking as judging examples."""
    words = len(judge_prompt(prompt).text)
    return sum(words + len(row.prompt) + len(text) for text in row.responses)


def uses(config: SelfRewardingConfig) -> Iterator[Use]:
    """Yield which models a run holds, and for what."""
    yield Use("write, answer, judge itself", config.model, config.engine)
    yield Use("fine-tune", config.model, config.sft)
    yield Use("train by preference", config.model, config.dpo)
    if config.prompts.writer != "self":
        yield Use("write prompts", config.prompts.writer, config.engine)
    for stage, judge in (("judge", config.judge), ("judge the answers", config.evaluation.judge)):
        if judge is not None and judge.holds_model_here:
            yield Use(stage, judge.model, judge.engine or config.engine,
                      cached=judge.kind != "reward_model")  # fmt: skip


def _round(config: SelfRewardingConfig, number: int) -> Iterator[Line]:
    asked, name = config.candidates, f"m{number}"
    count, drawn = config.prompts.count, config.prompts.count * config.candidates.n
    yield f"{name}-prompts", f"write {count} new prompts", count * config.prompts.max_tokens, 0
    yield f"{name}-candidates", f"draw {asked.n} responses each", drawn * asked.max_tokens, 0
    yield f"{name}-verdicts", f"judge them {config.judge.votes} times", drawn * _verdict(config), 0
    yield f"{name}-pairs", "set the best against the worst", 0, 0
    yield f"m{number + 1}-model", f"train M{number + 1} by {config.learn}", 0, _pair_tokens(config)


def _verdict(config: SelfRewardingConfig) -> int:
    """Tokens that judging one response takes at most."""
    if not config.judge.is_asked:
        return 0
    # A pairwise judge compares every two responses in both orders: a prompt's n with n - 1 others.
    asked = config.candidates.n - 1 if config.judge.kind == "pairwise" else 1
    return asked * config.judge.votes * config.judge.max_tokens


def _pair_tokens(config: SelfRewardingConfig) -> int:
    """Every prompt gives all its pairs, each response as long as allowed."""
    pairs = config.prompts.count * config.pairs.per_prompt
    per_pair = 2 * (config.candidates.max_tokens + config.prompts.max_tokens)
    return int(min(pairs, config.pairs.max_pairs or pairs) * per_pair * config.dpo.epochs)


def _tokens(characters: Iterator[int]) -> int:
    return sum(characters) // CHARACTERS_A_TOKEN


class _Measured:
    """What measuring the arms costs, in the order they are measured."""

    def __init__(self, config: SelfRewardingConfig) -> None:
        self._config = config
        asked = config.evaluation
        reported = read_prompts(asked.prompts)
        self._prompts = len(reported)
        self._validation = len(not_reported(read_prompts(asked.validation), reported).rows)
        self._rated = len(read_rated(asked.judging, config.seed))
        self._line: list[str] = []

    def arm(self, name: str) -> Iterator[Line]:
        yield from self._answers(name)
        yield from self._compared(name, self._line)
        self._line.append(name)
        if self._rated:
            said = self._rated * _verdict(self._config)
            yield f"{name}-judging", f"judge {self._rated} responses of known worth", said, 0

    def gate(self, number: int) -> Iterator[Line]:
        """The child of a round against its parent; early stopping tries further ones on the way."""
        if not self._validation:
            return
        ask, name = self._config.evaluation, f"m{number + 1}"
        drawn = self._validation * ask.draws
        said = 2 * drawn * (ask.max_tokens + _verdict(self._config))
        yield f"{name}-validation", f"compare with M{number} on {self._validation} prompts", said, 0

    def control(self, name: str, start: str) -> Iterator[Line]:
        yield from self._answers(name)
        yield from self._compared(name, dict.fromkeys((start, "m1", "m2")))

    def _answers(self, name: str) -> Iterator[Line]:
        ask = self._config.evaluation
        tokens = self._prompts * ask.draws * ask.max_tokens
        yield f"{name}-responses", f"answer {self._prompts} held-out prompts", tokens, 0
        if ask.judge and not ask.compares:
            yield f"{name}-truth", "judge the answers for the report", self._said(ask.judge), 0

    def _compared(self, name: str, others: Iterable[str]) -> Iterator[Line]:
        """A judge that compares is asked about every two arms of the report, in both orders."""
        ask = self._config.evaluation
        if ask.judge and ask.compares:
            for other in others:
                yield f"{name}-against-{other}", "compare them", 2 * self._said(ask.judge), 0

    def _said(self, judge: JudgeConfig) -> int:
        if not judge.is_asked:
            return 0
        return self._prompts * self._config.evaluation.draws * judge.votes * judge.max_tokens
