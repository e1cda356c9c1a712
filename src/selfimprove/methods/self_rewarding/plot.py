"""Self-Rewarding Language Models (Yuan et al., ICML 2024, arXiv:2401.10020).

    M1 = SFT(M0, instruction examples + judging examples)                          Sec. 2.1, 2.3
    for t = 1, 2, ...:
        new prompts, written few-shot                                              Sec. 2.2
        N responses a prompt, drawn from M_t                                       Sec. 2.2
        every response judged by M_t itself, a mean of several verdicts            Sec. 2.2
        best against worst, ties dropped                                           Sec. 2.3
        M_{t+1} = DPO(init M_t, reference M_t, these pairs)                        Sec. 2.3

Deviations, and choices where the paper is silent:
- A verdict that cannot be read is no score: the mean is over those that can, a response without
  any takes no part, and too many of them stop the run.
- Of equally good or bad responses, the one drawn first is taken.
- A response that was cut off is never chosen; where it is rejected, DPO puts no end token behind it.
- DPO trains without dropout, as its reference is computed; the paper has 0.1.
- Prompts are written by the newest model (`prompts.writer: self`; the paper's Appendix A.5) unless
  the recipe names a fixed one, as in the paper's main runs.
- The gate lets a child take its parent's place only if the parent's own judgement does not prefer
  the parent, on validation prompts; the paper stops early by such comparisons.
Measuring and the control arms belong to `evaluation`; no truth of it is read in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfimprove.evaluation.overlaps import HeldOutText
from selfimprove.evaluation.promotion import Gate
from selfimprove.evaluation.self_rewarding_board import SelfRewardingBoard
from selfimprove.judges.judge import asked_judge, judge
from selfimprove.judges.judge_config import RANDOM, JudgeConfig
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.methods.self_rewarding import prompts as own_prompts
from selfimprove.methods.self_rewarding.config import (
    SelfRewardingConfig,
)
from selfimprove.methods.self_rewarding.held_out import decontamination, seed_data
from selfimprove.methods.self_rewarding.pairs import (
    ScoredPair,
    best_against_worst,
    perfect_responses,
)
from selfimprove.methods.self_rewarding.seeds import (
    agreeing_reviews,
    reviews_by_rank,
    siblings,
)
from selfimprove.rows import Rows
from selfimprove.sampling.engine import PromptLayout, SamplingConfig
from selfimprove.sampling.responses import as_content, respond
from selfimprove.store import Run
from selfimprove.training.dpo import DpoConfig, milestones_of
from selfimprove.training.export import Exporter
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown
from selfimprove.training.trainings import PreferenceTraining, SupervisedTraining
from selfimprove.types import (
    Demonstration,
    Example,
    ModelRef,
    Pair,
    Ranked,
    Response,
    UserPrompt,
    Verdict,
)
from selfimprove.weights import weights_digest

__all__ = ["run"]


# --8<-- [start:plot]
def run(config: SelfRewardingConfig, steps: Run) -> ModelRef:
    """Run every iteration and return the newest promoted model, as it leaves the run.

    Raises:
        SelfImproveError: bad data, a stale step, a model that cannot be loaded; nothing is lost.
    """
    base = steps.locate(config.model)
    export = Exporter(steps, config.export, base)
    board = SelfRewardingBoard(steps, config.evaluation, export)
    gate = Gate(steps, config.evaluation, config.judge, export)
    board.prepare()

    # M0 -> M1: learn to follow instructions, and to judge (Sec. 2.1, 2.3).
    apart = decontamination(config, steps)
    ift, given, ranked = seed_data(config, steps, apart)
    sft = steps.train("sft-model", imitate, base, ift, (), config.sft, steps.engine.layout,
                      steps.seed)  # fmt: skip
    eft = judging_examples(config, steps, sft, given, ranked)
    m1 = steps.train("m1-model", imitate, base, ift, eft, config.sft, steps.engine.layout,
                     steps.seed)  # fmt: skip
    board.measure("sft", sft, "baseline", parent=base, data=ift)
    board.measure("m1", m1, "base", parent=base, data=eft)
    board.measure_judge("sft", sft, config.judge)
    board.measure_judge("m1", m1, config.judge)

    newest, model = "m1", m1
    written: tuple[UserPrompt, ...] = ()
    known_as = newest  # on the validation prompts: a model of early stopping has its own name
    for number in range(1, config.iterations + 1):
        # 1. Write new prompts (Sec. 2.2).
        prompts = new_prompts(config, steps, f"m{number}", model, (ift, written, apart.held_out))
        written = (*written, *prompts)
        # 2.-4. Respond, judge, set the best against the worst, and train (Sec. 2.2, 2.3).
        made = one_round(config, steps, f"m{number}", model, prompts, config.judge)
        child = learn(config, steps, f"m{number + 1}", model, (ift, eft), made)
        # 5. Stop early, and keep the parent if even the best child is worse.
        decision = gate.decide((known_as, model), tried(f"m{number + 1}", child))
        child = decision.child
        board.watch(number, f"m{number}", prompts, ift.items, made)
        board.measure(f"m{number + 1}", child, "method", parent=model, data=made.pairs,
                      round_number=number)  # fmt: skip
        board.measure_judge(f"m{number + 1}", child, config.judge)
        board.note(number, f"m{number + 1}", decision)
        for control in config.controls if number == 1 else ():
            run_control(control, config, steps, board, (sft, m1), prompts, (ift, eft))
        if decision.promoted:
            newest, model, known_as = f"m{number + 1}", child, decision.chosen
    board.summarise("self_rewarding", "Self-Rewarding Language Models", config.model, last=newest,
                    overlaps=apart.told)  # fmt: skip
    return export(newest, model)


# --8<-- [end:plot]


def judging_examples(
    config: SelfRewardingConfig,
    steps: Run,
    sft: ModelRef,
    given: Rows[Demonstration],
    ranked: Rows[Ranked],
) -> Rows[Demonstration]:
    """Return the EFT examples: those given, and the baseline's verdicts that people agree with.

    Or, where `seeds.reviews.words` says so, people's ranks as scores.
    """
    if not ranked:
        return given
    if config.seeds.reviews.words == "ranks":
        return steps.rows("eft", reviews_by_rank, ranked, given, config.judge.prompt,
                          config.seeds.reviews, steps.seed)  # fmt: skip
    shown = steps.rows("ranked-responses", siblings, ranked)
    verdicts = steps.sharded("ranked-verdicts", judge, shown,
                             asked_judge(steps, config.judge, sft), config.judge, steps.seed,
                             shard_items=_shard(config))  # fmt: skip
    return steps.rows("eft", agreeing_reviews, ranked, shown, verdicts, given, config.judge.prompt,
                      config.seeds.reviews, steps.seed)  # fmt: skip


def new_prompts(
    config: SelfRewardingConfig,
    steps: Run,
    name: str,
    model: ModelRef,
    known: tuple[Rows[Demonstration], tuple[UserPrompt, ...], Rows[HeldOutText]],
) -> Rows[UserPrompt]:
    """Write new prompts after the instructions of the seed data.

    None of them is like one of the seed data, of an earlier iteration, or held out: `known`.
    """
    ift, earlier, held_out = known
    seeds = steps.rows("seed-prompts", prompts_of, ift)
    writer = model if config.prompts.writer == "self" else steps.locate(config.prompts.writer)
    return own_prompts.write_prompts(steps, f"{name}-prompts", writer, seeds, earlier, held_out,
                                     config.prompts)  # fmt: skip


def prompts_of(demonstrations: Sequence[Demonstration]) -> list[UserPrompt]:
    """Return the instructions of the seed data, each once."""
    texts = dict.fromkeys(d.prompt for d in demonstrations)
    return [UserPrompt(f"seed-{number}", "seed", text) for number, text in enumerate(texts)]


@dataclass(frozen=True, slots=True)
class Round:
    """What one model made for the next."""

    candidates: Rows[Response]
    judge: JudgeConfig
    verdicts: Rows[Verdict]
    pairs: Rows[ScoredPair]


def one_round(
    config: SelfRewardingConfig,
    steps: Run,
    name: str,
    model: ModelRef,
    prompts: Rows[UserPrompt],
    by: JudgeConfig,
) -> Round:
    """Draw candidates, judge each of them, and set the best against the worst."""
    asked = config.candidates
    sampling = SamplingConfig(n=asked.n, temperature=asked.temperature, top_p=asked.top_p,
                              max_tokens=asked.max_tokens)  # fmt: skip
    candidates = steps.sharded(f"{name}-candidates", respond, prompts, steps.asks(model), sampling,
                               steps.seed, shard_items=asked.shard_prompts)  # fmt: skip
    verdicts = steps.sharded(f"{name}-verdicts", judge, candidates, asked_judge(steps, by, model),
                             by, steps.seed, shard_items=_shard(config))  # fmt: skip
    pairs = steps.rows(f"{name}-pairs", best_against_worst, candidates, verdicts, config.pairs)
    return Round(candidates, by, verdicts, pairs)


def _shard(config: SelfRewardingConfig) -> int:
    """Whole prompts to a shard: a pairwise judge compares the responses of one."""
    return config.candidates.shard_prompts * config.candidates.n


def learn(
    config: SelfRewardingConfig,
    steps: Run,
    name: str,
    model: ModelRef,
    seeds: tuple[Rows[Demonstration], Rows[Demonstration]],
    made: Round,
) -> ModelRef:
    """Train the next model on the pairs; or, as an ablation, on the perfect responses alone."""
    if config.learn == "dpo":
        return steps.train(f"{name}-model", prefer, model, made.pairs, config.dpo,
                           steps.engine.layout, steps.seed)  # fmt: skip
    perfect = steps.rows(f"{name}-perfect", perfect_responses, made.candidates, made.verdicts,
                         judge_prompt(config.judge.prompt).highest)  # fmt: skip
    ift, eft = seeds
    return steps.train(f"{name}-model", imitate, steps.locate(config.model), ift,
                       (*eft, *perfect), config.sft, steps.engine.layout, steps.seed)  # fmt: skip


def tried(name: str, last: ModelRef) -> list[tuple[str, ModelRef]]:
    """Return the models of a training that may be chosen: those kept on the way, and the last."""
    kept = milestones_of(Path(last.path)).glob("step-*")
    numbered = sorted((int(p.name.split("-")[1]), p) for p in kept if not p.suffix)
    on_the_way = [
        (f"{name}-step-{step}", ModelRef(f"{last.name} step {step}", str(p), weights_digest(p)))
        for step, p in numbered
    ]
    return [*on_the_way, (name, last)]


def run_control(  # noqa: PLR0913  a control differs from the run in one of these alone
    control: str,
    config: SelfRewardingConfig,
    steps: Run,
    board: SelfRewardingBoard,
    models: tuple[ModelRef, ModelRef],
    prompts: Rows[UserPrompt],
    seeds: tuple[Rows[Demonstration], Rows[Demonstration]],
) -> None:
    """Make one round on the same prompts with random scores, or without any judging examples."""
    sft, m1 = models
    name = control.replace("_", "-")
    start, by = (sft, config.judge) if control == "no_eft" else (m1, RANDOM)
    made = one_round(config, steps, name, start, prompts, by)
    arm = learn(config, steps, name, start, seeds, made)
    board.measure(name, arm, "control", parent=start, data=made.pairs, round_number=1)


def imitate(
    base: ModelRef,
    ift: Sequence[Demonstration],
    eft: Sequence[Demonstration],
    config: SftConfig,
    layout: PromptLayout,
    seed: int,
) -> SupervisedTraining:
    """Fine-tune on demonstrations; the loss is taken on the responses alone."""
    examples = [Example(as_content(d.prompt, chat=layout.chat), d.response) for d in (*ift, *eft)]
    return SupervisedTraining(Path(base.path), examples, config, seed,
                              Shown(layout.chat_template_kwargs))  # fmt: skip


def prefer(
    policy: ModelRef,
    pairs: Sequence[ScoredPair],
    config: DpoConfig,
    layout: PromptLayout,
    seed: int,
) -> PreferenceTraining:
    """Train by DPO from M_t, with M_t as the reference (Sec. 2.3)."""
    told = [
        Pair(as_content(p.prompt, chat=layout.chat), p.chosen, p.rejected, p.rejected_finished)
        for p in pairs
    ]
    return PreferenceTraining(Path(policy.path), told, config, seed,
                              Shown(layout.chat_template_kwargs))  # fmt: skip
