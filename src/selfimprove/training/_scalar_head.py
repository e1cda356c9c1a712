"""Training of a classifier with one logit on comparisons of rows; both reward models share it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, final

import torch
from transformers import AutoModelForSequenceClassification, set_seed

from selfimprove.errors import EngineError, TrainingError
from selfimprove.sampling.loading import UNREADABLE, load_tokenizer, pick_device
from selfimprove.sampling.quantized import in_four_bits
from selfimprove.sampling.scalar_model import fitting, padding_token
from selfimprove.sampling.token_tree import may_branch
from selfimprove.training._head_trainer import Collator, Comparisons, HeadTrainer, Rows
from selfimprove.training.fit import Collate, Fitted, Job, Loaded, Objective, fit
from selfimprove.training.model_folder import adapted, arithmetic, merged, save
from selfimprove.training.processes import processes
from selfimprove.training.quiet import quietly
from selfimprove.training.reward_config import RewardConfig, TrainedReward
from selfimprove.training.sharded import shares_out
from selfimprove.training.support import longest_packed
from selfimprove.training.training_config import piece_tokens

__all__ = ["train_head"]

_log = logging.getLogger(__name__)

_CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
base_model: {base}
tags: [selfimprove, reward-model]
---
# Reward model ({reads}), trained by selfimprove

Base: `{base}`. One logit, read at the last token of a conversation. Made with {versions}.
"""


def train_head(  # noqa: PLR0913  two folders, a seed, and settings, all by name
    base: Path,
    compared: Comparisons,
    config: RewardConfig,
    *,
    out: Path,
    checkpoints: Path,
    seed: int,
    settings: Mapping[str, Any],
) -> TrainedReward:
    """Train on the comparisons and write the folder; `settings` go into its config.

    Raises:
        TrainingError: no comparison, none that fits into `max_length`, a loss that is no number.
        EngineError: `base` holds no model or no tokenizer.
    """
    if not compared.replies:
        raise TrainingError("there is no preference to train on: look at the funnels of the run")
    return fit(Job(base, config, out, checkpoints, seed), ComparedScores(compared, settings))


@final
class ComparedScores(Objective[RewardConfig, TrainedReward]):
    """A loss of the scores that a comparison's rows get from a head on a model."""

    stream = "reward order"

    def __init__(self, compared: Comparisons, settings: Mapping[str, Any]) -> None:
        self._compared, self._settings = compared, settings

    def trainer(self) -> type[HeadTrainer]:
        """Return the trainer whose step knows of comparisons."""
        return HeadTrainer

    def load(self, job: Job[RewardConfig]) -> Loaded:
        """Put a head on the model of the base; it needs no token that ends a text."""
        model = _load(job.base, job.config, job.seed)
        return Loaded(model, load_tokenizer(job.base), (), arithmetic(job.config, job.base))

    def rows(self, job: Job[RewardConfig], loaded: Loaded) -> tuple[int, Collate]:
        """Return how many comparisons fit, and what makes pieces of them."""
        model, longest = loaded.model, job.config.max_length
        self._rows, self._truncated = _rows(
            self._compared, loaded.tokenizer, longest, self._settings
        )
        self._pad = padding_token(
            loaded.tokenizer, {row[-1] for rows in self._rows for row in rows}
        )
        model.config.get_text_config().pad_token_id = self._pad
        share = processes() == 1 and may_branch(model)
        if not shares_out(job.config, model):
            model.to(pick_device("auto"))
        # On a CPU rows end to end see one run of tokens before themselves, and a branch may see several.
        may = share and model.device.type == "cuda" and not job.config.gradient_checkpointing
        packed = may and longest_packed(model, loaded.use, drops=True) > 0
        collate = Collator(
            self._rows, piece_tokens(job.config), self._pad, share=share, packed=packed
        )
        return len(self._rows), collate

    @contextmanager
    def learning(self, job: Job[RewardConfig], trainer: Any, resumed_at: int) -> Iterator[None]:  # noqa: ANN401
        """Tell the trainer what is compared."""
        trainer.compared = self._compared
        yield

    def write(self, job: Job[RewardConfig], trainer: Any) -> None:  # noqa: ANN401
        """Write classifier, tokenizer and card."""
        whole = trainer.whole_model()
        if trainer.is_world_process_zero():
            _write(whole, job.base, job.out, self._settings)
            _write_tokenizer(load_tokenizer(job.base), self._pad, job.out)
            _write_card(job.base, job.out, str(self._settings["reads"]))
        trainer.accelerator.wait_for_everyone()

    def told(self, fitted: Fitted) -> TrainedReward:
        """Return what the training did."""
        logged = fitted.logged("loss")
        return TrainedReward(
            steps=fitted.trainer.state.max_steps,
            pairs=len(self._rows),
            tokens=sum(len(row) for i in fitted.order for row in self._rows[i]),
            truncated=self._truncated,
            dropped=len(self._compared.replies) - len(self._rows),
            first_loss=logged[0]["loss"],
            final_loss=logged[-1]["loss"],
            final_accuracy=logged[-1]["accuracy"],
            arithmetic=fitted.arithmetic,
            seconds=fitted.seconds,
        )


