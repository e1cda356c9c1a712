"""What is a repetition of a held-out text, and what only looks alike."""

from __future__ import annotations

import time

import pytest

from selfimprove.data.overlap import HeldOutTexts, find_overlaps
from selfimprove.data.read import read_questions
from selfimprove.data.sources import Source
from selfimprove.data.user_prompts import read_prompts

_CLIPS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)


def _found(one: str, other: str, *others: str) -> str:
    (told,) = find_overlaps([one], [HeldOutTexts("test", (other, *others))])
    if told.exact:
        return "exact"
    return "near" if told.near else "another"


@pytest.mark.parametrize(
    "text",
    [
        _CLIPS.upper(),
        _CLIPS.replace(" ", "\n  "),
        _CLIPS.replace(",", "").replace("?", ""),
        f"“{_CLIPS}”",
    ],
)
def test_case_spacing_and_punctuation_make_no_other_text(text: str) -> None:
    assert _found(text, _CLIPS) == "exact"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It costs $1,000.", "it costs $1000"),
        ("What’s a well-known owl?", "What's a well known owl?"),
        ("It costs $.50.", "It costs $0.50"),
        ("It costs 12 000 dollars.", "It costs 12,000 dollars."),
        ("Add 1,2,3.", "Add 1, 2, 3"),
        ("What is −5 + x²?", "What is -5 + x^2?"),
        ("Why\u200bnot\ufeff?", "Whynot?"),
    ],
)
def test_the_same_in_other_letters_is_the_same(one: str, other: str) -> None:
    assert _found(one, other) == "exact"


@pytest.mark.parametrize(
    "text",
    [
        f"Please answer this question: {_CLIPS}",
        f"{_CLIPS} Show your work, step by step.",
        _CLIPS.replace("altogether", "in total"),
        _CLIPS.replace("friends", "close friends"),
        _CLIPS.replace("and then she", "then she"),
        _CLIPS.replace("sold half", "slod half"),
    ],
)
def test_a_text_that_was_reworded_a_little_is_nearly_the_same(text: str) -> None:
    assert _found(text, _CLIPS) == _found(_CLIPS, text) == "near"


_SENTENCES = _CLIPS.partition("How many")


@pytest.mark.parametrize(
    "text",
    [
        *(f"{before}{_CLIPS}" for before in (
            "1. ", "- ", "> ", "(a) ", "Q1: ", "Problem 3: ", "# Question\n", "**Question:** ", "[INST] ",
            "Here is one of the problems that a pupil in grade 3 must solve: ",
        )),
        *(f"{_CLIPS}{behind}" for behind in (
            " (Answer: 72)", " [GSM8K]", "\n#### ", "\nA:",
            " Think step-by-step. Answer with a single Integer.",
        )),
        f"**{_CLIPS}**",
        f"<p>{_CLIPS}</p>",
        f"Exercise 7: **{_CLIPS}**\nShow all 3 steps, as Maria would.\n\nAnswer: 72",
        _CLIPS.replace("48", "forty-eight"),
        _CLIPS.replace("48", "48.0"),
        _CLIPS.replace("half", "1/2"),
        _CLIPS.replace("half", "½"),
        f"{_SENTENCES[1]}{_SENTENCES[2]} {_SENTENCES[0].strip()}",
        f"Q1: {_SENTENCES[1]}{_SENTENCES[2]} {_SENTENCES[0].strip()} (Answer: 72)",
        f"Problem 3: {_CLIPS.replace('altogether', 'in total')}\n#### 72",
    ],
)  # fmt: skip
def test_a_text_is_found_whatever_stands_around_it(text: str) -> None:
    assert _found(text, _CLIPS) == "near"
    other = text.replace("Natalia", "Maria")
    assert _found(other, _CLIPS) == "another"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Q: What is the capital of France?\nA:", "What is the capital of France?"),
        ("Tell me: what is the capital of France?", "What is the capital of France?"),
        ("What is the capital of France? Answer briefly.", "What is the capital of France?"),
        ("2) **What is the capital of France?**", "What is the capital of France?"),
        ("Write me a poem about autumn", "Write a poem about autumn"),
        ("Please write the poem about autumn.", "Write a poem about autumn"),
        ("What is twenty-five plus 2?", "What is 25 plus two?"),
    ],
)
def test_a_short_text_is_found_too(one: str, other: str) -> None:
    assert _found(one, other) == _found(other, one) == "near"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Write a poem about autumn leaves", "Write a poem about autumn"),
        ("Write a short poem about autumn", "Write a poem about autumn"),
        ("In 1807: what is the capital of France?", "What is the capital of France?"),
        ("What is the capital of France? And of Spain?", "What is the capital of France?"),
        ("Tell me: why?", "Why?"),
        ("The cat sleeps. Translate the sentence into French.", "Translate the sentence into French."),
        ("What is - 5 + 3?", "What is 5 + 3?"),
        ("- 5 + 3 is", "5 + 3 is"),
        ("What does <b> do to a text?", "What does <p> do to a text?"),
    ],
)  # fmt: skip
def test_a_short_text_within_another_request_is_another(one: str, other: str) -> None:
    assert _found(one, other) == _found(other, one) == "another"


def test_every_training_text_that_a_held_out_one_holds_is_found() -> None:
    asked = [
        "Write a poem about autumn.",
        "Write me a poem about autumn.",
        "Write the poem about autumn",
    ]
    held_out = HeldOutTexts("test", ("Do this: write a poem about autumn",))
    (found,) = find_overlaps(asked, [held_out])
    assert found.places == {0, 1, 2}


