"""What a dry run prints, and what is to be started on several machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfimprove.remote import told as known
from selfimprove.terminal import show_table

if TYPE_CHECKING:
    from selfimprove.runtime.cluster import Estimate
    from selfimprove.runtime.launch import Plan
    from selfimprove.runtime.plan import Needs

__all__ = ["show_launch", "show_plan"]

_GIB = 2**30


def show_plan(plan: Plan) -> None:
    """Print the steps of a run and the upper bounds of their cost."""
    costly = [s for s in plan.steps if s.tokens_sampled or s.tokens_trained]
    rows = [
        (s.name, s.does, "-" if s.rows is None else f"{s.rows:,}", f"{s.tokens_sampled:,}",
         f"{s.tokens_trained:,}", s.state)
        for s in costly
    ]  # fmt: skip
    columns = ("step", "does", "rows", "to sample", "to train on", "state")
    show_table(f"{known(plan.root)}: rows and tokens are upper bounds", columns, rows, words=("does",),
           whole=("step", "state"))  # fmt: skip
    print(f"all in all {sum(s.tokens_sampled for s in costly):,} tokens to sample, "
          f"{sum(s.tokens_trained for s in costly):,} to train on; {len(plan.steps) - len(costly)} "
          "further steps read, filter, score and count")  # fmt: skip
    _show_needs(plan.needs)
    if plan.takes is not None:
        _show_estimate(plan.takes)


def _show_estimate(told: Estimate) -> None:
    gpu, count = told.cluster.device, told.cluster.count
    rows = [
        (s.step, f"{s.sampled:,}" if s.sampled else "-", f"{s.trained:,}" if s.trained else "-",
         f"{s.hours:,.2f}", str(s.gpus), s.waits_for)
        for s in told.shares
    ]  # fmt: skip
    columns = ("step", "to sample", "to train on", "hours", "GPUs of use", "waits for")
    many = f", {told.times:,} times the data of the recipe" if told.times > 1 else ""
    show_table(f"calculated for {count} x {gpu.kind}{many}", columns, rows, words=("waits for",),
           whole=("step",))  # fmt: skip
    for share in told.shares:
        if not share.gpus:
            print(f"{share.step}: not counted, as it has {share.waits_for}")
    for step in told.unknown:
        print(f"{step}: not counted, as the config.json of its model is not here")
    print(f"all in all {told.hours:,.1f} hours, {told.hours * count:,.0f} GPU-hours, "
          f"${told.cost:,.0f} at ${told.price:.2f} a GPU-hour, all GPUs paid all the time")  # fmt: skip
    print("shares of the arithmetic as measured on one H200 for 135M to 1.2B parameters"
          + ("" if told.measured and gpu.kind == "h200" else "; for this size or this GPU, an estimate from them"))  # fmt: skip


def _show_needs(needs: Needs) -> None:
    columns = (
        "stage",
        "weights",
        "gradients",
        "optimiser",
        "beside",
        "cache",
        "activations",
        "all",
    )
    rows = [
        (s.stage, *(f"{part / _GIB:.2f}" if part else "-" for part in (
            s.weights, s.gradients, s.optimiser, s.beside, s.cache, s.activations, s.total)))
        for s in needs.stages
    ]  # fmt: skip
    if rows:
        show_table("GiB of memory, at most, in the precision of this machine", columns, rows,
               whole=("stage",))  # fmt: skip
    for name in needs.unknown:
        print(f"memory for {name}: unknown until its config.json is here, as a dry run fetches nothing"
              f": {_how_to_get(name)}")  # fmt: skip
    if needs.memory_bytes is not None:
        print(f"memory: at most about {_size(needs.memory_bytes)}, libraries included")
    if needs.disk_bytes is not None:
        print(f"disk: at most {_size(needs.disk_bytes)}")


def _size(count: int) -> str:
    if count == 0:
        return "-"
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / 2**20:.0f} MiB"


def _how_to_get(name: str) -> str:
    """Say how a model's config comes here."""
    if name.lower().endswith(".gguf"):
        return "any command that uses the file converts it"
    if "/" not in name:
        return f"`selfimprove models get {name}`"
    if name.startswith("runs/"):
        return "make it first, as the head of the recipe says"
    return f"`hf download {name.partition('@')[0]} config.json` fetches a few kB; or give a folder"


def show_launch(line: str, nodes: int) -> None:
    """Print what to start on each of several machines."""
    print(
        f"start this on each of the {nodes} machines, whose NUMBER goes from 0 to {nodes - 1}; the folder must"
    )
    print(
        "be on a disk that all of them see, and port 29500 and the one after it open on the first:\n"
    )
    print(line)
    print("\nrecipes/launch/ has the same for Slurm and SkyPilot")
