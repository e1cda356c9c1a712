"""GGUF files that we write, read back: the same numbers and the same tokens, family by family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from tests.families import TEMPLATES, TEXTS, random_model, tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from selfimprove.errors import EngineError, StoreError
from selfimprove.models import locate
from selfimprove.models.gguf_splits import CUTS, IGNORE_MERGES, cut
from selfimprove.publish.gguf_file import About, write_gguf
from selfimprove.publish.gguf_tokenizer import told_of
from selfimprove.tiny.shipped import folder as shipped

_ABOUT = About("test", "apache-2.0")
_MORE = (*TEXTS, "It's 'there', 'real' and 'mine'. x = 12\n\n 3  4", "She'll say: 1,234!\n\tyes")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "cache"))


def made(folder: Path, family: str, fast: Any, **sizes: Any) -> Path:
    model = random_model(family, vocab_size=512, **sizes)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(5, 45)[None]).logits
    return found


def back(file: Path) -> Path:
    return Path(locate(str(file)).path)


def cut_as(name: str) -> Any:
    """Return a byte-level tokenizer that was trained on pieces of this cut."""
    raw = Tokenizer(models.BPE(ignore_merges=name in IGNORE_MERGES))
    raw.pre_tokenizer = cut(name)
    raw.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters, show_progress=False,
                                  special_tokens=["<s>", "</s>"])  # fmt: skip
    raw.train_from_iterator(_MORE * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATES["chatml"]
    )


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_family_comes_back_with_the_same_logits(tmp_path: Path, family: str) -> None:
    folder = made(tmp_path / "model", family, cut_as("qwen2"))
    found = back(write_gguf(folder, tmp_path / "m.gguf", "auto", _ABOUT))
    assert torch.equal(logits(found), logits(folder))
    ours, theirs = (AutoTokenizer.from_pretrained(f) for f in (folder, found))
    assert theirs.chat_template == TEMPLATES["chatml"]
    for text in _MORE:
        assert theirs(text).input_ids == ours(text).input_ids


def test_the_shipped_model_comes_back_though_its_cut_is_its_own(tmp_path: Path) -> None:
    found = back(write_gguf(shipped(), tmp_path / "tiny.gguf", "auto", _ABOUT))
    assert torch.equal(logits(found), logits(shipped()))
    ours, theirs = (AutoTokenizer.from_pretrained(f) for f in (shipped(), found))
    for text in _MORE:
        assert theirs(text).input_ids == ours(text).input_ids
    assert (theirs.eos_token, theirs.pad_token) == (ours.eos_token, ours.pad_token)


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"])
def test_a_tokenizer_is_known_by_what_it_does(tmp_path: Path, name: str) -> None:
    assert told_of(cut_as(name), tmp_path).pre == name


def test_tokens_come_back_where_a_piece_that_is_a_token_is_not_merged(tmp_path: Path) -> None:
    fast = cut_as("llama-bpe")
    folder = made(tmp_path / "model", "llama", fast)
    found = AutoTokenizer.from_pretrained(
        back(write_gguf(folder, tmp_path / "m.gguf", "f16", _ABOUT))
    )
    assert found.backend_tokenizer.model.ignore_merges
    for text in _MORE:
        assert found(text).input_ids == fast(text).input_ids


def test_pairs_of_sentencepiece_come_back_with_their_order(tmp_path: Path) -> None:
    fast = tokenizer("sentencepiece", "mistral")
    assert told_of(fast, tmp_path).space_before
    folder = made(tmp_path / "model", "llama", fast)
    found = AutoTokenizer.from_pretrained(
        back(write_gguf(folder, tmp_path / "m.gguf", "f32", _ABOUT))
    )
    for text in ("the other", "There 12", "ä — 日"):
        assert found(text).input_ids == fast(text).input_ids


def test_eight_bits_are_near_and_smaller(tmp_path: Path) -> None:
    whole = write_gguf(shipped(), tmp_path / "bf16.gguf", "bf16", _ABOUT)
    small = write_gguf(shipped(), tmp_path / "q8_0.gguf", "q8_0", _ABOUT)
    assert small.stat().st_size < 0.6 * whole.stat().st_size
    far = (logits(back(small)) - logits(shipped())).abs().max()
    assert 0 < far < 0.5  # of logits that reach 20


def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path) -> None:
    other = made(tmp_path / "other", "llama, every bias, other rotations", tokenizer())
    with pytest.raises(
        EngineError, match=r"stretches its rotary positions \(linear\).*--format hf"
    ):
        write_gguf(other, tmp_path / "m.gguf", "auto", _ABOUT)
    unigram = made(tmp_path / "unigram", "llama", tokenizer("unigram"))
    with pytest.raises(EngineError, match=r"no byte-pair encoding.*--format hf"):
        write_gguf(unigram, tmp_path / "m.gguf", "auto", _ABOUT)
    assert not list(tmp_path.glob("m.gguf*"))


def test_a_cut_that_llama_cpp_does_not_have_is_refused(tmp_path: Path) -> None:
    raw = Tokenizer.from_str(tokenizer().backend_tokenizer.to_str())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # a space before every text
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")
    with pytest.raises(EngineError, match=r"cuts texts as none that llama\.cpp has"):
        told_of(fast, tmp_path)


def test_a_number_that_float16_cannot_hold_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = random_model("qwen2", vocab_size=512)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = 7e4
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    with pytest.raises(EngineError, match=r"layers\.1\.mlp\.up_proj.*--dtype bf16"):
        write_gguf(folder, tmp_path / "m.gguf", "f16", _ABOUT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("mine")
    with pytest.raises(StoreError, match=r"is there already"):
        write_gguf(shipped(), tmp_path / "m.gguf", "auto", _ABOUT)
    assert (tmp_path / "m.gguf").read_text() == "mine"


def test_a_window_bounds_the_context_in_which_nothing_is_hidden(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "mistral", tokenizer(), sliding_window=64)
    reader = GGUFReader(write_gguf(folder, tmp_path / "m.gguf", "auto", _ABOUT))
    found = reader.get_field("llama.context_length")
    assert found is not None
    assert found.contents() == 64


def test_cuts_that_are_alike_are_found_by_the_first_of_their_names() -> None:
    firsts = {pattern: name for name, pattern in reversed(CUTS.items())}
    assert set(firsts.values()) == {"gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "bloom"}
