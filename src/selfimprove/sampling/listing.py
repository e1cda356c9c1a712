"""Which engines sample on this machine."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from selfimprove.sampling import vllm_environment
from selfimprove.sampling.open import WORTH_A_START, pick_engine

__all__ = ["engines_here"]


def engines_here() -> dict[str, str]:
    """Return each engine with where it is or how to get it, and what `auto` takes."""
    build = vllm_environment.this_build()
    python = vllm_environment.find(build)
    small, large = (pick_engine("auto", size) for size in (0, WORTH_A_START))
    from_size = f"; from {WORTH_A_START / 1e9:.1f} GB of weights {large}" if large != small else ""
    return {
        "torch": "built in",
        "vllm": str(python) if python else f"not here ({build}): selfimprove engines add vllm",
        "server": "whichever a recipe names (docs/engines.md)",
        "ray": _ray(),
        "auto takes": f"{small}{from_size}",
    }


def _ray() -> str:
    try:
        return f"{version('ray')}: replicas of torch or vllm (docs/scale.md)"
    except PackageNotFoundError:
        return "not here: pip install 'selfimprove[ray]'"
