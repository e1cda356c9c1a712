"""The parts of the torch engine: attention in two parts, prefixes, texts, digests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from selfimprove.reasoning import cut
from selfimprove.sampling import prompts
from selfimprove.sampling.attention import (
    KeysValues,
    aligned,
    attend,
    attend_by_products,
    merge,
)
from selfimprove.sampling.prompts import Encoded, cohorts
from selfimprove.sampling.texts import Texts
from selfimprove.weights import weights_digest


def test_attention_over_three_parts_is_attention_over_all_in_any_order() -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 3, 4, 8), *torch.randn(2, 2, 3, 10, 8)
    bias = torch.zeros(2, 1, 1, 10)
    bias[1, :, :, 8:] = -torch.inf
    whole = torch.nn.functional.scaled_dot_product_attention(query, keys, values, bias, scale=0.3)
    cuts = (slice(0, 4), slice(4, 6), slice(6, 10))
    parts = [
        attend(query, KeysValues(keys[:, :, c], values[:, :, c]), bias[..., c], 0.3) for c in cuts
    ]
    assert torch.allclose(merge(merge(parts[0], parts[1]), parts[2]).out, whole, atol=1e-6)
    assert torch.allclose(merge(parts[0], merge(parts[1], parts[2])).out, whole, atol=1e-6)


def test_attention_by_plain_products_is_that_of_the_cpu_kernel() -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(1, 2, 3, 8), *torch.randn(2, 1, 2, 5, 8)
    bias = torch.tensor([0.0, 0.0, -torch.inf, 0.0, -1.0]).expand(1, 1, 3, 5)
    part = KeysValues(keys, values)
    kernel, products = (f(query, part, bias, 0.5) for f in (attend, attend_by_products))
    assert torch.allclose(kernel.out, products.out, atol=1e-6)
    assert torch.allclose(kernel.lse, products.lse, atol=1e-6)


def test_rows_of_a_bias_begin_at_multiples_of_8() -> None:
    """A GPU's kernel refuses others: a prompt of 45 tokens has rows of 48, three of them not seen."""
    bias = torch.arange(90.0).view(2, 1, 1, 45)
    laid = aligned(bias)
    assert torch.equal(laid, bias)
    assert laid.stride()[:3] == (48, 48, 48)
    assert aligned(laid[..., :40]).shape[-1] == 40


def test_queries_that_autocast_left_in_float32_are_attended_with_in_the_dtype_of_values() -> None:
    torch.manual_seed(0)
    query, part = torch.randn(1, 2, 3, 8), KeysValues(*torch.randn(2, 1, 2, 5, 8).bfloat16())
    found = attend(query, part, None, 0.5)
    assert torch.equal(found.out, attend(query.bfloat16(), part, None, 0.5).out)
    assert found.out.dtype == torch.bfloat16


def _encoded(name: str, *ids: int) -> Encoded:
    return Encoded(name, ids)


def test_prompts_with_one_prefix_are_one_cohort_longest_first() -> None:
    prefix = tuple(range(20))
    found = cohorts([_encoded("a", *prefix, 90), _encoded("b", *prefix, 91, 92)])
    assert [([p.key for p in c.prompts], c.shared) for c in found] == [(["b", "a"], 20)]


def test_the_last_token_of_a_prompt_is_never_shared() -> None:
    """Its logits choose the first new token, so every row reads it."""
    (one,) = cohorts([_encoded("a", *range(30))])
    assert one.shared == 29
    (both,) = cohorts([_encoded("a", *range(30)), _encoded("b", *range(40))])
    assert both.shared == 29


@pytest.mark.parametrize("common", [0, 1, 2, 7, 8])
def test_what_two_prompts_have_in_common_is_found_wherever_it_ends(common: int) -> None:
    one, other = list(range(8)), [*range(common), *range(20, 32)]
    assert prompts._common(one, other) == prompts._common(other, one) == common


def test_a_short_prefix_is_not_shared() -> None:
    (only,) = cohorts([_encoded("a", 1, 2, 3, 4), _encoded("b", 1, 2, 5, 6)])
    assert only.shared == 0


def test_big_groups_with_a_prefix_of_their_own_are_cohorts_of_their_own() -> None:
    """100 prompts with one exemplar set, 100 with another, 3 with none."""
    first = [_encoded(f"a{i}", *range(100, 140), i) for i in range(100)]
    second = [_encoded(f"b{i}", *range(200, 260), i) for i in range(100)]
    lone = [_encoded(f"c{i}", i, i, i) for i in range(3)]
    found = cohorts([*first, *lone, *second])
    assert sorted((len(c.prompts), c.shared) for c in found) == [(3, 0), (100, 40), (100, 60)]


def test_text_is_cut_at_the_first_stop_string_of_any() -> None:
    assert cut("one. two; three", ("; ", ". ")) == "one"
    assert cut("one two", (". ",)) is None


@pytest.fixture
def spaced() -> PreTrainedTokenizerFast:
    """A tokenizer of the SentencePiece kind: decoding drops a space at the beginning."""
    words = ["<s>", "▁", "▁the", "▁cat", "sat", "▁a", "a"]
    letters = {c for w in words[1:] for c in w}
    vocabulary = {t: i for i, t in enumerate([*words, *sorted(letters - set(words))])}
    raw = Tokenizer(BPE(vocab=vocabulary, merges=[], fuse_unk=False))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")


def test_a_leading_space_is_kept(spaced: PreTrainedTokenizerFast) -> None:
    texts = Texts(spaced, len(spaced))
    assert spaced.decode([3, 4]) == "catsat"
    assert texts.continuations([([0, 2], [3, 4])]) == [" catsat"]
    assert texts.continuations([([0, 2], [4, 3])]) == ["sat cat"]


def test_many_texts_at_once_are_what_transformers_decodes_one_by_one(
    spaced: PreTrainedTokenizerFast,
) -> None:
    """With nothing before them, behind a special token, and behind words; some of them empty."""
    said = [([], [3, 4]), ([0], [3, 4]), ([0, 2], [3, 0, 4]), ([0, 2, 3, 4, 2, 3], [4]), ([2], [])]
    wanted = []
    for prompt, new in said:
        before, whole, alone = (
            spaced.decode(ids, skip_special_tokens=True)
            for ids in (prompt[-4:], [*prompt[-4:], *new], new)
        )
        wanted.append(whole[len(before) :] if before else alone)
    assert wanted == ["catsat", "catsat", " catsat", "sat", ""]
    assert Texts(spaced, len(spaced)).continuations(said) == wanted


def test_only_tokens_that_can_end_a_stop_string_are_looked_at(
    spaced: PreTrainedTokenizerFast,
) -> None:
    found = Texts(spaced, len(spaced) + 2).ends_stop(("the", "sat "), torch.device("cpu"))
    assert found is not None
    ends = [spaced.convert_ids_to_tokens(i) for i in found.nonzero().squeeze(1).tolist()]
    assert {"▁", "▁the", "▁cat", "▁a", "e"} >= set(ends) >= {"▁", "▁the", "e"}
    assert "sat" not in ends


def test_the_digest_follows_the_weights_not_the_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "README.md").write_text(name)
    before = weights_digest(tmp_path / "one")
    assert before == weights_digest(tmp_path / "two")
    changed = tmp_path / "two" / "model.safetensors"
    changed.write_bytes(b"weightz")
    os.utime(changed, ns=(1, 1))
    assert weights_digest(tmp_path / "two") != before
    with pytest.raises(FileNotFoundError, match="safetensors"):
        changed.unlink()
        weights_digest(tmp_path / "two")
