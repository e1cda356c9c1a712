"""The losses of the reward models: Bradley-Terry, and PIT's five contrasts (Eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BALANCED", "CONTRASTS", "Contrasts", "bradley_terry", "gap_loss"]

Contrasts: TypeAlias = tuple[tuple[str, str], ...]
"""Which gap must be the larger one of two; 'wl' is r_gap(x, y_w, y_l): candidate, then reference."""

CONTRASTS: Final[Contrasts] = (("wl", "ww"), ("wl", "ll"), ("wl", "lw"), ("ww", "lw"), ("ll", "lw"))
"""PIT's five (Eq. 2)."""
BALANCED: Final = tuple(pair for pair in CONTRASTS if pair != ("wl", "lw"))
"""Those that change the candidate or the reference, not both."""


# --8<-- [start:gap_loss]
def gap_loss(
    wl: Tensor, ww: Tensor, ll: Tensor, lw: Tensor, *, contrasts: Contrasts = CONTRASTS
) -> Tensor:
    """Return, for each triple, the sum of -log sigma(larger - smaller) over the contrasts: Eq. 2's five.

    All equal: 5 ln 2, with gradients -3/2, 0, 0 and +3/2. Adding one number to all four changes
    nothing: what a gap of zero means is not fixed by the loss.

    Args:
        wl: (triples,) gap of the chosen response over the rejected one.
        ww: (triples,) of the chosen one over itself.
        ll: (triples,) of the rejected one over itself.
        lw: (triples,) of the rejected one over the chosen one.
        contrasts: which of them are compared.
    """
    from torch import stack
    from torch.nn.functional import logsigmoid

    gaps = {"wl": wl, "ww": ww, "ll": ll, "lw": lw}
    return -stack([logsigmoid(gaps[more] - gaps[less]) for more, less in contrasts]).sum(0)


# --8<-- [end:gap_loss]


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return, for each pair, -log sigma(chosen - rejected): ln 2 where both are worth the same."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - rejected)
