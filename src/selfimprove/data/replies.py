"""Replies in data, to be imitated or compared: what their authors thought before them is left out."""

from __future__ import annotations

import logging
from functools import cache

from selfimprove.reasoning import parted

__all__ = ["ONLY_REASONING", "without_reasoning"]

ONLY_REASONING = "a reply is nothing but reasoning"
"""Why a row is left out."""

_log = logging.getLogger(__name__)


def without_reasoning(reply: str) -> str:
    """Return what a reply says outside of its reasoning; said once in the log. Empty: nothing.

    >>> without_reasoning("<think>Hm.</think>Because.")
    'Because.'
    """
    said = parted(reply)
    if not said.reasoning and said.finished:
        return said.response
    _say_once()
    return said.response.strip()


@cache
def _say_once() -> None:
    _log.warning("replies in the data hold reasoning between marks such as <think>: it is left out, as "
                 "it is where responses are judged")  # fmt: skip
