"""The tokenizer of the tiny models: byte-level BPE in which every digit is a token of its own."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from selfimprove.tiny.corpus import END, documents

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = ["CHAT_TEMPLATE", "build", "pieces", "wrapped"]

CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}"
    "<|assistant|>{% generation %}{{ message.content }}<|end|>{% endgeneration %}"
    "{%- else -%}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)

_SPECIAL: Final = ("<|pad|>", END, "<|user|>", "<|assistant|>", "<|system|>")
_VOCABULARY: Final = 1024
_DOCUMENTS: Final = 4000

# A space goes with what follows it, so that a prompt ending in 'A:' and the same prompt with its
# answer begin with the same tokens; a newline stands alone for the same reason.
_PIECES: Final = r" ?\d| ?\p{L}+| ?[^\s\d\p{L}]|\s"


def build(context: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the corpus; the same one every time."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pieces()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(_SPECIAL),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(documents(0, "tokenizer"), _DOCUMENTS), trainer)
    return wrapped(tokenizer, context)


def pieces() -> PreTokenizer:
    """Return what cuts a text into the pieces that become tokens, or are made of some."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def wrapped(tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """Give a tokenizer the marks and the chat template of the tiny models."""
    from tokenizers import decoders
    from transformers import PreTrainedTokenizerFast

    tokenizer.pre_tokenizer = pieces()
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_SPECIAL[0],
        eos_token=END,
        additional_special_tokens=list(_SPECIAL[2:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
