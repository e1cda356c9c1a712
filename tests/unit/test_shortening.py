"""Too long a prompt: oldest turns first, then the oldest text; headers, system and BOS stay."""

from __future__ import annotations

from functools import partial

import pytest
from tests.families import tokenizer

from selfimprove.data.improvement_prompts import improvement_template, rendered, unrendered
from selfimprove.sampling.conversation import Spoken, transcript, turns_of
from selfimprove.sampling.scalar_model import fitting
from selfimprove.sampling.shortening import Cut, inside, oldest_first
from selfimprove.training.tokens import Shown, TokenisedExample, tokenise, tokenise_groups
from selfimprove.types import Example, Message

_FOUND = tokenizer("byte-level", "llama3")
_STOP = [_FOUND.convert_tokens_to_ids("<|eot_id|>")]
_LONG = (
    Message("system", "Be brief."),
    Message("user", "one " * 30),
    Message("assistant", "two " * 30),
    Message("user", "three " * 30),
)
_HEADER = "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
_ASKED = "<|start_header_id|>user<|end_header_id|>\n\n"
_ANSWER = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


def _prompt(row: TokenisedExample) -> str:
    return str(_FOUND.decode(row.ids[: row.prompt_tokens]))


def _whole(prompt: tuple[Message, ...] | str) -> int:
    (row,) = tokenise([Example(prompt, "four")], _FOUND, _STOP, 9999).rows
    return len(row.ids)


def test_the_oldest_exchange_goes_first_and_all_of_it() -> None:
    found = tokenise([Example(_LONG, "four")], _FOUND, _STOP, _whole(_LONG) - 1)
    assert [_prompt(row) for row in found.rows] == [
        f"{_HEADER}{_ASKED}{('three ' * 30).strip()}{_ANSWER}"
    ]
    assert (found.truncated, found.dropped) == (1, 0)


@pytest.mark.parametrize("less", [1, 20, 60])
def test_then_the_oldest_text_of_the_last_turn_and_hardly_more_than_need_be(less: int) -> None:
    limit = _whole((_LONG[0], _LONG[3])) - less
    (row,) = tokenise([Example(_LONG, "four")], _FOUND, _STOP, limit).rows
    shown = _prompt(row)
    assert shown.startswith(f"{_HEADER}{_ASKED}")
    assert shown.endswith(f" three three{_ANSWER}")
    assert limit - 6 <= len(row.ids) <= limit


def test_system_and_headers_stay_or_the_row_goes() -> None:
    found = tokenise([Example(_LONG, "four")], _FOUND, _STOP, 12)
    assert (found.rows, found.truncated, found.dropped) == ((), 0, 1)


def test_chosen_and_rejected_have_the_very_same_prompt() -> None:
    sides = (Example(_LONG, "yes"), Example(_LONG, "no " * 40))
    (group,) = tokenise_groups([sides], _FOUND, _STOP, 220).groups
    assert group is not None
    chosen, rejected = group
    assert _prompt(chosen) == _prompt(rejected)
    assert _prompt(chosen).startswith(_HEADER)
    assert len(chosen.ids) < len(rejected.ids) <= 220
    assert tokenise_groups([sides], _FOUND, _STOP, 220).shortened == 1


def test_a_pair_of_which_one_side_cannot_fit_is_left_out_whole() -> None:
    sides = (Example(_LONG, "yes"), Example(_LONG, "no " * 400))
    found = tokenise_groups([sides], _FOUND, _STOP, 220)
    assert (found.groups, found.shortened) == ([None], 0)


def test_the_rows_of_a_reward_model_are_shortened_alike_and_keep_their_headers() -> None:
    (rows,) = fitting([[Spoken(_LONG, "yes"), Spoken(_LONG, "no " * 40)]], _FOUND, 220).groups
    assert rows is not None
    chosen, rejected = (str(_FOUND.decode(row)) for row in rows)
    asked = chosen.removesuffix("yes<|eot_id|>")
    assert asked.startswith(f"{_HEADER}{_ASKED}")
    assert rejected.startswith(asked)


@pytest.mark.parametrize("chat", [True, False])
def test_a_request_to_improve_keeps_its_words_and_the_reference(chat: bool) -> None:
    words = improvement_template("v1")
    within = inside(partial(unrendered, words), partial(rendered, words))
    turns = rendered(words, _LONG, "A response.")
    asked = turns if chat else transcript(turns)
    example = Example(asked, "Better.")
    (row,) = tokenise([example], _FOUND, _STOP, 160, Shown(shorten=within)).rows
    shown = _prompt(row)
    assert "Be brief." in shown
    assert "one" not in shown
    assert "Improve the response.\nInstruction: " in shown
    assert "three three \nResponse: A response." in shown
    (tight,) = tokenise([example], _FOUND, _STOP, len(row.ids) - 40, Shown(shorten=within)).rows
    assert "Improve the response.\nInstruction: " in _prompt(tight)
    assert "three \nResponse: A response." in _prompt(tight)


def test_a_reference_loses_its_beginning_only_when_nothing_of_the_prompt_is_left() -> None:
    words = improvement_template("v1")
    within = inside(partial(unrendered, words), partial(rendered, words))
    asked = rendered(words, (Message("user", "Why?"),), "Because of it.")
    for cut, prompt, reference in (
        (3, "?", "Because of it."),
        (11, "?", "of it."),
    ):
        assert within(asked, Cut(characters=cut)) == rendered(
            words, (Message("user", prompt),), reference
        )
    assert within(asked, Cut(characters=17)) is None


def test_a_transcript_keeps_its_layout() -> None:
    plain = transcript(_LONG)
    (row,) = tokenise([Example(plain, "four")], _FOUND, _STOP, _whole(plain) - 1).rows
    assert _prompt(row) == transcript((_LONG[0], _LONG[3]))


def test_plain_text_keeps_its_bos() -> None:
    found = tokenizer("unigram", "chatml")
    (row,) = tokenise([Example("one two three four", " six")], found, [2], 20).rows
    assert row.ids[0] == found.bos_token_id
    assert str(found.decode(row.ids[: row.prompt_tokens])).endswith("three four")


def test_what_remains_begins_with_the_users_turn() -> None:
    assert oldest_first(_LONG, Cut(exchanges=1)) == (_LONG[0], _LONG[3])
    assert oldest_first(_LONG, Cut(exchanges=2)) is None
    assert oldest_first("abc", Cut(exchanges=1)) is None


@pytest.mark.parametrize(
    "text", ["Why?", "a\n\n", "", "Human:\nx", " Human:\nx", "Human:", "\n\nSystem:\n"]
)
def test_a_transcript_can_be_taken_apart(text: str) -> None:
    turns = (Message("system", "s"), Message("user", text), Message("assistant", "y"), _LONG[3])
    assert turns_of(transcript(turns)) == turns
    assert turns_of(text) is None
