"""Chat templates of other families: what they refuse or drop is laid out otherwise, everywhere alike."""

from __future__ import annotations

import logging
from copy import deepcopy

import pytest
from tests.families import LAST_USER, tokenizer
from transformers import PreTrainedTokenizerFast

from selfimprove.config import load
from selfimprove.errors import ConfigError, EngineError
from selfimprove.sampling import chat_template
from selfimprove.sampling.chat_template import ChatTemplate
from selfimprove.sampling.conversation import Spoken
from selfimprove.sampling.encoder import encoder_of
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.tokens import Shown, tokenise
from selfimprove.types import Example, Message

_SYSTEM = (Message("system", "Be brief."), Message("user", "Why?"))
_TWICE = (Message("user", "Hi."), Message("user", "Why?"))
_MORE = (Message("assistant", "So."), Message("user", "And?"))
_OFF = {"enable_thinking": False}


def _read(template: str, turns: tuple[Message, ...], **variables: bool) -> str:
    found = tokenizer("byte-level", template)
    return str(found.decode(encoder_of(found, variables).prompts([turns])[0]))


@pytest.mark.parametrize(
    ("template", "turns", "shown"),
    [
        ("gemma", _SYSTEM, "<s><start_of_turn>user\nBe brief.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"),
        ("gemma", _TWICE, "<s><start_of_turn>user\nHi.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"),
        ("mistral", _SYSTEM, "<s>[INST] Be brief.\n\nWhy? [/INST]"),
        ("mistral", _TWICE, "<s>[INST] Hi.\n\nWhy? [/INST]"),
        ("mistral", (*_SYSTEM, Message("user", "So?")), "<s>[INST] Be brief.\n\nWhy?\n\nSo? [/INST]"),
        ("silent", _SYSTEM, "<|user|>\nBe brief.\n\nWhy?</s>\n<|assistant|>\n"),
        ("mistral v3", (*_SYSTEM, *_MORE), "<s>[INST] Be brief.\n\nWhy?[/INST] So.</s>[INST] And?[/INST]"),
        ("gemma 3", (Message("user", "Hi."), Message("system", "Be brief.")),
         "<s><start_of_turn>user\nHi.\n\nBe brief.<end_of_turn>\n<start_of_turn>model\n"),
        ("silent", _TWICE, "<|user|>\nHi.</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n"),
        ("chatml", _SYSTEM,
         "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"),
        ("chatml", _TWICE,
         "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"),
    ],
)  # fmt: skip
def test_what_a_template_refuses_or_drops_is_folded_and_nothing_else(
    template: str, turns: tuple[Message, ...], shown: str
) -> None:
    assert _read(template, turns) == shown


@pytest.mark.parametrize(
    "template",
    [
        "gemma",
        "gemma 3",
        "mistral",
        "mistral v3",
        "silent",
        "chatml",
        "llama3",
        "qwen3",
        "r1",
    ],
)
@pytest.mark.parametrize("turns", [_SYSTEM, _TWICE])
def test_training_and_scoring_see_the_prompt_of_sampling(
    template: str, turns: tuple[Message, ...]
) -> None:
    found = tokenizer("byte-level", template)
    encoder = encoder_of(found)
    (sampled,) = encoder.prompts([turns])
    ((trained, _),) = encoder.examples([Spoken(turns, "Because.")])
    (scored,) = encoder.conversations([Spoken(turns, "Because.")])
    assert trained == sampled
    text = found.decode(scored)
    assert all(turn.content in text for turn in turns)
    assert "Because." in text


def test_a_system_turn_is_in_a_whole_conversation_of_a_template_that_shows_it_in_prompts_alone() -> (
    None
):
    found = tokenizer("byte-level", "mistral v3")
    (scored,) = encoder_of(found).conversations([Spoken(_SYSTEM, "Because.")])
    assert found.decode(scored) == "<s>[INST] Be brief.\n\nWhy?[/INST] Because.</s>"


@pytest.mark.parametrize(
    ("template", "ending"),
    [
        ("chatml", "<|im_end|>\n"),
        ("gemma", "<end_of_turn>\n"),
        ("mistral v3", "</s>"),
        ("llama3", "<|eot_id|>"),
        ("json", '"}<|im_end|>'),
    ],
)
def test_no_end_mark_stands_behind_a_reply_that_was_cut_off(template: str, ending: str) -> None:
    found = tokenizer("byte-level", template)
    said = [Spoken((Message("user", "Why?"),), "Because the", done) for done in (True, False)]
    whole, cut = encoder_of(found).conversations(said)
    assert found.decode(whole).endswith(f"Because the{ending}")
    assert found.decode(cut) + ending == found.decode(whole)
    plain = [Spoken("Q: Why?\nA:", " Because the", done) for done in (True, False)]
    whole, cut = encoder_of(found).conversations(plain)
    assert whole == [*cut, found.eos_token_id]
    assert found.decode(cut).endswith("Because the")


