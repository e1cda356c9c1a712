"""A fast tokenizer as GGUF says it, so that llama.cpp cuts every text into the same tokens.

llama.cpp knows cuts by name. Which of them a tokenizer's is, its ids tell: on texts of many kinds they
must be those that it gives with that cut in the place of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfimprove.errors import EngineError
from selfimprove.models.gguf_splits import CUTS, IGNORE_MERGES, cut
from selfimprove.seeds import rng

__all__ = ["Told", "add_tokenizer", "told_of"]

_SPACE: Final = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTE_SCORE: Final = -1e6
_DRAWN: Final = 6_000
_TOGETHER: Final = 3
_CHECKED: Final = (
    "It's Tom's; we're sure they'll say 'there', 'me', 'real' and 'Do NOT'. I'd've gone.",
    "1 22 333 4444 3.14 -7 12,500 x1 y22z ²½ ①  8  9",
    "  two  spaces\n\n\n and\tblank \n lines \r\n end \n",
    "def f(x):\n    return {'a': x ** 2, \"b\": [1, 2]}  # done!?...\n\n\tpass\n",
    "Ärger über Straße, naïve café, 北京大学在哪里？ こんにちは。 Привет, мир! مرحبا، 안녕하세요 हिन्दी।",
    "e\N{COMBINING ACUTE ACCENT} \N{NO-BREAK SPACE}x\N{EM SPACE}y 🙂🙃 👩‍💻 |(a)|[b]/c\\d~`^_^ $5.00 #tag @me a/b//c /\n",
    "camelCaseWORDSAndMORE snake_case HTTPServer iPhone McDonald ALLCAPS",
    "Q: How many apples?\nA: She has 3 + 4 = 7. The answer is 7.",
)


@dataclass(frozen=True, slots=True)
class Told:
    """What of a tokenizer a GGUF file holds, but for its vocabulary."""

    kind: str
    """`gpt2`: bytes and merges; `llama`: SentencePiece's pairs by score."""
    pre: str
    """The name of its cut; `default` where the kind has none."""
    space_before: bool
    """Whether a text begins with a space of its own."""


def told_of(tokenizer: Any, folder: Path) -> Told:  # noqa: ANN401  a PreTrainedTokenizerFast
    """Find how llama.cpp would have to cut texts to give a tokenizer's ids.

    Raises:
        EngineError: it has no tokenizer.json with byte-pair encoding, or no cut that is known gives
            its ids.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str())["model"] if backend is not None else {}
    if model.get("type") != "BPE":
        raise EngineError(
            f"{folder}: its tokenizer is no byte-pair encoding of the `tokenizers` library, and cannot "
            "be written to a GGUF file: export with --format hf"
        )
    if model.get("byte_fallback"):
        return Told("llama", "default", _begins_with_space(backend))
    name = _name_of(backend)
    if name is None:
        raise EngineError(
            f"{folder}: its tokenizer cuts texts as none that llama.cpp has by name among "
            f"{', '.join(CUTS)}; a file would give other tokens there: export with --format hf"
        )
    return Told("gpt2", name, False)


def _begins_with_space(backend: Any) -> bool:  # noqa: ANN401
    tokens = backend.encode("a", add_special_tokens=False).tokens
    return bool(tokens) and tokens[0].startswith(_SPACE)


def _name_of(backend: Any) -> str | None:  # noqa: ANN401
    """Return the name of a cut that gives this tokenizer's ids, of several one that cuts as it does."""
    pieces = _pieces(backend.pre_tokenizer)
    alike = sorted(CUTS, key=lambda name: _pieces(cut(name)) != pieces)
    texts = [*_CHECKED, *_of_vocabulary(backend)]
    return next((name for name in alike if _gives_the_same(backend, name, texts)), None)


def _pieces(cutting: Any) -> list[list[str]] | None:  # noqa: ANN401
    if cutting is None:
        return None
    return [[piece for piece, _ in cutting.pre_tokenize_str(text)] for text in _CHECKED]


