r"""What of a text is its author's response: reasoning goes first, and the text ends with its turn.

- Reasoning stands between the marks of its model's family: `<think>…</think>`, `[THINK]…[/THINK]`,
  `<|begin_of_thought|>…`, the channels of gpt-oss, and others. A closing mark without an opening one
  closes what the prompt had opened. A block that is never closed leaves no response.
- A turn ends at the first mark of a chat template, such as `<|im_end|>` or `<|im_start|>user`, and at
  a heading in words on a line of its own, such as `User:` or `### Instruction:`.

A mark in quotes or backticks is spoken of, not used. Headings behind a colon, or at the very
beginning, belong to a dialogue that the text itself tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from selfimprove.types import Draw, FinishReason

__all__ = ["GENERATION_PROMPT", "Parted", "closing_of", "cut", "holds_mark", "is_mark", "opens_reasoning", "own_words", "parted",
           "response", "spoken"]  # fmt: skip

GENERATION_PROMPT: Final = 16
"""Tokens at the end of a prompt among which a reasoning block that it opens stands."""

_TAGS: Final = ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think",
                "longcat_think")  # fmt: skip
# Opening and closing mark of a family; the open ones of tags may be words of a sentence, too.
_PAIRS: Final = (
    *((rf"<{tag}>", rf"</{tag}>") for tag in _TAGS),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    ("◁think▷", "◁/think▷"),
    (r"<unused94>(?:thought\b)?", "<unused95>"),
    (r"<\|channel>(?:thought\b)?", r"<channel\|>"),
    # gpt-oss; with its special tokens left out, the names of the channels stand bare.
    (
        r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)[^<\n]*<\|message\|>"
        r"|\Aanalysis(?=[A-Z])",
        r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final[^<\n]*<\|message\|>"
        r"|assistantfinal",
    ),
)
# The closing mark of each opening one that a template may write at the end of a prompt.
_CLOSING: Final = {
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    **{f"<{tag}>": f"</{tag}>" for tag in _TAGS},
}
_ANY: Final = "|".join(f"{opening}|{closing}" for opening, closing in _PAIRS)
_QUOTED: Final = rf"(?P<quoted>`(?:{_ANY})`|'(?:{_ANY})'|\"(?:{_ANY})\")"
_KINDS: Final = "|".join(f"(?P<open{n}>{a})|(?P<close{n}>{b})" for n, (a, b) in enumerate(_PAIRS))
# The first character tells most places apart at once.
_MARK: Final = re.compile(rf"(?=[<\[◁`'\"]|assistantfinal|analysis[A-Z])(?:{_QUOTED}|{_KINDS})")
# Most texts hold none of this: a quick look saves a slow one.
_HINT: Final = re.compile(r"[<\[◁]|assistantfinal|\Aanalysis[A-Z]")
_OPENED: Final = re.compile(rf"(?:{'|'.join(opening for opening, _ in _PAIRS)})\s*\Z")
# What some families put around the response itself.
_AROUND: Final = re.compile(r"<\|(?:(?:begin|end)_of_solution|(?:START|END)_(?:RESPONSE|TEXT))\|>")
_PARTS: Final = frozenset({"<|start|>", "<|channel|>", "<|message|>"})

_TEMPLATE: Final = re.compile(
    r"""(?=[<\[`'"])(?:
    (?P<quoted>[`'"]<[|｜/]?[^<>\s]{1,30}>[`'"])
    |<\|(?:im_(?:start|end|sep)|start_header_id|e[ou]t_id|eom_id|eot|endoftext|(?:begin|end)_of_text
        |end|end_of_turn|endofturn|user|assistant|system|observation|start|return|call|start_of_role
        |end_of_role|(?:START|END)_OF_TURN_TOKEN)\|>
    |<\|turn>|<turn\|>|<(?:start|end)_of_turn>|<eos>
    |<[｜](?:User|Assistant|(?:begin|end)▁of▁sentence)[｜]>
    |\[/?INST\]|\[\|(?:user|assistant|system|endofturn)\|\]|<extra_id_1>|</s>)""",
    re.VERBOSE,
)  # fmt: skip
_OWN_HEADER: Final = re.compile(
    r"""\s*(?:<\|im_start\|>assistant|<\|start_header_id\|>assistant<\|end_header_id\|>
    |<\|assistant\|>|<start_of_turn>model|<\|turn>model|<[｜]Assistant[｜]>|\[/INST\]
    |<\|start\|>assistant(?:<\|message\|>)?|\[\|assistant\|\])\s*""",
    re.VERBOSE,
)
_SIDES: Final = "User|USER|Human|HUMAN|Assistant|ASSISTANT"
_HEADING: Final = re.compile(
    rf"""\n[ \t]*(?:\#{{1,6}}[ \t]*|\*\*|__)?(?:{_SIDES}|Instruction)(?:\*\*|__)?[ \t]*:
    |\n[ \t]*\#{{2,6}}[ \t]*(?:{_SIDES}|Instruction|INSTRUCTION)[ \t]*(?::|(?=\n|\Z))
    |\n[ \t]*(?:user|assistant)[ \t]*(?=\n)             # ChatML without its special tokens
    |(?<=[.!?)\]*"\d])(?:user|assistant)(?=\n\n)         # Llama 3 without its special tokens""",
    re.VERBOSE,
)
_DIALOGUE: Final = re.compile(r"\s*(?:\#{1,6}[ \t]*|\*\*|__)?(?:User|USER|Human|HUMAN)\b[*_ \t]*:")


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
    start, kind = (0, "") if thinking else (None, "")  # type: int | None, str
    for found in _MARK.finditer(text):
        name = found.lastgroup or "quoted"
        if name.startswith("open") and start is None:
            start, kind = found.start(), name.removeprefix("open")
        elif name.startswith("close") and start is None:
            spans = [(0, found.end())]
        elif name.startswith("close") and kind in ("", name.removeprefix("close")):
            spans.append((start or 0, found.end()))
            start = None
    if start is None or _in_a_sentence(text, start, kind, spans):
        return spans, True
    return [*spans, (start, len(text))], False


def _in_a_sentence(text: str, start: int, kind: str, spans: list[tuple[int, int]]) -> bool:
    """Tell whether a tag that is never closed stands behind words of its line: it is one of them."""
    behind = spans[-1][1] if spans else 0
    line = text[behind:start].rpartition("\n")[2]
    return bool(kind) and int(kind) < len(_TAGS) and bool(line.strip())


def opens_reasoning(prompt: str) -> bool:
    r"""Tell whether a prompt ends inside a block, as the templates of some models do.

    >>> opens_reasoning("<|im_start|>assistant\n<think>\n")
    True
    """
    return _OPENED.search(prompt) is not None


def closing_of(prompt: str) -> str | None:
    """Return the mark that closes the block a prompt ends inside; None: it opens none, or has none."""
    found = _OPENED.search(prompt)
    return _CLOSING.get(found[0].rstrip()) if found else None


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


def is_mark(token: str) -> bool:
    """Tell whether a special token says where reasoning or a turn begins or ends."""
    return token in _PARTS or any(p.fullmatch(token) for p in (_MARK, _AROUND, _TEMPLATE))


def spoken(draw: Draw) -> Draw:
    """Return a draw without reasoning, up to the first mark of a chat template behind it.

    Without a response, since a block was never closed, it is unfinished whatever ended it.
    """
    if draw.finish == "error":
        return draw
    said = parted(draw.text, thinking=draw.thinking)
    text = _up_to_mark(said.response)
    reasoning = draw.reasoning or said.reasoning
    finish: FinishReason = draw.finish
    if not said.finished or (reasoning and not text.strip()):
        finish = "length"
    elif len(text) < len(_without_header(said.response)):
        finish = "stop"
    return replace(draw, text=text, reasoning=reasoning, finish=finish, thinking=False)


def own_words(draw: Draw) -> Draw:
    """Return a spoken draw up to the end of its author's turn; what ends there is finished."""
    text = _own_turn(draw.text)
    ran_on = len(text.rstrip()) < len(draw.text.rstrip())
    return replace(draw, text=text, finish="stop" if ran_on else draw.finish)


def response(text: str) -> str:
    r"""Return the response in a text of any origin: no reasoning, and nothing behind its turn.

    >>> response("<think>Hm.</think>Score: 4\n\nUser: And this?\nScore: 1")
    'Score: 4'
    """
    return _own_turn(_up_to_mark(parted(text).response))


def _without_header(text: str) -> str:
    header = _OWN_HEADER.match(text)
    return text[header.end() :] if header else text


def _up_to_mark(text: str) -> str:
    text = _without_header(text)
    for found in _TEMPLATE.finditer(text):
        struck_out = found[0] == "</s>" and "<s>" in text[: found.start()]
        if not found["quoted"] and not struck_out:
            return text[: found.start()].rstrip()
    return text


def _own_turn(text: str) -> str:
    found = _HEADING.search(text)
    before = text[: found.start()].rstrip() if found else ""
    told = not before or before.rstrip("*_").endswith(":") or _DIALOGUE.match(text)
    return text if told else before
