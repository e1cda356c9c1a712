"""A text told as it grows: whatever its pieces, together they are the response, and nothing is taken back."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfimprove.reasoning import cut
from selfimprove.sampling.own_words import own_words, spoken
from selfimprove.serve.asks import Piece
from selfimprove.serve.unfolding import Unfolding
from selfimprove.types import Begun, Draw

_BITS = ["word", " more", ".", "\n", "\n\n", "User:", "user", "assistant", "System:", " 3", "'", "`", "<", "|im_end|>",
         "<|im_end|>", "<|im_start|>", "[INST]", "[", "**", "## ", "Human", ": ", "STOP", "ST", "O", "<s>", "</s>",
         "<role>", "</role>", "Instruction", "9", ")", "é", "  "]  # fmt: skip
_STOPS = ("STOP", "\n\n\n")


def _told(bits: list[str], stop: tuple[str, ...], *, thinking: bool = False) -> tuple[str, Draw]:
    """Return what a stream says of a text that comes in these bits, and what its draw says in the end."""
    unfolding, pieces = Unfolding(0, stop), list[Piece | None]()
    for text in accumulate(bits):
        pieces.append(unfolding.more(Begun("a", 0, text, thinking=thinking)))
        if cut(text, stop, thinking=thinking) is not None:
            break  # the engine ends a draw there
    before = cut(text, stop, thinking=thinking)
    whole = Draw("a", 0, text if before is None else before, "stop", 0, 0, thinking=thinking)
    said = own_words(spoken(whole))
    pieces.append(unfolding.rest(said))
    return "".join(p.text for p in pieces if p), said


@given(st.lists(st.sampled_from(_BITS), min_size=1, max_size=12), st.sampled_from([(), _STOPS]))
@example(["Yes.", "\n", "Us", "er:", " and"], ())
@example(["Yes.", "us", "er", "\n", "\n"], ())
@example(["say ", "`", "<|im_end|>", "`", " now"], ())
@example(["a ST", "O", "P b"], ("STOP",))
def test_the_pieces_are_the_response(bits: list[str], stop: tuple[str, ...]) -> None:
    told, said = _told(bits, stop)
    assert told == said.text


def test_words_are_told_as_they_come_and_what_may_be_a_stop_string_later() -> None:
    unfolding = Unfolding(2, ("END",))
    said = ["Two owls", "Two owls E", "Two owls En", "Two owls Enjoy it"]
    pieces = [unfolding.more(Begun("a", 2, text)) for text in said]
    assert pieces == [Piece(2, "Two owls"), None, Piece(2, " En"), Piece(2, "joy it")]


def test_half_a_character_is_held_back() -> None:
    unfolding = Unfolding(0, ())
    said = ["4 caf\ufffd", "4 café"]
    assert [unfolding.more(Begun("a", 0, text)) for text in said] == [
        Piece(0, "4 caf"),
        Piece(0, "é"),
    ]


@pytest.mark.parametrize("opened", [True, False])
def test_reasoning_is_told_apart(opened: bool) -> None:
    unfolding = Unfolding(0, ())
    text = ("" if opened else "<think>") + "It is 4.</think>\n\nThe answer: 4 owls"
    pieces = [
        unfolding.more(Begun("a", 0, text[:n], thinking=opened)) for n in range(1, len(text) + 1)
    ]
    pieces.append(
        unfolding.rest(own_words(spoken(Draw("a", 0, text, "stop", 0, 0, thinking=opened))))
    )
    assert "".join(p.reasoning for p in pieces if p) == "It is 4."
    assert "".join(p.text for p in pieces if p) == "The answer: 4 owls"
