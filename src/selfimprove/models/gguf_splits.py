"""How llama.cpp cuts a text into pieces before byte-pair encoding, by the names that GGUF files give it.

A file names its cut in `tokenizer.ggml.pre`; the pattern itself stands in llama.cpp's source
(src/llama-vocab.cpp), and in the tokenizer.json of the model family that it was written for.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CUTS", "IGNORE_MERGES", "cut"]

_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BLOOM: Final = r" ?[^(\s|.,!?…。，、।۔،)]+"
_DIGITS: Final = "digits"
"""Stands for: every digit by itself first, then as GPT-2 cuts."""

CUTS: Final[dict[str, str | None]] = {
    "gpt-2": None,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "command-r": _DIGITS,
    "codeshell": _DIGITS,
    "exaone": _DIGITS,
    "llama-bpe": _LLAMA3,
    "qwen2": _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),
    "tekken": _TEKKEN,
    "bloom": _BLOOM,
}
"""From a cut's name to its pattern; None: that of GPT-2, which `tokenizers` has built in. Of cuts that
are alike the first is the one that files are written with."""

IGNORE_MERGES: Final = ("llama-bpe", "tekken")
"""Where a piece that is a token is that token, whatever its merges say."""


def cut(name: str) -> Any:  # noqa: ANN401  a tokenizers pre-tokenizer
    """Return the pre-tokenizer of a name in `CUTS`."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    pattern = CUTS[name]
    if pattern is None:
        return ByteLevel(add_prefix_space=False, use_regex=True)
    if pattern == _DIGITS:
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    as_bytes = ByteLevel(add_prefix_space=False, use_regex=False)
    return Sequence([Split(Regex(pattern), behavior="isolated"), as_bytes])
