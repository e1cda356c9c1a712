"""The steps of a Self-Rewarding run, and what they would cost at most."""

from __future__ import annotations

from collections.abc import Iterator

from selfimprove.data.demonstrations import read_demonstrations, read_ranked, read_reviews
from selfimprove.data.user_prompts import read_prompts
from selfimprove.methods.plan import CHARACTERS_A_TOKEN, Line
from selfimprove.methods.self_rewarding import SelfRewardingConfig

__all__ = ["lines"]


def lines(config: SelfRewardingConfig) -> Iterator[Line]:
    """Yield the steps of a run in the order they happen.

    Raises:
        DataError: a data file cannot be read.
    """
    ift = read_demonstrations(config.seeds.ift, config.seed).rows
    eft = read_reviews(config.seeds.eft, config.seed)
    ranked = read_ranked(config.seeds.ranked).rows
    measured = _Measured(config)
    trained = _tokens(len(d.prompt) + len(d.response) for d in ift)
    reviews = _tokens(len(d.prompt) + len(d.response) for d in eft)
    yield "ift", f"read {len(ift)} demonstrations", 0, 0
    yield "sft-model", "fine-tune the baseline on them", 0, int(trained * config.sft.epochs)
    yield "eft-given", f"read {len(eft)} judging examples", 0, 0
    if ranked:
        shown = sum(len(r.responses) for r in ranked)
        yield "ranked-verdicts", f"judge {shown} ranked responses", shown * _verdict(config), 0
    yield "m1-model", "fine-tune M1", 0, int((trained + reviews) * config.sft.epochs)
    yield from measured.arm("sft", judged=True)
    yield from measured.arm("m1", judged=True)
    for number in range(1, config.iterations + 1):
        yield from _round(config, number)
        yield from measured.arm(f"m{number + 1}", judged=True)
        for control in config.controls if number == 1 else ():
            name = control.replace("_", "-")
            yield f"{name}-model", f"train the control arm '{control}'", 0, _pair_tokens(config)
            yield from measured.arm(name, judged=False)


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
    return (
        0 if config.judge.kind == "reward_model" else config.judge.votes * config.judge.max_tokens
    )


def _pair_tokens(config: SelfRewardingConfig) -> int:
    """Every prompt gives all its pairs, each response as long as allowed."""
    pairs = config.prompts.count * config.pairs.per_prompt
    per_pair = 2 * (config.candidates.max_tokens + config.prompts.max_tokens)
    return int(min(pairs, config.pairs.max_pairs or pairs) * per_pair * config.dpo.epochs)


def _tokens(characters: Iterator[int]) -> int:
    return sum(characters) // CHARACTERS_A_TOKEN


class _Measured:
    """What measuring one arm costs."""

    def __init__(self, config: SelfRewardingConfig) -> None:
        self._config = config
        self._prompts = len(read_prompts(config.evaluation.prompts))

    def arm(self, name: str, *, judged: bool) -> Iterator[Line]:
        ask = self._config.evaluation
        tokens = self._prompts * ask.draws * ask.max_tokens
        yield f"{name}-responses", f"answer {self._prompts} held-out prompts", tokens, 0
        if ask.judge:
            said = self._prompts * ask.draws * ask.judge.votes * ask.judge.max_tokens
            yield f"{name}-truth", "judge the answers for the report", said, 0
        if judged and ask.judging:
            yield f"{name}-judging", "judge held-out responses of known worth", 0, 0
