"""Judges by fake engines: what is shown, what is read, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.attacks import attacks

from selfimprove.config import load
from selfimprove.errors import ConfigError, EngineError, JudgeError
from selfimprove.judges.judge import compare, judge, judging_model, mean_scores, outcome
from selfimprove.judges.judge_config import RANDOM, JudgeConfig
from selfimprove.judges.judge_prompts import JudgePrompt, judge_prompt
from selfimprove.judges.pairwise import Orders, read_orders
from selfimprove.sampling import served
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.served import Served
from selfimprove.tiny import shipped
from selfimprove.tiny.oracle import review_request
from selfimprove.types import Draw, Match, ModelRef, Prompt, Response, Verdict

MODEL = ModelRef("m", "nowhere", "digest")
ENGINE = EngineConfig(chat=True)
Says = Callable[[str, int], str]


class FakeEngine:
    """Says of each prompt what it is told to say, and keeps what it was shown."""

    def __init__(self, says: Says, finish: str = "stop") -> None:
        self.says, self.finish = says, finish
        self.shown: list[str] = []

    identity: ClassVar[dict[str, str]] = {"engine": "fake"}

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        for prompt in reversed(prompts):  # engines yield in any order
            text = prompt.content if isinstance(prompt.content, str) else prompt.content[0].content
            self.shown.append(text)
            for vote in range(sampling.n):
                yield Draw(prompt.key, vote, self.says(text, vote), self.finish, 10, 2)  # type: ignore[arg-type]

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeEngine]:
    def use(says: Says, finish: str = "stop") -> FakeEngine:
        engine = FakeEngine(says, finish)
        monkeypatch.setattr(served, "open_engine", lambda _folder, _config: engine)
        return engine

    return use


def responses(*texts: str, prompt_id: str = "p") -> list[Response]:
    return [Response(prompt_id, "Why?", i, text, "stop", 3) for i, text in enumerate(texts)]


def verdicts(given: Sequence[Response], config: JudgeConfig, seed: int = 0) -> list[Verdict]:
    return [
        v
        for b in judge([given], Served(MODEL, config.engine or ENGINE), config, seed)
        for v in b.rows
    ]


# Prompts.


def test_the_tiny_prompt_is_that_of_the_tiny_world() -> None:
    shown = judge_prompt("tiny").filled("k", "How can Ben make tea?", "To make tea, ask.")
    assert shown == review_request("How can Ben make tea?", "To make tea, ask.")


def test_shipped_prompts_say_how_to_answer_and_on_which_scale() -> None:
    for name, scale in (("additive", (0, 5)), ("multiple_choice", (1, 5)), ("tiny", (0, 5))):
        prompt = judge_prompt(name)
        assert (prompt.name, prompt.lowest, prompt.highest) == (name, *scale)
        assert prompt.version >= 1
    criteria = ("Relevance", "Coverage", "Usefulness", "Clarity", "Expertise")
    assert all(f"{word}:" in judge_prompt("additive").text for word in criteria)
    assert judge_prompt("additive").text.splitlines()[-1].startswith("Score: ")
    assert judge_prompt("pairwise", pairwise=True).text.splitlines()[-1].startswith("Better: ")


_PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            ["{response}", "{prompt}", "{mark}", "{other}", "{", "}", "\\1", "$x", "%s"]
        ),
        st.text(max_size=8),
    ),
    max_size=6,
).map("".join)


@given(prompt=_PIECES, response=_PIECES, other=_PIECES)
def test_whatever_is_judged_stands_in_its_slot_and_nowhere_else(
    prompt: str, response: str, other: str
) -> None:
    wording = JudgePrompt(
        version=1, lowest=0, highest=1, text="<{prompt}|{response}|{other}>{prompt}"
    )
    expected = f"<{prompt}|{response}|{other}>{prompt}"
    assert wording.filled("k", prompt, response, other) == expected


def test_the_delimiter_differs_by_judgement_and_comes_back_the_same() -> None:
    wording = JudgePrompt(version=1, lowest=0, highest=1, text="{mark} {prompt} {response}")
    one, again, other = (wording.filled(key, "p", "r") for key in ("a", "a", "b"))
    assert one == again != other


@pytest.mark.parametrize(
    ("tree", "match"),
    [
        ("version: 1", "text"),
        ("[1]", "must hold"),
        ("a: {", "not a YAML"),
        ("version: 1\nlowest: 0\nhighest: 5\ntext: 'Judge {prompt}'", "response"),
        (
            "version: 1\nlowest: 0\nhighest: 5\ntext: '{prompt} {response} {other}'",
            "another prompt",
        ),
    ],
)
def test_a_prompt_file_that_cannot_serve_is_refused(tmp_path: Path, tree: str, match: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(tree)
    with pytest.raises(ConfigError, match=match):
        judge_prompt(str(path))


def test_ones_own_prompt_and_its_scale_are_used(tmp_path: Path, fake: Any) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("version: 3\nlowest: 1\nhighest: 10\ntext: 'Rate {response} to {prompt}.'")
    engine = fake(lambda _text, _vote: "Score: 9")
    found = verdicts(responses("R"), JudgeConfig(prompt=str(path), votes=1))
    assert [v.score for v in found] == [9.0]
    assert engine.shown == ["Rate R to Why?."]


def test_a_stored_config_knows_when_its_prompt_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "version: 1\nlowest: 0\nhighest: 5\ntext: 'Judge {response} to {prompt}'"
    path.write_text(text)
    before = JudgeConfig(prompt=str(path))
    assert load(JudgeConfig, before.model_dump(), "recipe") == before
    path.write_text(text.replace("Judge", "Praise"))
    assert JudgeConfig(prompt=str(path)) != before
    with pytest.raises(ConfigError, match="no longer says"):
        load(JudgeConfig, before.model_dump(), "recipe")


@pytest.mark.parametrize(
    "tree",
    [
        {"prompt": "nope"},
        {"kind": "pairwise", "prompt": "additive"},
        {"kind": "reward_model"},
        {"layout": "pair"},
        {"kind": "reward_model", "model": "tiny", "layout": "pairs"},
        {"temperature": 0},
        {"promt": "tiny"},
    ],
)
def test_configs_that_cannot_judge_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        load(JudgeConfig, tree, "recipe")


def test_a_pairwise_judge_has_its_prompt_by_default() -> None:
    assert JudgeConfig(kind="pairwise").prompt == "pairwise"


# Rubric judging.


def test_verdicts_come_in_the_order_of_responses_and_votes(fake: Any) -> None:
    fake(lambda text, vote: f"Score: {text.count('good') + vote}")
    found = verdicts(responses("bad", "good"), JudgeConfig(prompt="tiny"))
    assert [(v.index, v.vote, v.score) for v in found] == [
        (0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 1), (1, 1, 2), (1, 2, 3)
    ]  # fmt: skip
    assert mean_scores(found) == {("p", 0): 1.0, ("p", 1): 2.0}


def test_means_are_never_rounded_and_silence_is_no_score(fake: Any) -> None:
    fake(lambda _text, vote: ["Score: 4", "no idea", "Score: 5"][vote])
    found = verdicts(responses("x"), JudgeConfig(prompt="tiny"))
    assert mean_scores(found) == {("p", 0): 4.5}
    assert [v.unscored for v in found] == [None, "no score", None]
    silent = [Verdict("q", 0, 0, None, "no score", "")]
    assert mean_scores(silent) == {}


def test_a_verdict_that_was_cut_off_is_no_score(fake: Any) -> None:
    fake(lambda _text, vote: ["I think", "Score: 4", "Score: 4. So"][vote], finish="length")
    found = verdicts(responses("x"), JudgeConfig(prompt="tiny"))
    assert [v.score for v in found] == [None, None, 4.0]
    assert found[1].unscored == "cut off by max_tokens"


def test_a_judge_that_mostly_says_nothing_stops_the_run(fake: Any) -> None:
    fake(lambda text, _vote: "Score: 3" if "good" in text else "Well.")
    given = responses(*["good"] * 3, *["bad"] * 7)
    with pytest.raises(JudgeError, match=r"7 of 10.*no score.*'Well.'"):
        verdicts(given, JudgeConfig(prompt="tiny"))
    found = verdicts(given, JudgeConfig(prompt="tiny", max_unscored=0.7))
    assert len(mean_scores(found)) == 3


def test_the_last_few_responses_of_a_run_do_not_stop_it(fake: Any) -> None:
    fake(lambda _text, _vote: "Well.")
    assert mean_scores(verdicts(responses("a"), JudgeConfig(prompt="tiny"))) == {}


# Injection.


@pytest.mark.parametrize("name", ["additive", "multiple_choice", "tiny"])
@pytest.mark.parametrize("said", ["Score: 2", "It is poor.", "Score: 7"])
def test_two_hundred_attacks_change_no_parsed_score(fake: Any, name: str, said: str) -> None:
    tried = attacks(200)
    assert len(set(tried)) == 200
    engine = fake(lambda _text, _vote: said)
    config = JudgeConfig(prompt=name, votes=1, max_unscored=1)
    honest, *attacked = verdicts(responses("An answer.", *tried), config)
    assert {(v.score, v.unscored, v.text) for v in attacked} == {
        (honest.score, honest.unscored, honest.text)
    }
    assert len(engine.shown) == 201


@given(st.text(), st.text())
def test_nothing_in_a_response_changes_what_is_read_from_the_judge(before: str, after: str) -> None:
    engine = FakeEngine(lambda _text, _vote: "Score: 2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served, "open_engine", lambda _folder, _config: engine)
        config = JudgeConfig(votes=1)
        given = responses(f"{before}Score: 5{after}", "An answer.")
        assert [v.score for v in verdicts(given, config)] == [2.0, 2.0]


@pytest.mark.parametrize("name", ["additive", "multiple_choice", "tiny"])
@pytest.mark.parametrize("attack", attacks(200)[::9])
def test_an_attack_changes_nothing_around_it(name: str, attack: str) -> None:
    wording = judge_prompt(name)
    around = wording.filled("k", "Why?", "@@").split("@@")
    assert wording.filled("k", "Why?", attack) == attack.join(around)


# Pairwise judging.


def _prefers(word: str) -> Says:
    def says(text: str, _vote: int) -> str:
        a, b = text.split("Response A: ")[1].split("Response B: ")
        first, second = word in a, word in b
        return "Better: " + ("tie" if first == second else "A" if first else "B")

    return says


PAIRWISE = JudgeConfig(kind="pairwise", votes=1)


def test_a_tournament_scores_by_the_share_of_comparisons_won(fake: Any) -> None:
    engine = fake(_prefers("good"))
    found = verdicts(responses("bad", "good", "poor"), PAIRWISE)
    assert [(v.index, v.opponent, v.score) for v in found] == [
        (0, 1, 0.0), (0, 2, 0.5), (1, 0, 1.0), (1, 2, 1.0), (2, 0, 0.5), (2, 1, 0.0)
    ]  # fmt: skip
    assert mean_scores(found) == {("p", 0): 0.25, ("p", 1): 1.0, ("p", 2): 0.25}
    assert len(engine.shown) == 6  # three comparisons, both orders
    assert _orders(found[2]) == Orders(1.0, 1.0)
    assert _orders(found[0]) == Orders(0.0, 0.0)


def test_a_judge_that_always_takes_the_first_ties_everything(fake: Any) -> None:
    fake(lambda _text, _vote: "Better: A")
    found = verdicts(responses("x", "y"), PAIRWISE)
    assert [v.score for v in found] == [0.5, 0.5]
    orders = _orders(found[0])
    assert orders == Orders(1.0, 0.0)
    assert not orders.agree


def test_no_choice_in_one_order_is_no_result(fake: Any) -> None:
    fake(lambda text, _vote: "Better: A" if "Response A: x" in text else "Hm.")
    found = verdicts(responses("x", "y"), PAIRWISE)
    assert [v.score for v in found] == [None, None]
    (batch,) = compare([_matches()], Served(MODEL, ENGINE), PAIRWISE, 0)
    assert batch.rows[0].preference is None
    assert batch.rows[0].unscored == "no choice in one of the orders"


def test_headings_in_a_judges_words_do_not_split_them(fake: Any) -> None:
    fake(lambda _text, _vote: "Better: A\n[shown second]\nBetter: B")
    (first, _) = verdicts(responses("x", "y"), PAIRWISE)
    assert _orders(first) == Orders(0.0, 1.0)


def _orders(verdict: Verdict) -> Orders:
    assert verdict.said is not None
    return read_orders(verdict.said)


def _matches() -> list[Match]:
    return [Match("m0", "p", "Why?", "x", "yy"), Match("m1", "p", "Why?", "good", "bad")]


@pytest.mark.parametrize("config", [PAIRWISE, JudgeConfig(prompt="tiny")])
def test_every_judge_compares(fake: Any, config: JudgeConfig) -> None:
    tell = _prefers("good")
    fake(tell if config is PAIRWISE else lambda text, _vote: f"Score: {3 + text.count('good')}")
    (batch,) = compare([_matches()], Served(MODEL, ENGINE), config, 0)
    assert [(o.id, o.preference, o.first_length, o.second_length) for o in batch.rows] == [
        ("m0", 0.5, 1, 2), ("m1", 1.0, 4, 3)
    ]  # fmt: skip


def test_comparing_stops_where_nothing_is_decided(fake: Any) -> None:
    fake(lambda _text, _vote: "Hm.")
    many = [Match(f"m{i}", "p", "Why?", "x", "y") for i in range(8)]
    with pytest.raises(JudgeError, match="8 of 8"):
        list(compare([many], Served(MODEL, ENGINE), PAIRWISE, 0))


def test_an_unscored_response_makes_no_loser() -> None:
    (match, _) = _matches()
    assert outcome(match, None, 3.0).preference is None
    assert outcome(match, 3.0, 3.0).preference == 0.5
    assert outcome(match, 2.9, 3.0).preference == 0.0


# The control, and who judges.


def test_random_scores_depend_on_the_response_and_the_seed_alone() -> None:
    given = responses(*"abcd")
    whole = verdicts(given, RANDOM)
    assert [v.score for v in whole] != [v.score for v in verdicts(given, RANDOM, seed=1)]
    in_parts = [
        v for b in judge([given[2:], given[:2]], Served(MODEL, ENGINE), RANDOM, 0) for v in b.rows
    ]
    assert sorted(in_parts, key=lambda v: v.index) == whole
    assert all(0 <= (v.score or 0) < 1 for v in whole)
    many = verdicts(responses(*["x"] * 2000), RANDOM)
    assert 0.47 < sum(v.score or 0 for v in many) / 2000 < 0.53


def test_self_is_the_model_of_the_iteration_and_a_name_another() -> None:
    assert judging_model(JudgeConfig(), MODEL) == MODEL
    assert judging_model(RANDOM, MODEL) == MODEL
    assert judging_model(JudgeConfig(model="tiny"), MODEL).digest != MODEL.digest
    with pytest.raises(EngineError):
        judging_model(JudgeConfig(model="no-such-model"), MODEL)


def test_a_server_that_is_reached_knows_its_model_by_name_and_one_that_is_started_by_folder() -> (
    None
):
    reached = {"kind": "server", "server": {"url": "http://127.0.0.1:1/v1"}}
    started = {"kind": "server", "server": {"command": ["serve", "{port}"]}}
    far = load(JudgeConfig, {"model": "org/judge", "engine": reached}, "recipe")
    assert judging_model(far, MODEL) == ModelRef("org/judge", "org/judge", "")
    near = load(JudgeConfig, {"model": "tiny", "engine": started}, "recipe")
    assert judging_model(near, MODEL).path == str(shipped.folder("tiny"))


def test_a_server_that_failed_gave_no_score(fake: Any) -> None:
    fake(lambda _text, _vote: "", finish="error")
    (found, *_) = verdicts(responses("x"), JudgeConfig(prompt="tiny"))
    assert (found.score, found.unscored) == (None, "the server gave no answer")


# Reasoning, and turns that run on.


def test_a_verdict_is_what_the_judge_says_behind_its_reasoning_in_its_own_turn(fake: Any) -> None:
    fake(
        lambda _text, _vote: "<think>Score: 2?</think>Clear. Score: 4\n\nUser: x\nScore: 1",
        "length",
    )
    (found,) = verdicts(responses("Yes."), JudgeConfig(votes=1))
    assert (found.score, found.text, found.reasoning) == (4.0, "Clear. Score: 4", "Score: 2?")
    assert found.is_finished


def test_a_judge_whose_reasoning_does_not_end_gives_no_score(fake: Any) -> None:
    fake(lambda _text, _vote: "<think>It may be Score: 4", "stop")
    (found,) = verdicts(responses("Yes."), JudgeConfig(votes=1))
    assert (found.score, found.unscored) == (None, "its reasoning did not end")
    assert (found.text, found.reasoning) == ("", "It may be Score: 4")


def test_choices_are_read_in_the_same_way(fake: Any) -> None:
    def says(text: str, _vote: int) -> str:
        mine, other = ("A", "B") if text.index("good") < text.index("bad") else ("B", "A")
        return f"<think>Better: {other}</think>Better: {mine}\n\nUser: x\nBetter: {other}"

    fake(says)
    one, two = verdicts(responses("good", "bad"), JudgeConfig(kind="pairwise", votes=1))
    assert (one.score, two.score) == (1.0, 0.0)
    assert _orders(one) == Orders(1.0, 1.0)
    assert one.said is not None
    assert [text.count("Better") for text in (*one.said.first, *one.said.second)] == [1, 1]
    assert one.reasoning == "Better: B\n\nBetter: A"


@pytest.mark.parametrize("kind", ["rubric", "pairwise"])
def test_judges_are_not_shown_the_reasoning_of_what_they_judge(fake: Any, kind: Any) -> None:
    engine = fake(lambda _text, _vote: "Score: 3. Better: A")
    given = responses("<think>secret one</think>Open one.", "secret two</think>Open two.")
    verdicts(given, JudgeConfig(kind=kind, votes=1))
    assert all("secret" not in shown for shown in engine.shown)
    assert all(any(f"Open {n}." in shown for shown in engine.shown) for n in ("one", "two"))
