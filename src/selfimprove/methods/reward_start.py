"""A reward model trained on any preferences (`selfimprove reward`), e.g. to measure a run with.

    OUT/config.json, *.safetensors, tokenizer, ...   the model, a classifier with one logit
    OUT/preferences, OUT/preferences-apart           what it was trained on
    OUT/training/train_log.jsonl                     loss and accuracy by step
    OUT/reward.json                                  what was done, and the held-out pair accuracy

It is a run: killed, it goes on with the same command; made from other inputs, it says so. As
`evaluation.judge: {kind: reward_model, model: OUT}` it measures runs that it takes no part in, and
reads conversations as it was trained to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from selfimprove.data.preferences import Preference, read_preferences
from selfimprove.data.sources import Sources
from selfimprove.evaluation.clusters import told
from selfimprove.evaluation.overlaps import Decontamination, held_out_conversations, named
from selfimprove.files import read_json
from selfimprove.judges.gap import Improved, Scored, reward_scores
from selfimprove.methods.one_model import OneModelConfig, put_on_top, refuse_other_model
from selfimprove.models import locate
from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.engine import EngineConfig, PromptLayout
from selfimprove.store import Run
from selfimprove.training.reward import RewardConfig, TrainedReward, train_reward
from selfimprove.types import ModelRef

__all__ = ["RewardStartConfig", "learn_reward", "pair_accuracy", "reward_start"]

_SHARD = 256


class RewardStartConfig(OneModelConfig):
    """What is trained on what, and how."""

    block: ClassVar[str] = "reward"
    test: Sources = ()
    """Held-out preferences, on which it is measured; none of their prompts is trained on."""
    chat: bool = True
    """Prompts go through the chat template; otherwise they are laid out as plain text."""
    reward: RewardConfig = RewardConfig()
    """Training."""


def reward_start(
    config: RewardStartConfig, out: Path, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Train the reward model and leave it in `out`; return what was done, as in OUT/reward.json.

    Raises:
        SelfImproveError: with what happened, where, and what to do; nothing that is done is lost.
    """
    refuse_other_model(out)
    base = locate(config.model)
    run = Run(out, announce)
    try:
        read = run.rows("preferences", read_preferences, config.data, config.seed)
        test = run.rows("test", read_preferences, config.test, config.seed)
        name = named("held-out preferences", config.test) if test else ""
        texts = run.rows("held-out-texts", held_out_conversations, test, name)
        learned = Decontamination(run, texts, removes=True).preferences("preferences", read)
        model = run.train("training", learn_reward, base, learned, config.reward, config.shown,
                          config.seed)  # fmt: skip
        done = {"config": config.model_dump(mode="json"), "preferences": len(learned),
                "training": read_json(out / "training" / "done.json")["training"]}  # fmt: skip
        if test:
            asked = run.rows("test-asked", both_of, test)
            scored = run.sharded("test-scores", reward_scores, asked, model,
                                 EngineConfig(chat=config.chat), shard_items=_SHARD)  # fmt: skip
            done["test"] = pair_accuracy(test.items, scored.items)
        run.write("reward.json", done)
        put_on_top(Path(model.path), out)
    finally:
        run.close()
    return done


def learn_reward(  # noqa: PLR0913  the inputs of the step, and where the store wants the model
    base: ModelRef,
    preferences: Sequence[Preference],
    config: RewardConfig,
    layout: PromptLayout,
    seed: int,
    *,
    out: Path,
    checkpoints: Path,
) -> TrainedReward:
    """Train R_P, the plain reward model."""
    return train_reward(Path(base.path), preferences, config, out=out, checkpoints=checkpoints,
                        seed=seed, chat=layout.chat,
                        chat_template_kwargs=layout.chat_template_kwargs)  # fmt: skip


def both_of(preferences: Sequence[Preference]) -> list[Improved]:
    """Return both responses of every preference: index 0 is the chosen one."""
    return [
        Improved(p.id, index, p.prompt, text)
        for p in preferences
        for index, text in enumerate((p.chosen, p.rejected))
    ]


def pair_accuracy(preferences: Sequence[Preference], scored: Sequence[Scored]) -> dict[str, Any]:
    """Return how often the preferred response has the higher reward, as JSON data.

    Returns:
        `accuracy`, ties as half; `prefers_longer`, of pairs with different lengths (characters) and
        rewards, those whose longer response has the higher one; and `people_prefer_longer`. Each with
        its 95 % interval over prompts. `unscored` counts preferences that the model could not read.
    """
    score_of = {(s.prompt_id, s.index): s.score for s in scored}
    right: dict[str, list[float]] = {}
    longer: dict[str, list[float]] = {}
    people: dict[str, list[float]] = {}
    unscored = 0
    for p in preferences:
        chosen, rejected = score_of[p.id, 0], score_of[p.id, 1]
        if chosen is None or rejected is None:
            unscored += 1
            continue
        key, by = in_words(p.prompt), len(p.chosen) - len(p.rejected)
        right.setdefault(key, []).append((chosen > rejected) + (chosen == rejected) / 2)
        if by:
            people.setdefault(key, []).append(float(by > 0))
        if by and chosen != rejected:
            longer.setdefault(key, []).append(float((chosen > rejected) == (by > 0)))
    by_name: Mapping[str, dict[str, list[float]]] = {
        "accuracy": right, "prefers_longer": longer, "people_prefer_longer": people,
    }  # fmt: skip
    return {
        "preferences": len(preferences),
        "unscored": unscored,
        **{name: told(list(found.values())) for name, found in by_name.items()},
    }
