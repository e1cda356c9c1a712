"""What the parts of `gpu.py` say together: shares of the limits, ratios between sides, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["share_of_limits", "summary", "tables"]

Results = Mapping[str, dict[str, Any]]

_COLUMNS = ("work", "tokens/s", "TFLOP/s", "share", "of", "peak GiB")


def share_of_limits(told: dict[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rate is of what the card was measured to do; empty where one of them is missing."""
    if "tokens_per_s" not in told or "flops_per_token" not in told or "tflops" not in limits:
        return {}
    peak = limits["tflops"] * 1e12
    arithmetic = peak / told["flops_per_token"]
    found = {
        "tflops": round(told["tokens_per_s"] * told["flops_per_token"] / 1e12, 4),
        "share_of_peak": round(told["tokens_per_s"] / arithmetic, 5),
        "limit_arithmetic_tokens_per_s": round(arithmetic),
    }
    if "bytes_per_token" in told:
        memory = limits["gb_per_s"] * 1e9 / told["bytes_per_token"]
        found["limit_memory_tokens_per_s"] = round(memory)
        found["share_of_limit"] = round(told["tokens_per_s"] / min(arithmetic, memory), 5)
    return found


def summary(results: Results) -> dict[str, Any]:
    """Return how sides compare; what is missing on one side is left out."""
    found: dict[str, Any] = {}
    for name, theirs in results.items():
        beside, _, what = name.partition("-")
        ours = results.get(what if beside == "trl" else f"sampling-{what}", {})
        if beside not in ("trl", "vllm") or not _rated(ours, theirs):
            continue
        found[f"{what if beside == 'trl' else f'sampling-{what}'}_to_{beside}"] = round(
            ours["tokens_per_s"] / theirs["tokens_per_s"], 2
        )
        if beside == "trl":
            found[f"{what}_losses"] = _losses(ours, theirs["ways"][theirs["best"]])
    usual = results.get("sft-135m", {}).get("tflops")
    for name in ("dpo", "reward", "gap-reward", "policy-gradient") if usual else ():
        tflops = results.get(f"{name}-135m", {}).get("tflops")
        if tflops:
            # 1: as fast as SFT, operation by operation.
            found[f"{name}_time_to_sft_by_flops"] = round(usual / tflops, 2)
    return found


def _rated(*sides: Mapping[str, Any]) -> bool:
    return all("tokens_per_s" in side for side in sides)


def _losses(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first losses, and the last ones of as many tokens as both had."""
    most = min(ours["losses"][-1][0], theirs["losses"][-1][0])
    last = [
        next(loss for tokens, loss in reversed(side["losses"]) if tokens <= most)
        if side["losses"][0][0] <= most
        else None
        for side in (ours, theirs)
    ]
    first = [side["losses"][0][1] for side in (ours, theirs)]
    return {"tokens": most, "first": first, "last": last}


def tables(results: Results) -> Iterator[str]:
    """Yield a line for each rate, then the profiles."""
    yield _line(*_COLUMNS)
    for name, told in results.items():
        if "tokens_per_s" in told:
            limit = "limit" if "share_of_limit" in told else "peak"
            share = told.get("share_of_limit", told.get("share_of_peak"))
            yield _line(
                name,
                f"{told['tokens_per_s']:,.0f}",
                f"{told['tflops']:.1f}" if "tflops" in told else "",
                f"{share:.1%}" if share is not None else "",
                limit if share is not None else "",
                str(told.get("engine_peak_memory_gib") or told.get("peak_memory_gib", "")),
            )
        for way, rate in told.get("generate", {}).items():
            yield _line(f"  generate, {way}", f"{rate:,.0f}")
    for name, told in results.items():
        if "host" in told:
            yield from _profile(name, told)


def _line(name: str, *cells: str) -> str:
    return name.ljust(44) + "".join(cell.rjust(12) for cell in cells)


def _profile(name: str, told: Mapping[str, Any]) -> Iterator[str]:
    yield f"{name}: {told['profiled_s']:.3f} s, the card busy {told['busy']:.1%} of them"
    for kind in ("kernels", "host"):
        for row in told[kind]:
            yield f"  {kind:8}{row['ms']:12,.2f} ms {row['calls']:9,d} x  {row['name']}"
