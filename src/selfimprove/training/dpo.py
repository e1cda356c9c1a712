"""Direct Preference Optimization: pairs in, a plain Hugging Face folder out.

The reference model is pinned: the folder given, by default the policy's own before training. Its
log-probabilities are computed once, before the first step, and kept with the checkpoints.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from pydantic import Field

from selfimprove.config import fingerprint
from selfimprove.errors import TrainingError
from selfimprove.training.fit import Collate, Fitted, Job, Loaded, Objective, fit
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown, tokenise_groups
from selfimprove.types import Example, Pair

if TYPE_CHECKING:
    from torch import Tensor

    from selfimprove.training._preference_trainer import PairCollator, PairRows, PreferenceTrainer

__all__ = ["DpoConfig", "TrainedDpo", "milestones_of", "train_dpo"]

_log = logging.getLogger(__name__)

_PAIRS_AT_ONCE = 256


class DpoConfig(SftConfig):
    """Preference training; the defaults are those of Self-Rewarding (Sec. 3.1)."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """Highest learning rate. Paper: 1e-6, falling to 1e-7; here it falls to 0."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs per optimiser step. Paper: 16."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull towards the reference. Paper: 0.1."""
    nll_alpha: float = Field(default=0.0, ge=0)
    """Weight of the chosen response's own loss (Iterative RPO: 1); 0 is plain DPO."""
    try_every: int | None = Field(default=None, ge=1)
    """Steps between models that are kept beside the last one, for early stopping. Paper: 200."""


@dataclass(frozen=True, slots=True)
class TrainedDpo:
    """What a preference training did."""

    steps: int
    pairs: int
    """Different pairs that could be trained on."""
    tokens: int
    """Prompt and completion tokens of both responses, each time they were trained on."""
    truncated: int
    """Pairs whose prompt lost its oldest turns or text to `max_length`, on both sides alike."""
    dropped: int
    """Pairs that were left out as a response does not fit into `max_length`."""
    first_loss: float
    """Of the first step: ln 2 where the policy is its own reference."""
    final_loss: float
    """Mean over the last logged steps."""
    final_accuracy: float
    """Share of pairs, over the last logged steps, whose chosen response has the higher reward."""
    final_margin: float
    """Mean difference of the two rewards over the last logged steps."""
    chosen_change: float
    """Mean log-probability of the chosen responses at the end, less that under the reference, in
    nats; far below zero means that both responses lost probability."""
    arithmetic: str
    """The precision that was computed in, and why."""
    seconds: float
    """Of this call: after a resume, the part since then."""


def train_dpo(  # noqa: PLR0913  two folders, a seed and a reference, all by name
    policy: Path,
    pairs: Sequence[Pair],
    config: DpoConfig,
    *,
    out: Path,
    checkpoints: Path,
    seed: int,
    reference: Path | None = None,
    shown: Shown | None = None,
) -> TrainedDpo:
    """Train the model of `policy` to prefer the chosen responses, and write it to `out`.

    Args:
        policy: a Hugging Face folder; where training starts.
        pairs: chosen and rejected responses.
        config: how.
        out: becomes a Hugging Face folder; the log is written beside it.
        checkpoints: where an interrupted training is looked for, and left.
        seed: of the order of the pairs, of adapters and dropout.
        reference: the folder of the reference model; None: `policy`.
        shown: how prompts are shown; None: as by an engine that says nothing of it.

    Raises:
        TrainingError: no pair, a pair of two equal responses, none that fits into `max_length`, no
            stop token, a loss that is no number.
        EngineError: a folder holds no causal language model or no tokenizer.
    """
    _check(pairs)
    return fit(Job(policy, config, out, checkpoints, seed), PreferredPairs(pairs, reference, shown))


@final
class PreferredPairs(Objective[DpoConfig, TrainedDpo]):
    """The DPO loss: how much more likely a chosen response is than a rejected one, by the reference."""

    stream = "dpo order"

    def __init__(self, pairs: Sequence[Pair], reference: Path | None, shown: Shown | None) -> None:
        self._pairs, self._reference, self._shown = pairs, reference, shown

    def trainer(self) -> type[PreferenceTrainer]:
        """Return the supervised loop around the DPO loss."""
        from selfimprove.training._preference_trainer import PreferenceTrainer

        return PreferenceTrainer

    def rows(self, job: Job[DpoConfig], loaded: Loaded) -> tuple[int, Collate]:
        """Return how many pairs fit, and what makes pieces of them."""
        from selfimprove.training._preference_trainer import PairCollator
        from selfimprove.training.support import piece_limits

        longest = job.config.max_length
        rows, self._truncated = _rows(
            self._pairs, loaded.tokenizer, loaded.stop, longest, self._shown
        )
        drops = self.trainer().dropout
        limits = piece_limits(loaded.model, job.config, loaded.use, drops=drops)
        self._collate = PairCollator(rows, limits)
        return len(rows), self._collate

    @contextmanager
    def learning(self, job: Job[DpoConfig], trainer: Any, resumed_at: int) -> Iterator[None]:  # noqa: ANN401
        """Know the reference's log-probabilities before the first step; keep models on the way."""
        from selfimprove.training._preference_trainer import Milestones

        config = job.config
        trainer.beta, trainer.nll_alpha = config.beta, config.nll_alpha
        self._collate.reference = _of_reference(
            trainer, self._collate, self._reference or job.base, job
        )
        if config.try_every is not None:
            folder = milestones_of(job.out)
            trainer.add_callback(Milestones(trainer, config.try_every, job.base, folder))
        yield

    def told(self, fitted: Fitted) -> TrainedDpo:
        """Return what the training did."""
        pairs, known, logged = self._collate.pairs, self._collate.reference, fitted.logged("loss")
        assert known is not None  # since the first step
        last = logged[-1]
        return TrainedDpo(
            steps=fitted.trainer.state.max_steps,
            pairs=len(pairs),
            tokens=sum(
                len(row.ids) for i in fitted.order for row in (pairs[i].chosen, pairs[i].rejected)
            ),
            truncated=self._truncated,
            dropped=len(self._pairs) - len(pairs),
            first_loss=logged[0]["loss"],
            final_loss=last["loss"],
            final_accuracy=last["rewards/accuracies"],
            final_margin=last["rewards/margins"],
            chosen_change=last["logps/chosen"] - float(known[:, 0].mean()),
            arithmetic=fitted.arithmetic,
            seconds=fitted.seconds,
        )


