"""How far draws are from the policy that learns from them, and how often each token counts for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import final

import torch

from selfimprove.training.policy_config import RolloutConfig
from selfimprove.training.policy_loss import importance_ratio, kl_k3
from selfimprove.training.processes import everyones

__all__ = ["Mismatch"]


@final
class Mismatch:
    """That of one step's draws, whose pieces come one after the other."""

    def __init__(self, how: RolloutConfig, *, corrects: bool) -> None:
        """Begin a step.

        Args:
            how: draws count.
            corrects: whether others' probabilities made them; otherwise each token counts once.
        """
        self._how = how
        self._corrects = corrects and how.importance_sampling != "none"
        self._apart: list[torch.Tensor] = []  # log pi - log mu of each token
        self._noted: dict[str, list[float]] = defaultdict(list)

    def counted(
        self, tokens: torch.Tensor, counts: torch.Tensor, sampled: Sequence[tuple[float, ...]]
    ) -> torch.Tensor:
        """Return log-probabilities, (tokens,), as often as they count.

        Args:
            tokens: under the policy, row by row.
            counts: (draws,) tokens of each draw.
            sampled: of each draw what the engine told of its tokens; empty: nothing, the policy itself drew.
        """
        if not all(sampled):
            return tokens
        told = torch.tensor([one for row in sampled for one in row], device=tokens.device)
        held, whole = tokens.detach(), self._how.importance_sampling == "sequence"
        self._apart.append((held - told).cpu())
        if not self._corrects:
            return tokens
        ratios = importance_ratio(held, told, counts, whole=whole)
        self._noted["sampling_truncated"] += (ratios > self._how.clip_max).float().tolist()
        ratios = ratios.clamp(max=self._how.clip_max)
        self._noted["sampling_ratio"] += ratios.tolist()
        return ratios * tokens

    def noted(self) -> dict[str, list[float]]:
        """Return what is logged of the step, by name: values whose mean is meant."""
        if not self._apart:
            return {}
        apart = torch.cat(self._apart)
        most = max(everyones([float(apart.abs().max())]))
        return {
            **self._noted,
            "sampling_logp_difference": apart.abs().tolist(),
            "sampling_logp_difference_max": [most],
            "sampling_kl": kl_k3(apart).tolist(),
        }
