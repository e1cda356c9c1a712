"""Which texts a model wrote become prompts."""

from __future__ import annotations

import pytest

from selfimprove.evaluation.overlaps import HeldOutText
from selfimprove.methods.self_rewarding.prompts import PromptsConfig, Written, new_prompts
from selfimprove.types import UserPrompt


def _prompts(*texts: str) -> list[UserPrompt]:
    return [UserPrompt(f"s{i}", "seed", text) for i, text in enumerate(texts)]


def _new(
    *texts: str,
    config: PromptsConfig | None = None,
    excluded: tuple[str, ...] = (),
    earlier: tuple[str, ...] = (),
):
    drawn = [Written(i, text, "stop") for i, text in enumerate(texts)]
    seeds = _prompts("Name three rivers of France.")
    held_out = [HeldOutText("test", text) for text in excluded]
    made = new_prompts(drawn, seeds, (), held_out, config or PromptsConfig(), "own",
                       _prompts(*earlier))  # fmt: skip
    reasons = {d.why: d.count for d in made.funnels[0].dropped}
    return [p.text for p in made.rows], reasons


def test_a_usable_new_prompt_is_kept_and_named():
    assert _new(" Explain how a bridge carries its load. ") == (
        ["Explain how a bridge carries its load."],
        {},
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Sing now.", "too short"),
        ("word " * 151, "too long"),
        ("Draw a picture of a horse, please.", "banned word"),
        ("Please go to the next page now.", "banned word"),
        ("Write a program that sorts a list.", "banned start"),
        ("- tell me about the moon", "starts with no letter"),
        ("Ünder what law does water boil?", "starts with no letter"),
        ("Name three rivers of France.", "too similar to another"),
        ("Name four rivers of France.", "too similar to another"),
    ],
)
def test_what_is_dropped_and_why(text, why):
    assert _new(text) == ([], {why: 1})


def test_an_evaluation_prompt_is_dropped_as_such_whatever_its_case():
    kept, reasons = _new("What is the tallest tree?", excluded=("what is  the tallest Tree?",))
    assert (kept, reasons) == ([], {"is an evaluation prompt": 1})


_OWLS = "What do owls eat at night in winter?"
_LIKE = "What do owls eat at night in the winter?"  # 8 and 9 words, 8 of them shared: ROUGE-L 16/17


def test_a_prompt_like_a_held_out_one_is_dropped():
    assert _new(_LIKE, excluded=(_OWLS,)) == ([], {"too similar to a held-out prompt": 1})
    strict = PromptsConfig(max_similarity=0.95)
    assert _new(_LIKE, excluded=(_OWLS,), config=strict) == ([_LIKE], {})


def test_a_prompt_like_one_of_an_earlier_iteration_is_dropped():
    why = "too similar to one of an earlier iteration"
    assert _new(_LIKE, earlier=(_OWLS,)) == ([], {why: 1})
    assert _new(_OWLS, earlier=(_OWLS,)) == ([], {why: 1})


@pytest.mark.parametrize("kept", ["earlier", "excluded"])
def test_a_prompt_of_the_same_words_is_never_new(kept):
    anything = PromptsConfig(max_similarity=1.0)
    assert _new(_LIKE, config=anything, **{kept: (_OWLS,)}) == ([_LIKE], {})
    assert _new(_OWLS.upper(), config=anything, **{kept: (_OWLS,)})[0] == []
    assert _new("Name three rivers of France!", config=anything)[0] == []
    assert _new(_OWLS, _OWLS, config=anything)[0] == [_OWLS]


def test_a_text_that_was_cut_off_is_no_prompt():
    drawn = [Written(0, "Explain how a bridge carries", "length")]
    made = new_prompts(drawn, [], (), (), PromptsConfig(), "own")
    assert [d.why for d in made.funnels[0].dropped] == ["cut off by max_tokens"]


def test_an_answer_behind_the_instruction_is_cut_off():
    kept, _ = _new("Explain how a bridge carries its load.\nResponse: By tension.")
    assert kept == ["Explain how a bridge carries its load."]


def test_own_prompts_are_compared_with_each_other():
    kept, reasons = _new("What do owls eat at night?", "What do owls eat at night?")
    assert (kept, reasons) == (["What do owls eat at night?"], {"too similar to another": 1})