def test_a_copy_among_other_texts_is_found() -> None:
    passage = "Maria has 3 cats, 2 dogs and no birds. " * 20
    assert _found(f"{passage}{_CLIPS} {passage}", _CLIPS) == "near"
    assert _found(f"{passage}{_CLIPS.replace('48', '49')} {passage}", _CLIPS) == "another"


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("the amount", "the number"),
        ("want to know", "wish to know"),
        ("a percentage or an amount", "a percent or an amount"),
    ],
)
def test_words_that_only_end_like_a_negation_are_reworded_like_others(was: str, now: str) -> None:
    text = f"{_CLIPS} We want to know the amount, be it a percentage or an amount of clips."
    assert _found(text.replace(was, now, 1), text) == "near"


@pytest.mark.parametrize("negation", ["didn't", "didn’t", "didnt", "wont", "CANNOT"])
def test_a_negation_with_or_without_its_apostrophe_makes_another_text(negation: str) -> None:
    assert _found(_CLIPS.replace("then she", f"then she {negation}"), _CLIPS) == "another"


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("48", "47"),
        ("half", "twice"),
        ("in April and May", "in April and June"),
        ("did Natalia", "did Maria"),
        ("Natalia sold", "Maria sold"),
        ("she sold half", "she never sold half"),
        ("How many clips did Natalia sell altogether in April and May?", "Was it a good year for her?"),
    ],
)  # fmt: skip
def test_another_number_name_negation_or_question_makes_another_text(was: str, now: str) -> None:
    assert _found(_CLIPS.replace(was, now, 1), _CLIPS) == "another"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("not ( True ) and ( True ) is", "( not True ) and True is"),
        ("True and not not ( not False ) is", "True and not not not ( False ) is"),
        ("((-1 + 2 + 9 * 5) - (-2 + -4)) =", "((-1 + 2 - 9 * 5) - (-2 + -4)) ="),
        ("I have a flute, a piano, and a trombone. How many instruments do I have?",
         "I have a flute, a piano, and a clarinet. How many instruments do I have?"),
        ("Write about a fox in the barn with lamps.", "Write about a fox in the barn with bells."),
        ("What is 1.5 plus 2?", "What is 15 plus 2?"),
        ("What is 1,5 plus 2?", "What is 15 plus 2?"),
        ("It costs $.50.", "It costs $50."),
        ("What is 2³?", "What is 23?"),
        ("What is 5½ + 1?", "What is 51/2 + 1?"),
        ("What comes after 1,2,3?", "What comes after 12,3?"),
        ("", "Why?"),
    ],
)  # fmt: skip
def test_a_template_with_other_values_is_another_text(one: str, other: str) -> None:
    assert _found(one, other) == "another"


def test_what_fills_the_slot_of_a_template_makes_another_text() -> None:
    row = "The ball in the hands of the dancer over there at the end of the hall is said to be {} in the end."
    red, blue, green = (row.format(colour) for colour in ("red", "blue", "green"))
    assert _found(red, blue) == "near"  # two texts alone show no template
    assert _found(red, blue, green) == "another"


def test_every_held_out_set_is_told_apart_and_places_are_those_of_the_texts() -> None:
    held_out = [HeldOutTexts("a", ("Why?", "How so?")), HeldOutTexts("b", ("how so",))]
    first, second = find_overlaps(["What?", "How so?", "why"], held_out)
    assert (first.name, dict(first.exact), set(first.places)) == ("a", {1: 1, 2: 0}, {1, 2})
    assert (second.name, dict(second.exact), set(second.places)) == ("b", {1: 0}, {1})


def test_questions_and_instructions_of_the_tiny_world_are_no_repetitions() -> None:
    asked = [q.text for q in read_questions("train", "tiny", limit=500)]
    held_out = [q.text for q in read_questions("test", "tiny", limit=300)]
    told = [p.text for p in read_prompts((Source(source="train", format="tiny", limit=700),))]
    measured = [p.text for p in read_prompts((Source(source="test", format="tiny", limit=300),))]
    for ours, theirs in ((asked, held_out), (told, measured)):
        (found,) = find_overlaps(ours, [HeldOutTexts("test", tuple(theirs))])
        assert found.places == frozenset()


@pytest.mark.parametrize(
    "task",
    ["boolean_expressions", "object_counting", "tracking_shuffled_objects_three_objects",
     "date_understanding", "multistep_arithmetic_two", "word_sorting"],
)  # fmt: skip
def test_halves_of_big_bench_hard_are_no_repetitions(task: str, shared_data) -> None:
    texts = [q.text for q in read_questions(shared_data(f"bbh/{task}.json"), "bbh")]
    (found,) = find_overlaps(texts[::2], [HeldOutTexts("test", tuple(texts[1::2]))])
    assert found.places == frozenset()


@pytest.mark.slow
def test_gsm8k_is_clean_reworded_questions_are_found_and_quickly(shared_data) -> None:
    train = [q.text for q in read_questions(shared_data("gsm8k/train.jsonl"), "gsm8k")]
    test = [q.text for q in read_questions(shared_data("gsm8k/test_first660.jsonl"), "gsm8k")]
    reworded = [f"Please answer this: {text}" for text in test]
    started = time.monotonic()
    (found,) = find_overlaps([*train, *reworded, *test], [HeldOutTexts("test", tuple(test))])
    assert time.monotonic() - started < 60  # 2 s on two busy cores
    assert [i for i in found.places if i < len(train)] == []
    assert set(found.exact) == set(range(len(train) + 660, len(train) + 1320))
    assert set(found.near) == set(range(len(train), len(train) + 660))