def _rows(
    compared: Comparisons,
    tokenizer: Any,  # noqa: ANN401
    max_length: int,
    settings: Mapping[str, Any],
) -> tuple[list[Rows], int]:
    """Return the comparisons of which every row fits, and how many lost some of their prompt."""
    count = len(compared.replies)
    variables = settings.get("chat_template_kwargs")
    found = fitting(compared.replies, tokenizer, max_length, compared.shorten, variables)
    rows = [rows for rows in found.groups if rows is not None]
    if not rows:
        raise TrainingError(
            f"none of the {count} preferences fits into {max_length} tokens: raise max_length of the "
            "reward model"
        )
    if len(rows) < count:
        _log.warning("%d of %d preferences left out: a response does not fit into %d tokens",
                     count - len(rows), count, max_length)  # fmt: skip
    if found.shortened:
        _log.warning("%d of %d preferences lost the oldest part of their prompt: it is longer than %d "
                     "tokens", found.shortened, count, max_length)  # fmt: skip
    return rows, found.shortened


def _load(base: Path, config: RewardConfig, seed: int) -> Any:  # noqa: ANN401
    # Full weights stay in float32: small updates would be lost in bfloat16. Frozen ones may be.
    dtype = arithmetic(config, base).torch_dtype if config.lora else torch.float32
    model, missing = _read(base, dtype, four_bits=config.four_bits)
    # A new head starts at zero: nothing is preferred at first, whatever the seed.
    for name, weights in model.named_parameters():
        if name in missing:
            weights.data = torch.zeros_like(weights, dtype=torch.float32)
    set_seed(seed % 2**32)
    return adapted(model, config.lora, "SEQ_CLS") if config.lora else model


def _read(base: Path, dtype: torch.dtype, *, four_bits: bool = False) -> tuple[Any, set[str]]:
    """Return a classifier on the model of `base`, and the names of its weights that are new."""
    rounding = {"quantization_config": in_four_bits(dtype)} if four_bits else {}
    with quietly():
        try:
            model, about = AutoModelForSequenceClassification.from_pretrained(
                base, dtype=dtype, num_labels=1, use_safetensors=True, local_files_only=True,
                output_loading_info=True, **rounding,
            )  # fmt: skip
        except UNREADABLE as error:
            raise EngineError(f"cannot put a head on the model of {base}: {error}") from error
    return model, set(about["missing_keys"])


def _write(model: Any, base: Path, out: Path, settings: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Write the classifier with float32 weights; adapters are merged."""
    if hasattr(model, "merge_and_unload"):
        model = merged(model, lambda: _read(base, torch.float32)[0])
    model.config.use_cache = True
    model.config.selfimprove = dict(settings)
    save(model, out)


def _write_tokenizer(tokenizer: Any, pad: int, out: Path) -> None:  # noqa: ANN401
    """The tokenizer pads with what the model takes for padding, on the right."""
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(out)


def _write_card(base: Path, out: Path, reads: str) -> None:
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", "transformers"))
    text = _CARD.format(base=base.name, reads=reads, versions=versions)
    (out / "README.md").write_text(text, encoding="utf-8")
