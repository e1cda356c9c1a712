"""The tokenizer of this world: each of its words is a token, whatever else is written is bytes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from selfimprove.tiny.keeps.corpus import documents
from selfimprove.tiny.tokenizer import pieces, wrapped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["build"]

_DOCUMENTS: Final = 6000


def build(context: int) -> PreTrainedTokenizerFast:
    """Take every piece of the corpus for a token; the same ones every time."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    cut = pieces()
    bytes_alone = sorted(pre_tokenizers.ByteLevel.alphabet())
    read = (text for told in islice(documents(0, "tokenizer"), _DOCUMENTS) for text in told)
    words = {piece for text in read for piece, _ in cut.pre_tokenize_str(text)}
    vocabulary = [*bytes_alone, *sorted(words - set(bytes_alone))]
    model = models.BPE(dict(zip(vocabulary, range(len(vocabulary)), strict=True)), [],
                       ignore_merges=True)  # fmt: skip
    return wrapped(Tokenizer(model), context)
