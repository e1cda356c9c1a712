"""A reward model as a judge: a sequence classifier with one logit, read at the last token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfimprove.errors import EngineError
from selfimprove.judges.judge_prompts import control_tokens, without_control_tokens
from selfimprove.rows import Batch
from selfimprove.sampling.engine import EngineConfig
from selfimprove.types import ModelRef, Response, Verdict
from selfimprove.weights import weights_digest

__all__ = ["reward_verdicts"]

_TOKENS_AT_ONCE: Final = 16_384


def reward_verdicts(
    chunks: Sequence[Sequence[Response]], model: ModelRef, engine: EngineConfig
) -> Iterator[Batch[Verdict]]:
    """Score each response once by the classifier's logit; one too long for it stays unscored.

    A chat template is used where the tokenizer has one, as such models are trained; else prompt and
    response stand with an empty line between them.

    Raises:
        EngineError: the folder holds no classifier with one logit.
    """
    classifier = _load(Path(model.path), engine)
    for chunk in chunks:
        rows = [classifier.ids(response) for response in chunk]
        fits = [i for i, row in enumerate(rows) if len(row) <= classifier.context]
        scores = dict(zip(fits, classifier.scores([rows[i] for i in fits]), strict=True))
        why = f"longer than the reward model's context of {classifier.context} tokens"
        verdicts = [
            Verdict(r.prompt_id, r.index, 0, scores.get(i), None if i in scores else why, "")
            for i, r in enumerate(chunk)
        ]
        read = sum(len(rows[i]) for i in fits)
        yield Batch(verdicts, prompt_tokens=read, engine=classifier.identity)


@dataclass(frozen=True, slots=True)
class _Classifier:
    """A loaded reward model."""

    model: Any
    tokenizer: Any
    control: tuple[str, ...]
    """Special tokens: what is judged holds none of them, so it cannot end its own turn."""
    context: int
    identity: Mapping[str, str]
    """Versions, device, dtype and the weights digest: stored with the scores."""

    def ids(self, response: Response) -> list[int]:
        """Return the tokens of prompt and response."""
        prompt, text = (
            without_control_tokens(said, self.control) for said in (response.prompt, response.text)
        )
        found: list[int]
        if self.tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
            whole = self.tokenizer.apply_chat_template(turns, tokenize=False)
            found = self.tokenizer(whole, add_special_tokens=False)["input_ids"]
        else:
            found = self.tokenizer(f"{prompt}\n\n{text}")["input_ids"]
        return found

    def scores(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Score rows in batches of like length."""
        import torch

        scores = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        with torch.inference_mode():
            while order:
                count = max(_TOKENS_AT_ONCE // max(len(rows[order[-1]]), 1), 1)
                batch, order = order[-count:], order[:-count]
                for i, score in zip(batch, self._logits([rows[i] for i in batch]), strict=True):
                    scores[i] = score
        return scores

    def _logits(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Return the logit at the last token of each row; rows are padded on the right."""
        import torch

        longest = max(len(row) for row in rows)
        pad: int = self.model.config.pad_token_id
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        device = self.model.device
        logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return [float(score) for score in logits[:, 0]]


def _load(folder: Path, engine: EngineConfig) -> _Classifier:
    from selfimprove.sampling.loading import context_length, load_tokenizer, made_by, pick_device

    tokenizer = load_tokenizer(folder)
    model = _model(folder, engine).to(pick_device(engine.device)).eval()
    config = model.config
    if config.num_labels != 1:
        raise EngineError(f"{folder} has {config.num_labels} logits; a reward model has one")
    if config.pad_token_id is None:
        # Transformers finds a row's last token by it; a token that no text ends in will do.
        config.pad_token_id = next(
            (t for t in (tokenizer.pad_token_id, tokenizer.unk_token_id) if t is not None), 0
        )
    limit = context_length(model) or tokenizer.model_max_length
    told = {"engine": "reward model", **made_by(model, weights_digest(folder))}
    return _Classifier(model, tokenizer, control_tokens(folder), limit, told)


def _model(folder: Path, engine: EngineConfig) -> Any:  # noqa: ANN401
    """Load the classifier; a folder without a trained head would be given a random one."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from selfimprove.sampling.loading import pick_device

    gpu = pick_device(engine.device).type == "cuda"
    dtype = ("bfloat16" if gpu else "float32") if engine.dtype == "auto" else engine.dtype
    try:
        model, about = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EngineError(f"cannot load a sequence classifier from {folder}: {error}") from error
    if about["missing_keys"]:
        missing = ", ".join(sorted(about["missing_keys"])[:3])
        raise EngineError(
            f"{folder} is no reward model: it holds no weights for {missing}; train one, or name "
            "another model in judge.model"
        )
    return model
