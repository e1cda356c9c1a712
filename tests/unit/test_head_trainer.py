"""A reward model learns in bfloat16 by a rounded copy; its head, and what it gives, stay in float32."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForSequenceClassification, TrainingArguments

from selfimprove.sampling.conversation import Spoken
from selfimprove.training._head_trainer import Collator, Comparisons, HeadTrainer, Rows
from selfimprove.training.gap_loss import bradley_terry

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

_ROWS: list[Rows] = [
    ((2, 3, 4, 5, 6, 7), (2, 3, 4, 5, 8)),
    ((2, 3, 9, 10), (2, 3, 9, 11, 12)),
    ((13, 14, 15), (13, 14, 16, 17)),
]


def _trainer(root: Path, *, bf16: bool) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    model: Any = LlamaForSequenceClassification(config)
    arguments = TrainingArguments(
        output_dir=str(root), bf16=bf16, use_cpu=True, report_to="none", disable_tqdm=True,
        remove_unused_columns=False, max_grad_norm=0.0, learning_rate=1e-3, max_steps=2,
        per_device_train_batch_size=len(_ROWS), train_sampling_strategy="sequential",
        num_train_epochs=1, save_strategy="no", lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = HeadTrainer(
        model=model, args=arguments, data_collator=Collator(_ROWS, 64, 0, share=True, packed=False),
        train_dataset=Dataset.from_dict({"row": [*range(len(_ROWS))] * 2}),
    )  # fmt: skip
    said = [[Spoken((), "")] * 2] * len(_ROWS)
    trainer.compared = Comparisons(said, lambda s: bradley_terry(*s.unbind(1)), better=0, worse=1)
    return trainer


def test_the_copy_computes_what_the_model_would_and_the_model_gets_its_gradients(tmp_path):
    exact, rounded = (_trainer(tmp_path, bf16=bf16) for bf16 in (False, True))
    batch = exact.data_collator([{"row": n} for n in range(len(_ROWS))])
    losses = [t.training_step(t.model, dict(batch)) for t in (exact, rounded)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=2e-3)
    others = dict(rounded.model.named_parameters())
    for name, weights in exact.model.named_parameters():
        found, wanted = others[name].grad, weights.grad
        assert found is not None and wanted is not None and found.dtype == torch.float32
        off = (found - wanted).norm() / wanted.norm().clamp(min=1e-9)
        assert off < 0.05, name


def test_the_head_is_not_rounded_and_a_step_reaches_the_copy(tmp_path):
    trainer = _trainer(tmp_path, bf16=True)
    copy = trainer.computing(trainer.model)
    assert copy is not trainer.model
    assert copy.score.weight is trainer.model.score.weight
    assert copy.score.weight.dtype == torch.float32
    before = copy.model.layers[0].mlp.up_proj.weight.clone()
    assert before.dtype == torch.bfloat16
    trainer.train()
    learned = trainer.model.model.layers[0].mlp.up_proj.weight
    found = trainer.computing(trainer.model).model.layers[0].mlp.up_proj.weight
    assert torch.equal(found, learned.to(torch.bfloat16))
    assert not torch.equal(found, before)


class _Marked(torch.autograd.Function):
    """Its place in a graph can be watched."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, *grads):
        return grads[0]


def test_nothing_of_a_pass_is_left_when_the_next_one_begins(tmp_path, monkeypatch):
    """A graph of the weights that is alive would spoil the recording of the next pass on a GPU."""
    trainer = _trainer(tmp_path, bf16=True)
    batch = Collator(_ROWS, 1, 0, share=True, packed=False)([{"row": n} for n in range(len(_ROWS))])
    assert len(batch["pieces"]) == len(_ROWS)
    usual: Any = HeadTrainer._summed_loss
    alive: list[Any] = []
    last: list[Any] = []

    def watched(self, model, piece):
        alive.append([there() for there in last])
        loss = _Marked.apply(usual(self, model, piece))
        last[:] = [weakref.ref(loss.grad_fn)]
        return loss

    monkeypatch.setattr(HeadTrainer, "_summed_loss", watched)
    trainer.training_step(trainer.model, batch)
    assert alive == [[], [None], [None]]
