"""OpenAssistant message trees: first-turn prompts, their ranked replies, and why the rest is left.

One line a tree: a prompt with its replies, each with a `rank` (0 is the best) that people agreed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from selfimprove.data.replies import without_reasoning
from selfimprove.data.row import RowError, text, value

__all__ = ["LANGUAGE", "Reply", "Tree", "parse"]

LANGUAGE: Final = "en"
"""The paper's seeds are English."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to a tree's prompt, with its rank, 0 the best; None: nobody ranked it."""

    text: str
    rank: int | None


@dataclass(frozen=True, slots=True)
class Tree:
    """The first turn of a conversation: a prompt and its usable replies, the best first."""

    id: str
    prompt: str
    language: str
    replies: tuple[Reply, ...]
    unusable: int
    """Replies that were deleted, failed review, or say nothing outside of reasoning."""

    @property
    def ranked(self) -> tuple[str, ...]:
        """The texts of the ranked replies, best first, of equal ranks the first alone."""
        told: dict[int, str] = {}
        for reply in self.replies:
            if reply.rank is not None:
                told.setdefault(reply.rank, reply.text)
        return tuple(told[rank] for rank in sorted(told))


def parse(fields: Mapping[str, Any]) -> Tree:
    """Read one exported tree.

    Raises:
        RowError: it has no prompt, or no list of replies.
    """
    prompt = value(fields, "prompt")
    if not isinstance(prompt, Mapping):
        raise RowError("'prompt' is no message: is this an export of message trees?")
    replies = prompt.get("replies")
    if not isinstance(replies, Sequence) or isinstance(replies, str):
        raise RowError("the prompt has no list of 'replies'")
    found = sorted(_usable(replies), key=lambda r: (r.rank is None, r.rank))
    return Tree(
        id=str(fields.get("message_tree_id") or prompt.get("message_id") or ""),
        prompt=text(prompt, "text"),
        language=str(prompt.get("lang") or ""),
        replies=tuple(found),
        unusable=len(replies) - len(found),
    )


def _usable(replies: Sequence[object]) -> Iterator[Reply]:
    for reply in replies:
        if not isinstance(reply, Mapping) or reply.get("deleted"):
            continue
        said = without_reasoning(str(reply.get("text") or "")).strip()
        if said and reply.get("review_result") is not False:
            yield Reply(said, _rank(reply.get("rank")))


def _rank(told: object) -> int | None:
    return told if isinstance(told, int) and not isinstance(told, bool) else None
