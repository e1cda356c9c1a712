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

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from selfimprove.data.preferences import Preference, read_preferences
from selfimprove.data.sources import Sources
from selfimprove.evaluation.clusters import told
from selfimprove.evaluation.judge_quality import ordered_alike, prefers_longer
from selfimprove.evaluation.overlaps import Decontamination, held_out_conversations, named
from selfimprove.files import read_json
from selfimprove.judges.gap import reward_scores
from selfimprove.judges.reward_rows import Improved, Scored
from selfimprove.methods.one_model import OneModelConfig, becoming, put_on_top
from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.engine import EngineConfig, PromptLayout
from selfimprove.tracking.telling import telling
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.trainings import RewardTraining
from selfimprove.types import ModelRef, Response

__all__ = ["RewardStartConfig", "learn_reward", "pair_accuracy", "reward_start"]

_SHARD = 256
_CHOSEN_FIRST = (1.0, 0.0)  # what people say that the two responses are worth


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
    with (
        becoming(out, announce, EngineConfig(chat=config.chat)) as run,
        telling(config.trackers, config, out, announce),
    ):
        base = run.locate(config.model)
        read = run.rows("preferences", read_preferences, config.data, config.seed)
        test = run.rows("test", read_preferences, config.test, config.seed)
        name = named("held-out preferences", config.test) if test else ""
        texts = run.rows("held-out-texts", held_out_conversations, test, name)
        learned = Decontamination(run, texts, removes=True).preferences("preferences", read)
        model = run.train("training", learn_reward, base, learned, config.reward, config.shown,
                          config.seed)  # fmt: skip
        done = {"config": config.model_dump(mode="json"), "preferences": len(learned),
                "training": read_json(run.root / "training" / "done.json")["training"]}  # fmt: skip
        if test:
            asked = run.rows("test-asked", both_of, test)
            scored = run.sharded("test-scores", reward_scores, asked, run.asks(model),
                                 shard_items=_SHARD)  # fmt: skip
            done["test"] = pair_accuracy(test.items, scored.items)
        run.write("reward.json", done)
        put_on_top(Path(model.path), run)
    return done


def learn_reward(
    base: ModelRef,
    preferences: Sequence[Preference],
    config: RewardConfig,
    layout: PromptLayout,
    seed: int,
) -> RewardTraining:
    """Train R_P, the plain reward model."""
    return RewardTraining(Path(base.path), preferences, config, seed, layout.chat,
                          layout.chat_template_kwargs)  # fmt: skip


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
    rewards = {(s.prompt_id, s.index): s.score for s in scored if s.score is not None}
    read = [p for p in preferences if (p.id, 0) in rewards and (p.id, 1) in rewards]
    pairs = [_responses(p) for p in read]
    people = {(r.prompt_id, r.index): float(r.index == 0) for pair in pairs for r in pair}
    prompts = [in_words(p.prompt) for p in read]
    figures = {
        "accuracy": [
            list(ordered_alike((rewards[p.id, 0], rewards[p.id, 1]), _CHOSEN_FIRST)) for p in read
        ],
        "prefers_longer": prefers_longer(pairs, rewards),
        "people_prefer_longer": prefers_longer(pairs, people),
    }
    return {
        "preferences": len(preferences),
        "unscored": len(preferences) - len(read),
        **{name: told(_by_prompt(prompts, found)) for name, found in figures.items()},
    }


def _responses(preference: Preference) -> list[Response]:
    asked = in_words(preference.prompt)
    return [
        Response(preference.id, asked, index, text, "stop", 0)
        for index, text in enumerate((preference.chosen, preference.rejected))
    ]


def _by_prompt(
    prompts: Sequence[str], of_preferences: Sequence[Sequence[float]]
) -> list[list[float]]:
    """Put together what is said of the preferences on one prompt: intervals are over prompts."""
    found: dict[str, list[float]] = {}
    for prompt, values in zip(prompts, of_preferences, strict=True):
        found.setdefault(prompt, []).extend(values)
    return list(found.values())
