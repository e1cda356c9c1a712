"""What of a text its author says: no reasoning, and nothing behind the end of its turn."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from selfimprove.answers.extract import extract
from selfimprove.reasoning import closing_of, cut, opens_reasoning, parted
from selfimprove.sampling.own_words import own_words, response, spoken
from selfimprove.sampling.texts import Texts
from selfimprove.tiny.shipped import folder
from selfimprove.types import Draw, FinishReason

PARTED = [
    ("<think>Two and two.</think>\n\nFour.", "Four.", "Two and two."),
    ("<think>\n\n</think>\n\nFour.", "Four.", ""),
    ("\n<think>\nHm.\n</think>Four.", "Four.", "Hm."),
    ("<thinking>Hm.</thinking>Four.", "Four.", "Hm."),
    ("<reasoning>Hm.</reasoning> Four.", "Four.", "Hm."),
    ("<seed:think>Hm.</seed:think>Four.", "Four.", "Hm."),
    ("[THINK]Hm.[/THINK]Four.", "Four.", "Hm."),
    (
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Four.<|END_RESPONSE|>",
        "Four.",
        "Hm.",
    ),
    (
        "<|begin_of_thought|>Hm.<|end_of_thought|>\n<|begin_of_solution|>Four.<|end_of_solution|>",
        "Four.",
        "Hm.",
    ),
    (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Four.",
        "Four.",
        "Hm.",
    ),
    ("analysisWe add.assistantfinalFour.", "Four.", "We add."),
    # In capitals, with a space, and tags of other families.
    ("<THINK>Hm.</THINK>Four.", "Four.", "Hm."),
    ("<Think>Hm.</think >Four.", "Four.", "Hm."),
    ("<|think|>Hm.<|/think|>Four.", "Four.", "Hm."),
    ("<ds_think>Hm.</ds_think>Four.", "Four.", "Hm."),
    ("<|inner_prefix|>Hm.<|inner_suffix|>Four.", "Four.", "Hm."),
    ("<scratchpad>Hm.</scratchpad>Four.", "Four.", "Hm."),
    ("<analysis>Hm.</analysis>\nFour.", "Four.", "Hm."),
    ("<reflection>Hm.</reflection>Four.", "Four.", "Hm."),
    (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final "
        "<|constrain|>json<|message|>Four.",
        "Four.",
        "Hm.",
    ),
    ("I think so </think> Four.", "Four.", "I think so"),
    # The prompt had opened the block.
    ("Two and two.\n</think>\n\nFour.", "Four.", "Two and two."),
    # Several blocks, one within another, one that names another's mark.
    ("<think>a</think>One. <think>b</think>Two.", "One. Two.", "a\n\nb"),
    ("<think>a<think>b</think>c</think>Four.", "Four.", "abc"),
    ("<think>Say `</think>` at the end.</think>Four.", "Four.", "Say `</think>` at the end."),
]


@pytest.mark.parametrize(("text", "said", "thought"), PARTED)
def test_reasoning_is_parted_from_the_response(text: str, said: str, thought: str) -> None:
    assert parted(text) == (said, thought, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " The answer is 4.",
        "The `<think>` mark opens a block.",
        'It writes "</think>" behind it.',
        "Put the <think> tag first.",
        "The tag </think> closes a block.",
        "The tags <think> and </think> mark a block.",
        "<analysis> is a tag of XML.",
        "</reflection> as well.",
        "If a < b then [b] is more.",
        "A thinking cap.",
    ],
)
def test_a_text_without_reasoning_stays_as_it_is(text: str) -> None:
    assert parted(text) == (text, "", True)
    assert response(text) == text


@pytest.mark.parametrize(
    ("text", "thinking"),
    [
        ("<think>It must be 4", False),
        ("It must be 4", True),
        ("<think>It must be 4", True),
        ("[THINK]It must be 4", False),
        ("<|channel|>analysis<|message|>It must be 4", False),
    ],
)
@pytest.mark.parametrize("finish", ["length", "stop"])
def test_without_the_end_of_its_reasoning_there_is_no_response(
    text: str, thinking: bool, finish: FinishReason
) -> None:
    draw = spoken(Draw("k", 0, text, finish, 3, 4, thinking=thinking))
    assert (draw.text, draw.reasoning, draw.finish) == ("", "It must be 4", "length")


def test_a_response_that_never_came_is_unfinished() -> None:
    draw = spoken(Draw("k", 0, "<think>Hm.</think>\n", "stop", 3, 4))
    assert (draw.text, draw.reasoning, draw.finish) == ("", "Hm.", "length")
    parsed = spoken(Draw("k", 0, "", "stop", 3, 4, reasoning="Hm."))  # by a server
    assert parsed.finish == "length"
    assert spoken(Draw("k", 0, "", "error", 0, 0)).finish == "error"


ENDED = [
    ("Score: 4\n\nUser: And this?\nScore: 1", "Score: 4"),
    ("Score: 4\nHuman: And this?", "Score: 4"),
    ("Score: 4\n\nHuman:\nAnd this?\n\nAssistant:\nScore: 1", "Score: 4"),
    ("Score: 4\n\n### Instruction:\nJudge.\n\n### Response:\nScore: 1", "Score: 4"),
    ("Score: 4\n### Human: And this?", "Score: 4"),
    (
        "Score: 4\nReview the response.\nInstruction: Why?\nScore: 1",
        "Score: 4\nReview the response.",
    ),
    ("Score: 4\n\n**User:** And this?", "Score: 4"),
    ("Score: 4\nUSER: And this? ASSISTANT: Score: 1", "Score: 4"),
    ("Score: 4\n\nAssistant: Score: 1", "Score: 4"),
    ("Score: 4<|im_end|>\n<|im_start|>user\nAnd this?<|im_end|>", "Score: 4"),
    ("Score: 4<|im_start|>user\nAnd this?", "Score: 4"),
    ("Score: 4<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd?", "Score: 4"),
    ("Score: 4<end_of_turn>\n<start_of_turn>user\nAnd?", "Score: 4"),
    ("Score: 4</s> [INST] And? [/INST] Score: 1", "Score: 4"),
    ("Score: 4<｜end▁of▁sentence｜><｜User｜>And?", "Score: 4"),
    ("Score: 4\nuser\nAnd this?\nassistant\nScore: 1", "Score: 4"),
    ("Score: 4\n\nSystem:\nJudge.\n\nHuman:\nAnd this?", "Score: 4"),
    ("Score: 4\n\n[User]\nAnd this?", "Score: 4"),
    ("Score: 4<s>[INST] And? [/INST] Score: 1", "Score: 4"),
    ("Score: 4<|im_user|>And this?<|im_middle|>", "Score: 4"),
    ("Score: 4<|prompter|>And this?<|endoftext|>", "Score: 4"),
    ("Score: 4<bos><start_of_turn>user\nAnd?", "Score: 4"),
    ("Score: 4<role>HUMAN</role>And this?", "Score: 4"),
    ("Score: 4.user\n\nAnd this?assistant\n\nScore: 1", "Score: 4."),
    ("<|im_start|>assistant\nScore: 4<|im_end|>", "Score: 4"),
    ('Score: 4<|tool_call|>[{"name": "f"}]', "Score: 4"),
    ("<think>User: said.\nUser: Score: 2</think>Score: 4\nUser: x", "Score: 4"),
]


@pytest.mark.parametrize(("text", "said"), ENDED)
def test_a_text_ends_where_its_authors_turn_ends(text: str, said: str) -> None:
    assert response(text) == said
    assert response(said) == said


@pytest.mark.parametrize(
    "text",
    [
        "User: Hello.\nAssistant: Hello to you.\nUser: Bye.",  # asked for
        "A dialogue:\n\nUser: Hello.\nAssistant: Hello to you.",
        "**A dialogue:**\n\nUser: Hello.\nAssistant: Hello to you.",
        "Every User: is shown.\nUsername: root",
        "`<|im_end|>` ends a turn.",
        "It is <s>old</s> new.",
        "The tag <role>admin</role> names it.",
        "The operating system:\nLinux.",
        "<bos> begins a text.",
        "### Instructions\nDo it.",
        "Ask the user\n\nThen go.",
    ],
)
def test_what_belongs_to_the_response_ends_no_turn(text: str) -> None:
    assert response(text) == text


def test_what_ran_on_behind_its_turn_is_finished() -> None:
    cut_off = Draw("k", 0, "Paris.\n\nUser: And of Spain?", "length", 3, 4)
    assert (own_words(cut_off).text, own_words(cut_off).finish) == ("Paris.", "stop")
    marked = Draw("k", 0, "Paris.<|im_end|>\n<|im_start|>user\nAnd", "length", 3, 4)
    assert (spoken(marked).text, spoken(marked).finish) == ("Paris.", "stop")
    whole = Draw("k", 0, "Paris is", "length", 3, 4)
    assert own_words(spoken(whole)) == whole


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>The answer is 2.</think> The answer is 4.", "4"),
        ("The answer is 2.</think> Let me see.", None),
        ("<think>The answer is 2.", None),
    ],
)
def test_an_answer_is_not_read_from_reasoning(text: str, answer: str | None) -> None:
    assert extract(text, "number") == answer
    assert extract(text, "number", lenient=True) == answer


def test_a_stop_string_in_the_reasoning_ends_nothing() -> None:
    assert cut("<think>a\n\nb</think>c\n\nd", ("\n\n",)) == "<think>a\n\nb</think>c"
    assert cut("<think>a\n\nb", ("\n\n",)) is None
    assert cut("a\n\nb", ("\n\n",), thinking=True) is None
    assert cut("a\n\nb", ("\n\n",)) == "a"


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|CHATBOT_TOKEN|><|START_THINKING|>", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("What does <think> do?<|im_end|>\n<|im_start|>assistant\n", False),
    ],
)
def test_a_template_may_open_the_block(prompt: str, opens: bool) -> None:
    assert opens_reasoning(prompt) == opens


def test_special_tokens_that_part_a_text_are_there_to_part_it() -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder("tiny"))
    marks = ["[THINK]", "[/THINK]", "<|im_start|>"]
    tokenizer.add_tokens(marks, special_tokens=True)
    texts = Texts(tokenizer, len(tokenizer))
    prompt, thought, said, more = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("How can Ben make tea?", "Ask the fire.", " Make tea first.", "user\nWhy?")
    )
    opening, closing, turn = (tokenizer.convert_tokens_to_ids(mark) for mark in marks)
    new = [opening, *thought, closing, *said, turn, *more]
    (text,) = texts.continuations([(prompt, new)])
    draw = spoken(Draw("k", 0, text, "length", len(prompt), len(new)))
    assert (draw.text, draw.reasoning, draw.finish) == ("Make tea first.", "Ask the fire.", "stop")


_PIECES = [*"ab<>/|`\n :", "<think>", "</think>", "\nUser:", "<|im_end|>", "[THINK]"]


@given(st.lists(st.sampled_from(_PIECES)).map("".join))
def test_reading_twice_is_reading_once(text: str) -> None:
    said, _, finished = parted(text)
    assert finished or not said
    assert len(said) <= len(text)
    assert own_words(own_words(Draw("k", 0, text, "stop", 0, 0))) == own_words(
        Draw("k", 0, text, "stop", 0, 0)
    )


@pytest.mark.parametrize(
    "piece", ["<think>", "</think>", "<analysis>", "User:\n", "`<", "<|channel|>", "\n "]
)
def test_taking_a_long_text_apart_is_quick(piece: str) -> None:
    began = time.monotonic()
    response(piece * 20_000)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("prompt", "closing"),
    [
        ("<|im_start|>assistant\n<think>\n", "</think>"),
        ("[/INST][THINK]", "[/THINK]"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<seed:think>", "</seed:think>"),
        ("<|think|>\n", "<|/think|>"),
        ("assistant: <Think >\n", "</Think>"),
        ("<analysis>", None),
        ("<|im_start|>assistant\n", None),
    ],
)
def test_a_block_that_a_prompt_opens_is_closed_by_its_own_mark(
    prompt: str, closing: str | None
) -> None:
    assert closing_of(prompt) == closing
