"""`selfimprove reward`: from preferences to a reward model that judges runs it takes no part in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfimprove.data.preferences import Preference
from selfimprove.errors import ConfigError, DataError, StoreError
from selfimprove.judges.plain_reward import RewardScorer
from selfimprove.judges.reward_rows import Improved, Scored
from selfimprove.methods.one_model import config_of_words
from selfimprove.methods.reward_start import RewardStartConfig, pair_accuracy, reward_start
from selfimprove.models import locate
from selfimprove.sampling.engine import EngineConfig
from selfimprove.types import Message

_QUICK = ["learning_rate=1e-3", "batch_size=8", "max_steps=12"]


@pytest.mark.slow
def test_the_result_is_a_reward_model_that_learned_and_was_measured_on_other_prompts(
    tmp_path: Path,
) -> None:
    words = [*_QUICK, "test={format: tiny, source: dev, limit: 60}"]
    config = config_of_words(RewardStartConfig, "tiny", ["tiny:train"], words, 96)
    told = reward_start(config, tmp_path / "judge", lambda _line: None)
    assert told["preferences"] == 96
    assert told["training"]["steps"] == 12
    assert told["training"]["final_loss"] < told["training"]["first_loss"]
    assert told["test"]["accuracy"]["n"] == 60
    assert told["test"]["accuracy"]["value"] > 0.7  # by chance once in 1,900 times
    assert json.loads((tmp_path / "judge" / "reward.json").read_text()) == told
    scorer = RewardScorer(tmp_path / "judge", EngineConfig(device="cpu"))
    asked = (Message("user", "Why?"),)
    rows = [Improved("p", n, asked, y) for n, y in enumerate(["Yes.", "No."])]
    assert len(set(scorer.told(rows).scores)) == 2
    assert locate(str(tmp_path / "judge")).digest
    again = reward_start(config, tmp_path / "judge", lambda _line: None)
    assert again == told  # nothing is done twice


@pytest.mark.slow
def test_prompts_that_are_measured_on_are_not_learned(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Question {i} of tea?", "chosen": "Yes.", "rejected": "No."} for i in range(12)
    ]
    for name, part in (("learn", rows[:8]), ("test", rows[3:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in part))
    words = ["max_steps=1", f"test={tmp_path / 'test.jsonl'}"]
    learn, test = (
        config_of_words(RewardStartConfig, "tiny", [str(tmp_path / f"{name}.jsonl")], words, None)
        for name in ("learn", "test")
    )
    told = reward_start(learn, tmp_path / "judge", lambda _line: None)
    assert (told["preferences"], told["training"]["pairs"]) == (3, 3)  # questions 3 to 7 are shared
    assert (told["test"]["preferences"], told["test"]["unscored"]) == (9, 0)
    apart = json.loads((tmp_path / "judge" / "preferences-apart" / "done.json").read_text())
    (funnel,) = apart["funnels"]
    assert (funnel["given"], funnel["kept"]) == (8, 3)
    assert funnel["dropped"] == [{"why": "one of held-out preferences (test)", "count": 5}]
    with pytest.raises(DataError, match="asks what is measured on"):
        reward_start(test, tmp_path / "none", lambda _line: None)


def test_another_model_is_not_overwritten_and_words_are_checked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = config_of_words(RewardStartConfig, "tiny", ["tiny:train"], ["epochs=2", "seed=3"], 8)
    assert (config.reward.epochs, config.seed, config.data[0].limit) == (2, 3, 8)
    with pytest.raises(StoreError, match="this command did not make"):
        reward_start(config, tmp_path, lambda _line: None)
    with pytest.raises(ConfigError, match="wings"):
        config_of_words(RewardStartConfig, "tiny", ["tiny:train"], ["wings=2"], None)


def test_pair_accuracy_draws_its_intervals_over_prompts() -> None:
    asked = [(Message("user", f"{i // 4}?"),) for i in range(8)]  # four preferences on each of two
    given = [Preference(str(i), "hh", turns, "Yes.", "No") for i, turns in enumerate(asked)]
    scored = [
        Scored(p.id, j, float(j == (i // 4)), None) for i, p in enumerate(given) for j in (0, 1)
    ]
    told = pair_accuracy(given, scored)
    assert (told["accuracy"]["value"], told["accuracy"]["n"]) == (0.5, 8)
    assert told["accuracy"]["interval"] == [0.0, 1.0]  # right on one prompt, wrong on the other


def test_pair_accuracy_by_hand() -> None:
    said = [("Yes.", "No", 2.0, 1.0), ("Yes", "Never.", 1.0, 2.0), ("Yes", "No.", 1.0, 1.0),
            ("Yes.", "No", None, 1.0)]  # fmt: skip
    given = [Preference(str(i), "hh", (Message("user", f"{i}?"),), good, bad)
             for i, (good, bad, _, _) in enumerate(said)]  # fmt: skip
    scored = [
        Scored(str(i), j, s, None) for i, row in enumerate(said) for j, s in enumerate(row[2:])
    ]
    told = pair_accuracy(given, scored)
    assert (told["preferences"], told["unscored"]) == (4, 1)
    assert (told["accuracy"]["value"], told["accuracy"]["n"]) == (pytest.approx(1.5 / 3), 3)
    assert (told["prefers_longer"]["value"], told["prefers_longer"]["n"]) == (1.0, 2)
    assert (told["people_prefer_longer"]["value"], told["people_prefer_longer"]["n"]) == (0.5, 2)