def milestones_of(out: Path) -> Path:
    """Return where the models of `try_every` lie, each a folder `step-N`."""
    return out.parent / "milestones"


def _check(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise TrainingError(
            "there is no pair to train on: the responses to each prompt got no score, or the same one; the "
            "funnels of the run count them"
        )
    for number, pair in enumerate(pairs):
        if pair.chosen == pair.rejected:
            raise TrainingError(
                f"pair {number} has twice the same response, {pair.chosen[:80]!r}: "
                "it teaches nothing; leave it out"
            )


def _rows(
    pairs: Sequence[Pair],
    tokenizer: Any,  # noqa: ANN401
    stop: Sequence[int],
    max_length: int,
    shown: Shown | None = None,
) -> tuple[list[PairRows], int]:
    """Return the pairs of which both rows fit, and how many lost some of their prompt."""
    from selfimprove.training._preference_trainer import PairRows

    sides = [
        (Example(p.prompt, p.chosen), Example(p.prompt, p.rejected, p.rejected_finished))
        for p in pairs
    ]
    found = tokenise_groups(sides, tokenizer, stop, max_length, shown)
    rows = [PairRows(*group) for group in found.groups if group is not None]
    if not rows:
        raise TrainingError(
            f"none of the {len(pairs)} pairs fits into {max_length} tokens: raise dpo.max_length"
        )
    if len(rows) < len(pairs):
        _log.warning("%d of %d pairs left out: a response does not fit into %d tokens",
                     len(pairs) - len(rows), len(pairs), max_length)  # fmt: skip
    if found.shortened:
        _log.warning("%d of %d pairs lost the oldest part of their prompt: it is longer than %d tokens",
                     found.shortened, len(pairs), max_length)  # fmt: skip
    return rows, found.shortened


def _of_reference(
    trainer: PreferenceTrainer, collate: PairCollator, reference: Path, job: Job[DpoConfig]
) -> Tensor:
    """Return the reference's log-probabilities, (pairs, 2): those kept, or computed now."""
    from safetensors.torch import load_file, save_file

    from selfimprove.training.model_folder import load_frozen
    from selfimprove.weights import weights_digest

    rows = [[list(r.chosen.ids), list(r.rejected.ids)] for r in collate.pairs]
    identity = fingerprint({"reference": weights_digest(reference), "rows": rows})
    kept = job.checkpoints / f"reference-{identity[:16]}.safetensors"
    if not kept.exists():
        # Before its first step the policy is not shared out yet, and may not fit as it is.
        own = reference == job.base and not trainer.shared_out
        model = (
            trainer.computing(trainer.model) if own else load_frozen(reference, job.config, trainer)
        )
        new, computed = kept.with_suffix(".new"), _log_probs(trainer, model, collate)
        if trainer.is_world_process_zero():
            save_file({"log_probs": computed}, new)
            new.replace(kept)
        trainer.accelerator.wait_for_everyone()
    return load_file(kept)["log_probs"]


def _log_probs(
    trainer: PreferenceTrainer,
    model: Any,  # noqa: ANN401
    collate: PairCollator,
) -> Tensor:
    import torch

    from selfimprove.progress import track

    count, accelerator = len(collate.pairs), trainer.accelerator
    found = torch.zeros(count, 2)
    model.eval()
    starts = range(0, count, _PAIRS_AT_ONCE)
    own = starts[accelerator.process_index :: accelerator.num_processes]
    chunks = [range(start, min(start + _PAIRS_AT_ONCE, count)) for start in own]
    pieces = [piece for chunk in chunks for piece in collate([{"row": n} for n in chunk])["pieces"]]
    missing = trainer.missing(len(pieces))
    with trainer.reading():
        for piece in track(pieces, "reference", len(pieces)):
            here = trainer.on_device(piece)
            with trainer.precision():
                found[piece["pair"]] = trainer.pair_log_probs(model, here).float().cpu()
        for _ in range(missing):
            trainer.idle(model)
    if model is not trainer.computing(trainer.model):
        trainer.forget(model)
    # What a process did not compute is zero there.
    whole: Tensor = accelerator.reduce(found.to(accelerator.device), "sum").cpu()
    return whole
