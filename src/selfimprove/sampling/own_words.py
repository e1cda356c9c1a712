r"""What of a text is its author's response: reasoning goes first, and the text ends with its turn.

- Reasoning stands between the marks of its model's family (`selfimprove.reasoning`).
- A turn ends at the first mark of a chat template, such as `<|im_end|>` or `<|im_start|>user`, and at
  a heading in words on a line of its own, such as `User:` or `### Instruction:`.

A mark in quotes or backticks is spoken of, not used. Headings behind a colon, or at the very
beginning, belong to a dialogue that the text itself tells.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from selfimprove.reasoning import is_reasoning_mark, parted
from selfimprove.types import Draw, FinishReason

__all__ = ["is_mark", "own_words", "response", "spoken"]

_TEMPLATE: Final = re.compile(
    r"""(?=[<\[`'"])(?:
    (?P<quoted>[`'"]<[|｜/]?[^<>\s]{1,30}>[`'"])
    |<\|(?:im_(?:start|end|sep|user|assistant|system|middle)|start_header_id|e[ou]t_id|eom_id|eot
        |endoftext|(?:begin|end)_of_text|end|end_of_turn|endofturn|endofprompt|eos|user|prompter
        |assistant|system|observation|start|return|call|start_of_role
        |tool_(?:calls?|response)|end_of_role|(?:START|END)_OF_TURN_TOKEN)\|>
    |<\|turn>|<turn\|>|<(?:start|end)_of_turn>|<eos>|(?!\A)<bos>
    |<s>(?=\s*\[INST\])|<role>(?:HUMAN|USER|ASSISTANT|SYSTEM)</role>
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
    |\n[ \t]*\[(?:{_SIDES})\][ \t]*(?=\n)|\n[ \t]*System:[ \t]*(?=\n)
    |\n[ \t]*(?:user|assistant)[ \t]*(?=\n)             # ChatML without its special tokens
    |(?<=[.!?)\]*"\d])(?:user|assistant)(?=\n\n)         # Llama 3 without its special tokens""",
    re.VERBOSE,
)
_DIALOGUE: Final = re.compile(r"\s*(?:\#{1,6}[ \t]*|\*\*|__)?(?:User|USER|Human|HUMAN)\b[*_ \t]*:")


def is_mark(token: str) -> bool:
    """Tell whether a special token says where reasoning or a turn begins or ends."""
    return is_reasoning_mark(token) or _TEMPLATE.fullmatch(token) is not None


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
