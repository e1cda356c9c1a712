"""The steps of a PIT run, and what they would cost at most."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from selfimprove.data.preferences import FOLDS, Preference, read_preferences
from selfimprove.methods.pit_config import PitConfig
from selfimprove.methods.plan import CHARACTERS_A_TOKEN, Line, Use
from selfimprove.training.policy_config import PolicyGradientConfig

__all__ = ["lines", "uses"]


def lines(config: PitConfig) -> Iterator[Line]:
    """Yield the steps of a run in the order they happen.

    Raises:
        DataError: a data file cannot be read.
    """
    told = read_preferences(config.preferences, config.seed).rows
    held_out = config.evaluation.preferences
    apart = (
        len(read_preferences(held_out, config.seed).rows)
        if held_out
        else int(len(told) * config.evaluation.held_out)
    )
    size = (len(told) - (0 if held_out else apart)) // len(FOLDS)
    mean = sum(_tokens(p) for p in told) / max(len(told), 1)
    fold = int(mean * size)
    yield "preferences-read", f"read {len(told)} preferences, in folds of {size}", 0, 0
    yield "policy-sft", "fine-tune M_P", 0, int(fold * config.sft.epochs)
    yield "pit-sft", "fine-tune M_PIT", 0, int(1.5 * fold * config.sft.epochs)
    yield "reward-model", "train R_P", 0, int(2 * fold * config.reward.epochs)
    yield "gap-reward-model", "train R_PIT", 0, int(6 * fold * config.reward.epochs)
    yield _rl(config, "policy-rl", "RL of M_P", config.policy_rl, size, mean)
    if config.rounds != "first" or "second_round_only" in config.ablations:
        yield "references", f"draw {size} references", size * config.max_response_tokens, 0
    yield from _curriculum(config, "pit", config.rounds, size, mean)
    if "second_round_only" in config.ablations:
        yield from _curriculum(config, "pit-second-only", "second", size, mean)
    if "gap_difference" in config.ablations:
        yield from _curriculum(config, "pit-difference", config.rounds, size, mean)
    yield from _measured(config, min(apart, config.evaluation.prompts or apart))


def uses(config: PitConfig) -> Iterator[Use]:
    """Yield which models a run holds, and for what; under RL a reference and a reward model too."""
    yield Use("draw responses", config.model, config.engine)
    yield Use("fine-tune", config.model, config.sft)
    yield Use("train reward models", config.model, config.reward)
    within = None if config.engine.server and config.engine.server.adapters else config.engine
    for stage, how in (
        ("RL of M_P", config.policy_rl),
        ("RL of M_PIT, first round", config.first_round),
        ("RL of M_PIT, second round", config.second_round),
    ):
        yield Use(stage, config.model, how, beside=2, draws=within)
    judge = config.evaluation.judge
    if judge is not None and judge.holds_model_here:
        yield Use("judge", judge.model, judge.engine or config.engine,
                  cached=judge.kind != "reward_model")  # fmt: skip


def _tokens(preference: Preference) -> int:
    """Of a prompt and one response, with a window's length at most."""
    read = sum(len(turn.content) for turn in preference.prompt)
    said = (len(preference.chosen) + len(preference.rejected)) // 2
    return (read + said) // CHARACTERS_A_TOKEN


def _curriculum(
    config: PitConfig, name: str, rounds: str, size: int, mean: float
) -> Iterator[Line]:
    if rounds in ("both", "first"):
        yield _rl(config, f"{name}-rl-1", "RL of M_PIT, references from the data",
                  config.first_round, 2 * size, 1.5 * mean)  # fmt: skip
    if rounds in ("both", "second"):
        yield _rl(config, f"{name}-rl-2", "RL of M_PIT, references from M_P", config.second_round,
                  size, 1.5 * mean)  # fmt: skip


def _rl(
    config: PitConfig, name: str, does: str, how: PolicyGradientConfig, tasks: int, mean: float
) -> Line:
    steps = how.max_steps or ceil(how.epochs * tasks / how.batch_size)
    draws = steps * how.batch_size * how.n
    tried = (steps // how.try_every + 1) * config.validation_prompts
    sampled = (draws + tried) * config.max_response_tokens
    return name, f"{does}, {steps} steps", sampled, int(draws * (mean + config.max_response_tokens))


def _measured(config: PitConfig, prompts: int) -> Iterator[Line]:
    draws = prompts * config.evaluation.draws * config.max_response_tokens
    ablated = 2 + (config.rounds == "both") + len(config.ablations)
    steps = 2 * config.improve.steps + ablated + len(config.evaluation.temperatures)
    yield (
        "policy-sft-responses",
        f"draw responses of M_P to {prompts} prompts, four systems",
        4 * draws,
        0,
    )
    yield "pit-y1-drawn", f"improve them, {steps} steps in all", steps * draws, 0
    if use := config.evaluation.reference_use:
        looked, longest = min(use.prompts, prompts), config.max_response_tokens
        yield (
            "reference-use-responses",
            f"{use.responses} responses of M_P to {looked} prompts: is the reference read?",
            looked * use.responses * longest,
            0,
        )
        yield "reference-use-own-drawn", "improve three references each", 3 * looked * longest, 0
    yield from _judged(config, prompts, systems=4 + steps)
    if n := config.baselines.best_of_n:
        yield f"best-of-{n}-responses", "draw and choose by R_P", n * draws, 0
    if rounds := config.baselines.self_refine:
        yield "self-refine-y1-drawn", "feedback and refinement", 2 * rounds * draws, 0


def _judged(config: PitConfig, prompts: int, systems: int) -> Iterator[Line]:
    """A judge of pairs compares most systems with two others, each in both orders."""
    judge = config.evaluation.judge
    if judge is None or not judge.is_asked:
        return
    systems += bool(config.baselines.best_of_n) + (config.baselines.self_refine or 0)
    said = systems * prompts * config.evaluation.draws * judge.votes * judge.max_tokens
    if config.evaluation.compares:
        yield (
            f"pit-y1-against-policy-{config.start}",
            "compare systems, in both orders",
            4 * said,
            0,
        )
    else:
        yield "pit-y1-verdicts", f"judge {systems} systems", said, 0
