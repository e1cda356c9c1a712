r"""Reasoning in a text, told from the response: it stands between the marks of its model's family.

`<think>…</think>`, `[THINK]…[/THINK]`, `<|begin_of_thought|>…`, the channels of gpt-oss, and others;
tags in capitals or with a space in them, too. A closing mark without an opening one closes what the
prompt had opened. A block that is never closed leaves no response. A mark in quotes or backticks, or
among the words of a sentence, is spoken of, not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

__all__ = ["GENERATION_PROMPT", "Parted", "closing_of", "cut", "holds_mark", "is_reasoning_mark",
           "opens_reasoning", "parted"]  # fmt: skip

GENERATION_PROMPT: Final = 16
"""Tokens at the end of a prompt among which a reasoning block that it opens stands."""

_TAGS: Final = ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think",
                "longcat_think", "ds_think")  # fmt: skip
# Tags that texts of other kinds have, too: reasoning stands between them where both are there.
_EVERYDAY: Final = ("scratchpad", "analysis", "reflection")
# What else a channel of gpt-oss says of its text: to whom it goes, and in which form.
_FORM: Final = r"[^<\n]*(?:<\|constrain\|>[^<\n]*)?"
# Opening and closing mark of a family; the open ones of tags may be words of a sentence, too.
_PAIRS: Final = (
    *((rf"(?i:<{tag}[ \t]*>)", rf"(?i:</{tag}[ \t]*>)") for tag in (*_EVERYDAY, *_TAGS)),
    (r"(?i:<\|think\|>)", r"(?i:<\|/think\|>)"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    ("◁think▷", "◁/think▷"),
    (r"<unused94>(?:thought\b)?", "<unused95>"),
    (r"<\|channel>(?:thought\b)?", r"<channel\|>"),
    # gpt-oss; with its special tokens left out, the names of the channels stand bare.
    (
        rf"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary){_FORM}<\|message\|>"
        r"|\Aanalysis(?=[A-Z])",
        rf"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final{_FORM}<\|message\|>"
        r"|assistantfinal",
    ),
)
# The closing mark of each opening one that a template may write at the end of a prompt; of a tag, it
# is the same with a slash.
_CLOSING: Final = {
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
}
_TAG: Final = re.compile(rf"(?i)(<\|?)((?:{'|'.join(_TAGS)})\|?)[ \t]*>")
_ANY: Final = "|".join(f"{opening}|{closing}" for opening, closing in _PAIRS)
_QUOTED: Final = rf"(?P<quoted>`(?:{_ANY})`|'(?:{_ANY})'|\"(?:{_ANY})\")"
_KINDS: Final = "|".join(f"(?P<open{n}>{a})|(?P<close{n}>{b})" for n, (a, b) in enumerate(_PAIRS))
# The first character tells most places apart at once.
_MARK: Final = re.compile(rf"(?=[<\[◁`'\"]|assistantfinal|analysis[A-Z])(?:{_QUOTED}|{_KINDS})")
# Most texts hold none of this: a quick look saves a slow one.
_HINT: Final = re.compile(r"[<\[◁]|assistantfinal|\Aanalysis[A-Z]")
_OPENED: Final = re.compile(rf"(?:{'|'.join(opening for opening, _ in _PAIRS)})\s*\Z")
_CHANNEL: Final = frozenset({"<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"})
_WORD_BEFORE: Final = re.compile(r"\w[ \t]{1,4}\Z")
_GOES_ON: Final = re.compile(r"[ \t]+[a-z]|[.,;:!?)]")
# What some families put around the response itself.
_AROUND: Final = re.compile(r"<\|(?:(?:begin|end)_of_solution|(?:START|END)_(?:RESPONSE|TEXT))\|>")


class Parted(NamedTuple):
    """A text, taken apart."""

    response: str
    """What stands outside of reasoning; empty where a block was never closed."""
    reasoning: str
    """What stands inside, without its marks; blocks with an empty line between them."""
    finished: bool
    """Every block was closed."""


def parted(text: str, *, thinking: bool = False) -> Parted:
    """Part a text from its reasoning; without any it stays as it is, to the space.

    Args:
        text: what a model wrote.
        thinking: the prompt had opened a block, so that the text begins inside it.

    >>> parted("<think>Score: 2</think> Score: 4").response
    'Score: 4'
    """
    spans, finished = _spans(text, thinking=thinking)
    if not finished:
        return Parted("", _unmarked(text), False)
    if not spans:
        return Parted(_AROUND.sub("", text), "", True)
    thoughts = (_unmarked(text[first:behind]) for first, behind in spans)
    borders = [0, *(place for span in spans for place in span), len(text)]
    outside = "".join(text[a:b] for a, b in zip(borders[::2], borders[1::2], strict=True))
    return Parted(_AROUND.sub("", outside).lstrip(), "\n\n".join(t for t in thoughts if t), True)


def _unmarked(text: str) -> str:
    return _MARK.sub(lambda found: found["quoted"] or "", text).strip()


def _spans(text: str, *, thinking: bool) -> tuple[list[tuple[int, int]], bool]:
    """Return where reasoning stands, its marks included, and whether the last block was closed."""
    spans: list[tuple[int, int]] = []
    if not thinking and not _HINT.search(text):
        return spans, True
    opened: re.Match[str] | None = None
    inside = thinking
    for found in _used(text):
        opens, kind = _role(found)
        if opens and not inside:
            opened, inside = found, True
        elif not opens and not inside:
            spans = spans if _amid_words(found) else [(0, found.end())]
        elif not opens and (opened is None or kind == _role(opened)[1]):
            if opened is None or not (_amid_words(opened) and _amid_words(found)):
                spans.append((opened.start() if opened else 0, found.end()))
            opened, inside = None, False
    start = opened.start() if opened else 0
    if not inside or (opened and _in_a_sentence(opened, spans)):
        return spans, True
    return [*spans, (start, len(text))], False


def _used(text: str) -> Iterator[re.Match[str]]:
    """Yield the marks of a text; of everyday tags those alone that have the other one, too."""
    marks = [found for found in _MARK.finditer(text) if not found["quoted"]]
    last = {_role(found): n for n, found in enumerate(marks)}
    open_now: set[int] = set()
    for n, found in enumerate(marks):
        opens, kind = _role(found)
        if kind >= len(_EVERYDAY) or kind in open_now or (opens and last.get((False, kind), 0) > n):
            (open_now.add if opens else open_now.discard)(kind)
            yield found


def _role(found: re.Match[str]) -> tuple[bool, int]:
    """Return whether a mark opens, and the place of its family in `_PAIRS`."""
    name = str(found.lastgroup)
    return name.startswith("open"), int(name.removeprefix("open").removeprefix("close"))


def _is_tag(found: re.Match[str]) -> bool:
    return _role(found)[1] < len(_EVERYDAY) + len(_TAGS)


def _amid_words(found: re.Match[str]) -> bool:
    """Tell whether a sentence that began before a tag goes on behind it: it speaks of the tag."""
    before = _WORD_BEFORE.search(found.string, max(found.start() - 8, 0), found.start())
    return bool(before and _is_tag(found) and _GOES_ON.match(found.string, found.end()))


def _in_a_sentence(opened: re.Match[str], spans: list[tuple[int, int]]) -> bool:
    """Tell whether a tag that is never closed stands behind words of its line: it is one of them."""
    behind = spans[-1][1] if spans else 0
    line = opened.string[behind : opened.start()].rpartition("\n")[2]
    return _is_tag(opened) and bool(line.strip())


def opens_reasoning(prompt: str) -> bool:
    r"""Tell whether a prompt ends inside a block, as the templates of some models do.

    >>> opens_reasoning("<|im_start|>assistant\n<think>\n")
    True
    """
    return _OPENED.search(prompt) is not None


def closing_of(prompt: str) -> str | None:
    """Return the mark that closes the block a prompt ends inside; None: it opens none, or has none."""
    found = _OPENED.search(prompt)
    if found is None:
        return None
    mark = found[0].rstrip()
    tag = _TAG.fullmatch(mark)
    return f"{tag[1]}/{tag[2]}>" if tag else _CLOSING.get(mark)


def holds_mark(template: str) -> bool:
    """Tell whether a chat template writes marks of reasoning."""
    return _MARK.search(template) is not None


def cut(text: str, stop: Sequence[str], *, thinking: bool = False) -> str | None:
    """Return the text before the first stop string in it, or None when it holds none.

    One that stands in the reasoning ends nothing; `thinking` is as for `parted`.
    """
    if not any(s in text for s in stop):
        return None
    searched = text
    for first, behind in _spans(text, thinking=thinking)[0]:
        searched = searched[:first] + "\0" * (behind - first) + searched[behind:]
    places = [at for s in stop if (at := searched.find(s)) >= 0]
    return text[: min(places)] if places else None


def is_reasoning_mark(token: str) -> bool:
    """Tell whether a special token says where reasoning begins or ends, or is part of such a mark."""
    return token in _CHANNEL or any(p.fullmatch(token) for p in (_MARK, _AROUND))