def test_a_template_that_shows_the_last_turn_alone_gets_it_folded_or_refuses() -> None:
    raw = tokenizer("byte-level", "chatml").backend_tokenizer
    found = PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=LAST_USER)
    (shown,) = encoder_of(found).prompts([_SYSTEM])
    assert found.decode(shown) == "Be brief.\n\nWhy?<|assistant|>"
    with pytest.raises(EngineError, match="it leaves out a turn"):
        encoder_of(found).prompts([(Message("user", "Why?"), *_MORE)])


def test_it_is_said_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    chat_template.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            ChatTemplate(tokenizer("byte-level", "gemma"), {}).taken(_SYSTEM)
    (said,) = caplog.messages
    assert "system's turn: its text goes in front of the user's" in said


def test_a_conversation_that_no_way_makes_fit_is_named() -> None:
    turns = (Message("assistant", "Hello."), Message("user", "Why?"))
    with pytest.raises(EngineError, match=r"of assistant, user: Conversation roles must alternate"):
        _read("gemma", turns)


def test_what_a_template_refuses_by_its_words_is_named() -> None:
    found = tokenizer("byte-level", "chatml")
    picky = type(found)(
        tokenizer_object=found.backend_tokenizer,
        chat_template="{% for m in messages %}{% if not m.content %}{{ raise_exception('empty') }}"
        "{% endif %}{{ m.content }}{% endfor %}",
    )
    assert len(encoder_of(picky).prompts([_TWICE])) == 1
    with pytest.raises(EngineError, match=r"refuses a conversation that ends in '': empty"):
        encoder_of(picky).prompts([(Message("user", ""),)])


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
        ({"rag": "{{ messages[0].content }}"}, "multiple chat templates"),
    ],
)
def test_a_template_that_is_not_made_for_such_turns_is_told_of(template, why: str) -> None:
    raw = tokenizer("byte-level", "chatml").backend_tokenizer
    found = PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=template)
    with pytest.raises(EngineError, match=f"does not take a conversation of user: .*({why})"):
        encoder_of(found).prompts([(Message("user", "Why?"),)])


def test_turns_without_a_chat_template_are_named() -> None:
    found = tokenizer("byte-level", "chatml")
    bare = type(found)(tokenizer_object=found.backend_tokenizer)
    with pytest.raises(
        EngineError, match=r"no chat template: give plain text \(engine.chat=false\)"
    ):
        encoder_of(bare).prompts([_TWICE])


def test_variables_of_the_template_reach_sampling_and_training_alike() -> None:
    asked = (Message("user", "Why?"),)
    closed = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert _read("qwen3", asked, **_OFF) == closed
    assert _read("qwen3", asked) == closed.removesuffix("<think>\n\n</think>\n\n")
    found = tokenizer("byte-level", "qwen3")
    end = found.convert_tokens_to_ids("<|im_end|>")
    (row,) = tokenise([Example(asked, "So.")], found, [end], 99, Shown(_OFF)).rows
    assert found.decode(row.ids[: row.prompt_tokens]) == closed
    assert found.decode(row.ids[row.prompt_tokens :]) == "So.<|im_end|>"


def test_an_answer_never_stands_inside_a_reasoning_block_that_the_template_opens() -> None:
    found = tokenizer("byte-level", "r1")
    asked = (Message("user", "Why?"),)
    pairs = encoder_of(found).examples([Spoken(asked, "So."), Spoken(asked, "hm</think>So.")])
    read = [(found.decode(prompt), found.decode(answer)) for prompt, answer in pairs]
    prompt = "<s><|User|>Why?<|Assistant|><think>\n"
    assert read == [(prompt, "\n</think>\n\nSo."), (prompt, "hm</think>So.")]


@pytest.mark.parametrize(
    ("reply", "behind"),
    [
        ("So.", "\n</Think>\n\nSo."),
        ("It is written `</think>`.", "\n</Think>\n\nIt is written `</think>`."),
        ("hm</think>So.", "hm</think>So."),
    ],
)
def test_a_block_opened_in_another_spelling_is_closed_once(reply: str, behind: str) -> None:
    found = deepcopy(tokenizer("byte-level", "r1"))
    found.chat_template = found.chat_template.replace("<think>", "<Think >")
    ((_, answer),) = encoder_of(found).examples([Spoken((Message("user", "Why?"),), reply)])
    assert found.decode(answer) == behind


def test_the_engine_block_takes_variables_and_shares_them_with_trainings() -> None:
    tree = {"chat": True, "chat_template_kwargs": _OFF}
    layout = load(EngineConfig, tree, "recipe").layout
    assert (layout.chat, layout.chat_template_kwargs) == (True, _OFF)
    with pytest.raises(ConfigError, match="tokenize is no variable of a chat template"):
        load(EngineConfig, {"chat_template_kwargs": {"tokenize": True}}, "recipe")