def _of_vocabulary(backend: Any) -> list[str]:  # noqa: ANN401
    """Return texts in which tokens of every kind stand beside each other, drawn by a fixed seed."""
    stream = rng(0, "gguf", "vocabulary")
    drawn = [stream.randrange(backend.get_vocab_size()) for _ in range(_DRAWN)]
    words = [backend.decode([number], skip_special_tokens=True) for number in drawn]
    whole = [word for word in words if "\N{REPLACEMENT CHARACTER}" not in word]
    return ["".join(whole[i : i + _TOGETHER]) for i in range(0, len(whole), _TOGETHER)]


def _gives_the_same(backend: Any, name: str, texts: list[str]) -> bool:  # noqa: ANN401
    """Whether a tokenizer with llama.cpp's cut of this name gives the ids that it gives as it is."""
    from tokenizers import Tokenizer

    other = Tokenizer.from_str(backend.to_str())
    other.pre_tokenizer = cut(name)
    other.model.ignore_merges = name in IGNORE_MERGES
    mine, theirs = (
        [told.ids for told in each.encode_batch(texts, add_special_tokens=False)]
        for each in (backend, other)
    )
    return mine == theirs


def add_tokenizer(writer: Any, tokenizer: Any, told: Told, rows: int) -> None:  # noqa: ANN401
    """Write vocabulary, merges or scores, special tokens and chat template.

    Args:
        writer: a GGUFWriter.
        tokenizer: a PreTrainedTokenizerFast.
        told: what `told_of` found of it.
        rows: of the embedding, which may have more of them than there are tokens.
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    tokens, kinds = _vocabulary(tokenizer, rows)
    writer.add_tokenizer_model(told.kind)
    writer.add_tokenizer_pre(told.pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if told.kind == "gpt2":
        writer.add_token_merges(merges)
    else:
        writer.add_token_scores(_scores(tokens, kinds, merges))
        writer.add_add_space_prefix(told.space_before)
    _add_special(writer, tokenizer)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _vocabulary(tokenizer: Any, rows: int) -> tuple[list[str], list[int]]:  # noqa: ANN401
    """Return token and kind of every row of the embedding; rows without a token are unused."""
    from gguf import TokenType

    tokens = [f"[PAD{i}]" for i in range(rows)]
    kinds = [int(TokenType.UNUSED)] * rows
    for token, number in tokenizer.get_vocab().items():
        if number < rows:
            tokens[number], kinds[number] = token, int(_kind(token, tokenizer))
    for number, added in tokenizer.added_tokens_decoder.items():
        if number < rows:
            kinds[number] = int(TokenType.CONTROL if added.special else TokenType.USER_DEFINED)
    return tokens, kinds


def _kind(token: str, tokenizer: Any) -> int:  # noqa: ANN401
    from gguf import TokenType

    if token == tokenizer.unk_token:
        return int(TokenType.UNKNOWN)
    is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return int(TokenType.BYTE if is_byte else TokenType.NORMAL)


def _scores(tokens: list[str], kinds: list[int], merges: list[str]) -> list[float]:
    """Return a score for each token: pairs are joined in the order of their merges."""
    from gguf import TokenType

    order: dict[str, int] = {}
    for place, merge in enumerate(merges):
        order.setdefault(merge.replace(" ", ""), place)
    last = len(merges)
    return [
        _BYTE_SCORE if kind == TokenType.BYTE else -float(order.get(token, last))
        for token, kind in zip(tokens, kinds, strict=True)
    ]


def _add_special(writer: Any, tokenizer: Any) -> None:  # noqa: ANN401
    """Write the special tokens' numbers, and which of them stand around every text."""
    ids = tokenizer("a").input_ids
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    for name in ("bos", "unk", "pad"):
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(bos is not None and ids[0] == bos)
    writer.add_add_eos_token(len(ids) > 1 and eos is not None and ids[-1] == eos)
