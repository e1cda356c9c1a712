"""A text that grows token by token is at every token what decoding all of it anew would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from selfimprove.sampling.texts import GrowingText, Texts
from selfimprove.seeds import rng
from selfimprove.tiny.shipped import folder

_TEXT = "Zoë says: 東京は晴れ 👩‍👩‍👧 naïve — \u2028 two  spaces\n\n\tand <think>a mark</think> at the end. "


def _bytes_of_words() -> Any:
    """Byte-level BPE of few words: nearly every character of the text is several tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<think>", "</think>"], show_progress=False,
    )  # fmt: skip
    made.train_from_iterator([_TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made)


def _bytes_where_unknown() -> Any:
    """Words with a mark for their space, and bytes for what is not among them, as Llama 2 has it."""
    words = ["<unk>", *(f"<0x{n:02X}>" for n in range(256)), "▁says", "▁two", "▁", "says", "a", "t"]
    made = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], unk_token="<unk>",
                                byte_fallback=True))  # fmt: skip
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def _shipped() -> Any:
    return AutoTokenizer.from_pretrained(folder())


class _Counted(Texts):  # type: ignore[misc]
    """Notes how many tokens are decoded."""

    decoded = 0

    def _decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        self.decoded += sum(len(row) for row in rows)
        return super()._decode(rows)


def _told(texts: Texts, prompt: Sequence[int], new: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the text as it grows, and what decoding all of it anew gives."""
    growing = GrowingText(texts, prompt)
    for end, token in enumerate(new, start=1):
        growing.add(token)
        if end % 3:  # who lags behind reads several at once
            yield growing.text(), texts.continuations([(prompt, new[:end])])[0]


@pytest.mark.parametrize("made", [_bytes_of_words, _shipped])
def test_it_is_what_decoding_all_of_it_gives(made: Any) -> None:
    tokenizer = made()
    texts = Texts(tokenizer, len(tokenizer))
    written = tokenizer(_TEXT, add_special_tokens=False)["input_ids"]
    noise = rng(0, "growing text")
    # Any tokens at all: halves of characters that never become whole ones among them.
    drawn = [noise.randrange(len(tokenizer)) for _ in range(300)]
    prompts: list[list[int]] = [[], written[:7]]
    for prompt in prompts:
        for new in (written, drawn):
            assert all(found == wanted for found, wanted in _told(texts, prompt, new))


def test_half_a_character_in_bytes_spoils_nothing_before_it() -> None:
    """A byte that is no character yet makes such tokenizers take the bytes before it for none, either."""
    tokenizer = _bytes_where_unknown()
    texts = Texts(tokenizer, len(tokenizer))
    written = tokenizer(_TEXT, add_special_tokens=False)["input_ids"]
    found = list(_told(texts, written[:7], written))
    whole = [(one, other) for one, other in found if "\ufffd" not in other]
    assert len(whole) > len(found) / 4 and all(one == other for one, other in whole)
    for one, _ in found:
        assert _TEXT.startswith(one.rstrip("\ufffd"))


def test_each_token_is_decoded_a_few_times_however_long_the_text_is() -> None:
    tokenizer = _bytes_of_words()
    texts = _Counted(tokenizer, len(tokenizer))
    written = tokenizer(_TEXT * 20, add_special_tokens=False)["input_ids"]
    growing = GrowingText(texts, ())
    for token in written:
        growing.add(token)
        growing.text()
    assert growing.text() == _TEXT * 20
    # Itself, and up to four before it, twice: once alone and once with what follows.
    assert len(written) < texts.decoded < 15 * len(written)
