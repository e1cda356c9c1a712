"""The tokenizer of the tiny models, how they are pretrained, and the folders that ship."""

import json
import re
from itertools import islice
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfimprove.errors import ConfigError, TrainingError
from selfimprove.tiny import pretrain, shipped
from selfimprove.tiny.corpus import Document, documents, turns
from selfimprove.tiny.keeps import tokenizer as keeps
from selfimprove.tiny.measure import few_shot
from selfimprove.tiny.problems import labelled
from selfimprove.tiny.tokenizer import build


@pytest.fixture(scope="module")
def tokenizer():
    return build(512)


@pytest.fixture
def quick(monkeypatch):
    """A training run of a few seconds: 2 short rows, a checkpoint at each step, no measurement."""
    monkeypatch.setattr(pretrain, "CHECKPOINT_STEPS", 1)
    monkeypatch.setattr(pretrain, "SIZES", {"tiny": pretrain.Shape(16, 1, 1, 16, steps=4, rows=2)})
    monkeypatch.setattr(pretrain, "write_card", lambda folder, made: None)
    monkeypatch.setattr("shutil.which", lambda name: None)


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in ("Ada has 1234 pens.\nA: 12 - 7 = 5.", "  naïve\t\n\n 日本 €9 -3", "don't  stop"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_digit_is_a_token_and_a_space_goes_with_the_first(tokenizer):
    assert tokenizer.tokenize("47 + 12 = 59.") == ["4", "7", "Ġ+", "Ġ1", "2", "Ġ=", "Ġ5", "9", "."]


def test_a_prompt_and_its_answer_are_cut_into_tokens_alone_as_together(tokenizer):
    prompt, answer = "Q: How many?\nA:", " In order: 3 + 4 = 7.\n\nQ: What?"
    apart = tokenizer(prompt)["input_ids"] + tokenizer(answer)["input_ids"]
    assert tokenizer(prompt + answer)["input_ids"] == apart


def test_the_end_is_one_token_and_not_the_padding(tokenizer):
    assert tokenizer("<|end|>")["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_the_chat_template_writes_conversations_as_the_corpus_does(tokenizer):
    chat = [{"role": "user", "content": "Ask."}, {"role": "assistant", "content": "Say."}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == turns("Ask.", "Say.")
    opened = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert opened == turns("Ask.", "").removesuffix("<|end|>")


def test_the_chat_template_marks_what_the_assistant_says_and_its_end(tokenizer):
    chat = [{"role": "user", "content": "Ask."}, {"role": "assistant", "content": "Say."}]
    both = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    marked = [
        token
        for token, mark in zip(both["input_ids"], both["assistant_masks"], strict=True)
        if mark
    ]
    assert tokenizer.decode(marked) == "Say.<|end|>"


def test_the_same_seed_gives_the_same_weights_also_after_a_kill(tmp_path, quick, monkeypatch):
    whole = pretrain.pretrain(tmp_path / "whole")
    rows = pretrain._rows

    steps = []

    def killed(tokenizer, texts, most):
        steps.append(texts)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return rows(tokenizer, texts, most)

    monkeypatch.setattr(pretrain, "_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(tmp_path / "halved")
    monkeypatch.setattr(pretrain, "_rows", rows)
    halved = pretrain.pretrain(tmp_path / "halved")
    first, second = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (whole, halved)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not (halved / "checkpoint.pt").exists()


def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(pretrain, "write_card", lambda folder, made: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretrain.pretrain(tmp_path, seed=0)
    with pytest.raises(TrainingError, match="another run"):
        pretrain.pretrain(tmp_path, seed=1)


def test_the_learning_rate_falls_to_zero():
    assert pretrain._schedule(0, 1000) == pytest.approx(0.01)
    assert pretrain._schedule(550, 1000) == pytest.approx(0.45)
    assert pretrain._schedule(999, 1000) == pytest.approx(0.001)


def test_rows_hold_whole_documents(tokenizer):
    rows = pretrain._rows(tokenizer, (Document("", text) for text in documents(0, "step", 0)), 32)
    first = next(islice(documents(0, "step", 0), 1))
    assert tokenizer.decode(rows.tokens[0]).startswith(first)
    assert rows.tokens.shape == (32, pretrain.ROW_TOKENS)


def test_a_document_in_a_row_sees_itself_alone_and_counts_from_zero():
    packed = pretrain._packed([[([5, 6, 7], 0), ([8, 9], 0)]], pad=0)
    assert packed.tokens[0, :6].tolist() == [5, 6, 7, 8, 9, 0]
    assert packed.positions[0, :5].tolist() == [0, 1, 2, 0, 1]
    seen = packed.mask[0, 0, :5, :5] == 0
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_a_document_is_learnt_in_a_row_as_alone(tokenizer):
    """The loss of two documents packed into one row is their loss in rows of their own."""
    torch.manual_seed(0)
    model = pretrain._model(pretrain.Shape(16, 1, 2, 16, steps=1), tokenizer)
    loss_of = pretrain._loss_function(model, compiled=False)
    one, two = ([5, 6, 7, 8], 0), ([9, 10, 11, 12], 0)
    together, apart = (
        loss_of(pretrain._packed(rows, tokenizer.pad_token_id))
        for rows in ([[one, two]], [[one], [two]])
    )
    assert together.item() == pytest.approx(apart.item(), rel=1e-2)  # bfloat16


def test_of_a_document_only_the_second_part_is_learnt():
    packed = pretrain._packed([[([5, 6, 7], 2), ([8, 9], 0)]], pad=0)
    assert packed.learnt[0, :6].tolist() == [False, False, True, False, True, False]


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_shipped_model_is_a_plain_checkpoint(name, tokenizer):
    folder = shipped.folder(name)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "bfloat16")
    shipped_tokenizer = AutoTokenizer.from_pretrained(folder)
    built = keeps.build(512) if name == "tiny-keeps" else tokenizer
    assert shipped_tokenizer.get_vocab() == built.get_vocab()
    assert shipped_tokenizer.chat_template == tokenizer.chat_template
    assert re.search("(dev|sft) split", (folder / "README.md").read_text())


def test_the_shipped_models_are_small():
    sizes = [(shipped.folder(name) / "model.safetensors").stat().st_size for name in shipped.NAMES]
    assert sum(sizes) < 8e6
    assert sizes[0] > 2 * sizes[1]


def test_the_shipped_model_reasons_and_ends_in_an_answer():
    folder = shipped.folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    inputs = tokenizer(few_shot(labelled("dev", 1)[0].question.text), return_tensors="pt")
    drawn = model.generate(**inputs, max_new_tokens=48, do_sample=False)
    text = str(tokenizer.decode(drawn[0, inputs["input_ids"].shape[1] :]))
    said = text.replace("<|end|>", "\n").split("\n")[0]
    assert " = " in said
    assert "The answer is " in said


def test_an_unknown_model_is_an_error_that_names_those_that_ship():
    with pytest.raises(ConfigError, match="tiny, tinier, tiny-keeps"):
        shipped.folder("huge")
