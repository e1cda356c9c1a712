"""One number read off a conversation: a classifier with one logit, at its true last token.

Training and scoring turn a reply into tokens by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from selfimprove.errors import EngineError
from selfimprove.sampling.arithmetic import arithmetic_of, width_of
from selfimprove.sampling.conversation import Spoken
from selfimprove.sampling.encoder import encoder_of
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.loading import (
    UNREADABLE,
    _quiet,
    context_length,
    load_tokenizer,
    made_by,
    pick_device,
)
from selfimprove.sampling.quantized import in_eight_bits, made_in
from selfimprove.sampling.shortening import Fitted, Shorten, fitted, oldest_first
from selfimprove.sampling.threads import use_threads
from selfimprove.sampling.token_tree import (
    Tree,
    grown,
    laid_out,
    leaf_scores,
    may_branch,
    neighbours,
)
from selfimprove.weights import weights_digest

__all__ = [
    "Read",
    "ScalarModel",
    "fitting",
    "load_scalar_model",
    "padded",
    "padding_token",
    "tokenised",
]

_CPU_TOKENS: Final = 1_024
_GPU_TOKENS: Final = 65_536


def tokenised(
    replies: Sequence[Spoken],
    tokenizer: Any,  # noqa: ANN401
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """Return the tokens of each conversation, the mark that ends a finished reply among them.

    Raises:
        EngineError: turns that the chat template does not take, or no chat template.
    """
    return encoder_of(tokenizer, chat_template_kwargs).conversations(replies)


def fitting(
    groups: Sequence[Sequence[Spoken]],
    tokenizer: Any,  # noqa: ANN401
    limit: int,
    shorten: Shorten = oldest_first,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Fitted[tuple[int, ...]]:
    """Tokenise groups of replies; above `limit` tokens what was asked is shortened, alike in a group.

    Raises:
        EngineError: turns that the chat template does not take, or no chat template.
    """
    return fitted(
        groups,
        lambda said: [tuple(row) for row in tokenised(said, tokenizer, chat_template_kwargs)],
        len,
        limit,
        shorten,
    )


def padding_token(tokenizer: Any, ends: set[int]) -> int:  # noqa: ANN401
    """Return a token that no row ends in: transformers finds a row's last token by its padding."""
    named = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    candidates: list[int] = [token for token in named if token is not None]
    candidates += range(len(ends) + 1)
    return next(token for token in candidates if token not in ends)


def padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Return rows as one matrix, padded on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])


class Read(NamedTuple):
    """What a model read in groups of replies."""

    scores: list[list[float | None]]
    """The number of each reply; None in a group that does not fit into the context."""
    tokens: int
    """Of what fits."""


@dataclass(frozen=True, slots=True)
class ScalarModel:
    """A loaded classifier with one logit."""

    model: Any
    tokenizer: Any
    context: int
    """Tokens that a row may have."""
    identity: Mapping[str, str]
    """Versions, device, dtype and the weights digest: stored with the scores."""

    @property
    def settings(self) -> dict[str, Any]:
        """What its training noted in its config: what it reads, and how that is laid out."""
        found: dict[str, Any] = getattr(self.model.config, "selfimprove", None) or {}
        return found

    def read(self, groups: Sequence[Sequence[Spoken]], shorten: Shorten = oldest_first) -> Read:
        """Return the number of each reply; what was asked may be shortened, alike in a group."""
        variables = self.settings.get("chat_template_kwargs")
        found = fitting(groups, self.tokenizer, self.context, shorten, variables).groups
        fit = [row for group in found for row in group or ()]
        told = iter(self.scores(fit))
        scores: list[list[float | None]] = [
            [None if rows is None else next(told) for _ in group]
            for group, rows in zip(groups, found, strict=True)
        ]
        return Read(scores, sum(map(len, fit)))

    @torch.inference_mode()
    def scores(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Score rows of tokens; what neighbours begin with is read once where the model allows it."""
        share = may_branch(self.model)
        groups = neighbours(rows) if share else [[n] for n in range(len(rows))]
        trees = [grown([rows[i] for i in group]) for group in groups]
        found = [0.0] * len(rows)
        for batch in self._batches(trees):
            told = iter(self._read([trees[n] for n in batch], share=share))
            for place in (place for n in batch for place in groups[n]):
                found[place] = next(told)
        return found

    def _read(self, trees: Sequence[Tree], *, share: bool) -> list[float]:
        pad: int = self.model.config.get_text_config().pad_token_id
        if share:
            batch = {k: v.to(self.model.device) for k, v in laid_out(trees, pad).items()}
            told: list[float] = leaf_scores(self.model, batch).tolist()
            return told
        # Nothing that is read can see the padding behind it, so a decoder needs no mask.
        ids = padded([tree.ids for tree in trees], pad).to(self.model.device)
        logits: list[float] = self.model(ids, use_cache=False).logits[:, 0].tolist()
        return logits

    def _batches(self, trees: Sequence[Tree]) -> Iterator[list[int]]:
        """Trees of like size together, as many as fit with their padding."""
        most = _GPU_TOKENS if self.model.device.type == "cuda" else _CPU_TOKENS
        batch: list[int] = []
        for n in sorted(range(len(trees)), key=lambda n: len(trees[n].ids)):
            if batch and (len(batch) + 1) * len(trees[n].ids) > most:
                yield batch
                batch = []
            batch.append(n)
        if batch:
            yield batch


def load_scalar_model(folder: Path, engine: EngineConfig) -> ScalarModel:
    """Load a decoder with one logit, such as `train_reward` and `train_gap_reward` write.

    Raises:
        EngineError: the folder holds none.
        ConfigError: int8 is asked for, and torchao is not installed.
    """
    from transformers import AutoModelForSequenceClassification

    use_threads(engine.threads)
    device = pick_device(engine.device)
    use = arithmetic_of(engine.dtype, device, width_of(folder))
    with _quiet():
        try:
            model, about = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=use.torch_dtype, use_safetensors=True, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
        except UNREADABLE as error:
            raise EngineError(f"cannot load a reward model from {folder}: {error}") from error
    if about["missing_keys"] or model.config.num_labels != 1:
        raise EngineError(f"{folder} is no reward model: it needs a trained head with one logit")
    if may_branch(model):
        model.score.float()  # sixteen bits would round away small differences
    tokenizer = load_tokenizer(folder)
    limit = context_length(model.config) or tokenizer.model_max_length
    if engine.quantization:
        in_eight_bits(model)
    model = model.to(device).eval()
    told = {
        "engine": "reward model",
        **made_by(model, weights_digest(folder)),
        "dtype_because": use.why,
        **made_in(engine.quantization),
    }
    return ScalarModel(model, tokenizer, limit, told)
