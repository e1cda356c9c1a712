"""PIT: implicit self-improvement, learned from preference data (Wang et al., ICLR 2024, arXiv:2310.00898).

    preferences (x, y_w, y_l) in three folds: SFT, reward models, RL                   Sec. 3
    M_P   = SFT(y_w | x)              M_PIT = SFT(y_w | x, y_l)                        supervised
    R_P   = pairwise reward           R_PIT = gap r(x, y, y_ref), five contrasts       Eq. 1-2
    M_P   = RL(R_P)                                                                    Eq. 3
    M_PIT = RL(R_PIT), y_ref from the data: y_l and y_w                                Eq. 4, first round
    M_PIT = RL(R_PIT), y_ref from M_P                                                  Eq. 5, second round
    inference: y_0 = M_P(x), y_k = M_PIT(x, y_{k-1})                                   Algorithm 2

Deviations, and choices where the paper is silent:
- RL is policy gradient with leave-one-out advantages; the paper does not name its algorithm.
- In every RL the policy of the highest E[r] - beta KL on held-out prompts is kept, not the last one,
  and none beyond `max_kl`.
- An unfinished response is worth the least, and is nobody's reference: the rule of `unfinished`.
- References of the second round are drawn once, before it, from the M_P whose responses are
  improved at inference: the one after RL, or with `start: sft` the one before it.
- One optimiser step takes prompts with their references as they come; y_l and y_w of a prompt
  need not meet in one batch.
Measuring and the ablations belong to `evaluation`; no truth of it is read in this file.
"""

from __future__ import annotations

from selfimprove.data.preferences import (
    InFold,
    Preference,
    given_folds,
    of_fold,
    read_preferences,
    three_folds,
)
from selfimprove.methods.pit import tasks as pit_tasks
from selfimprove.methods.pit.ablations import Ablations
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.curriculum import Curriculum
from selfimprove.methods.pit.held_out import held_out, learned_preferences
from selfimprove.methods.pit.stages import gap_reward, imitate, improver, plain_reward, reinforce
from selfimprove.methods.pit.systems import Ablated, Models, measure
from selfimprove.rows import Rows
from selfimprove.store import Run
from selfimprove.training.export import Exporter
from selfimprove.types import ModelRef

__all__ = ["run"]


# --8<-- [start:plot]
def run(config: PitConfig, steps: Run) -> ModelRef:
    """Run every stage and return M_PIT, as it leaves the run.

    Raises:
        SelfImproveError: bad data, a stale step, a model that cannot be loaded; nothing is lost.
    """
    base = steps.locate(config.model)
    told = preferences_that_fit(config, steps, base)
    folds = in_folds(config, steps, told)
    measured_on = held_out(config, steps, told, folds)
    learned, apart = learned_preferences(config, steps, told, folds, measured_on)
    sft_fold, reward_fold, rl_fold = (
        steps.rows(f"{fold}-fold", of_fold, learned, folds, fold)
        for fold in ("sft", "reward", "rl")
    )
    # Supervised: M_P imitates y_w, M_PIT turns y_l into y_w.
    m_p = steps.train("policy-sft", imitate, base, sft_fold, config.sft, steps.engine.layout,
                      steps.seed)  # fmt: skip
    m_pit = improver(config, steps, "pit-sft", base, sft_fold)
    # Reward models: R_P of a response, R_PIT of the gap between two (Eq. 1-2).
    r_p = plain_reward(config, steps, base, reward_fold)
    r_pit = gap_reward(config, steps, "gap-reward-model", base, reward_fold)
    # Reinforcement learning: M_P by R_P (Eq. 3), then M_PIT by the gap in two rounds (Eq. 4-5).
    rl_prompts = steps.rows("rl-prompts", pit_tasks.from_prompts, rl_fold)
    m_p_rl = reinforce(config, steps, "policy-rl", m_p, m_p, r_p, rl_prompts, config.policy_rl)
    improved = m_p_rl if config.start == "rl" else m_p
    lines = Curriculum(config, steps, m_pit, improved, rl_fold, rl_prompts)
    gap_model = r_pit if config.gap == "trained" else r_p
    pit, first = lines.run("pit", config.rounds, gap_model)
    ablated = {"first-round-only": Ablated(first)} if config.rounds == "both" else {}
    ablated |= Ablations(lines, base, sft_fold, reward_fold, r_p, gap_model).run()
    models = Models(m_p, m_p_rl, m_pit, pit, r_p, r_pit, ablated)
    models = models.leaving(Exporter(steps, config.export, base))
    measure(config, steps, measured_on, models, apart.told)
    return models.pit


# --8<-- [end:plot]


def preferences_that_fit(config: PitConfig, steps: Run, base: ModelRef) -> Rows[Preference]:
    """Read the preferences; those that do not fit the windows are left out, and counted."""
    told = steps.rows("preferences-read", read_preferences, config.preferences, steps.seed)
    return steps.rows("preferences", pit_tasks.fitting, told, base, steps.engine.layout,
                      config.max_prompt_tokens, config.max_response_tokens)  # fmt: skip


def in_folds(config: PitConfig, steps: Run, told: Rows[Preference]) -> Rows[InFold]:
    """Divide the preferences into SFT, reward models and RL, and what is measured on."""
    if config.folds == "given":
        return steps.rows("folds", given_folds, config.preferences, steps.seed)
    share = 0.0 if config.evaluation.preferences else config.evaluation.held_out
    return steps.rows("folds", three_folds, told, steps.seed, share)
