r"""What can be told of a text that is still being drawn: what its end will not take back.

A response ends before a stop string, a mark of a chat template or a heading of the next turn, and whatever
may be the beginning of one is held back until it is seen to be none. So is half a character. Reasoning is told
apart where it opens the text. In other places marks of it are rare; from such a mark on nothing is told before the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, final

from selfimprove.reasoning import cut, holds_mark, parted
from selfimprove.sampling.own_words import own_words, spoken
from selfimprove.serve.asks import Piece
from selfimprove.types import Begun, Draw

__all__ = ["Unfolding"]

# The beginnings of what `own_words` and `reasoning` end or part a text by, at the end of what is there.
_MAY_BE_AN_END: Final = re.compile(
    r"""(?:
    \s+                                                          # what an end takes with it
    |\A\s*[A-Za-z]{1,14}                                         # a channel's bare name
    |\n[ \t]*(?:\#{1,6}|[*_]{1,2}|\[)?[ \t]*[A-Za-z]{0,11}[*_\]]{0,2}[ \t]*:?\s*      # a heading of one word
    |(?<=[.!?)\]*"\d])[a-z]{1,9}\n*                              # a turn's name without its marks
    |[`'"]?[<◁][^<>\s]{0,40}|[`'"]?\[[|/A-Za-z]{0,16}|[`'"]      # a mark
    |<role>[A-Z]*(?:</?[a-z]*)?|<s>\s*(?:\[[A-Z]{0,4})?
    |assistant(?:f(?:i(?:n(?:a(?:l)?)?)?)?)?
    )\Z""",
    re.VERBOSE,
)
_LONGEST_END: Final = 80
_BROKEN: Final = "\ufffd"


@final
class Unfolding:
    """One choice, as it grows."""

    def __init__(self, index: int, stop: Sequence[str]) -> None:
        """Begin with nothing.

        Args:
            index: of the choice.
            stop: strings that end it.
        """
        self._index, self._stop = index, stop
        self._text = self._reasoning = ""

    def more(self, begun: Begun) -> Piece | None:
        """Return what can be told by now and was not; None: nothing."""
        certain = self._certain(begun.text, thinking=begun.thinking)
        if begun.reasoning:  # a server has parted it
            return self._told(_own(begun, certain).text, begun.reasoning.rstrip())
        leads = begun.thinking or holds_mark(certain.lstrip()[:40])
        if holds_mark(certain) and not leads:
            return None
        said = parted(certain, thinking=begun.thinking)
        if not said.finished:
            return self._told(self._text, said.reasoning)
        own = _own(begun, certain)
        return self._told(own.text, own.reasoning)

    def rest(self, draw: Draw) -> Piece | None:
        """Return what was held back of a draw in its own words; None: nothing."""
        return self._told(draw.text, draw.reasoning)

    def _certain(self, text: str, *, thinking: bool) -> str:
        """Return a text up to where its end may begin."""
        text = text.rstrip(_BROKEN)
        before = cut(text, self._stop, thinking=thinking)
        if before is not None:
            return before
        text = text[: len(text) - max((_overlap(text, s) for s in self._stop), default=0)]
        held = _MAY_BE_AN_END.search(text, max(0, len(text) - _LONGEST_END))
        return text if held is None else text[: held.start()]

    def _told(self, text: str, reasoning: str) -> Piece | None:
        new = _behind(self._text, text), _behind(self._reasoning, reasoning)
        if not any(new):
            return None
        self._text, self._reasoning = self._text + new[0], self._reasoning + new[1]
        return Piece(self._index, *new)


def _own(begun: Begun, certain: str) -> Draw:
    """Return what is certain in its own words; what space is at its end may end with it."""
    # An end that is there is seen only by what stands behind it, certain or not.
    own, whole = (
        own_words(spoken(Draw(begun.key, begun.index, t, "length", 0, 0, thinking=begun.thinking)))
        for t in (certain, begun.text)
    )
    shorter, longer = sorted((own.text, whole.text), key=len)
    return replace(own, text=shorter.rstrip() if longer.startswith(shorter) else "")


def _behind(told: str, text: str) -> str:
    """Return what a text has behind what was told of it."""
    return text[len(told) :] if text.startswith(told) else ""


def _overlap(text: str, stop: str) -> int:
    r"""Return how many characters at the end of a text may begin a stop string.

    >>> _overlap("one two\n", "\n\n")
    1
    """
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
