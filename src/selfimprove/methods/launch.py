"""From a recipe file to a finished run, whichever method it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfimprove.config import fingerprint, load, read_recipe
from selfimprove.errors import ConfigError
from selfimprove.files import read_json
from selfimprove.methods import lmsi
from selfimprove.methods.lmsi_plan import Needs, PlannedStep, needs, plan
from selfimprove.models import locate
from selfimprove.store import Run

__all__ = ["Finished", "Plan", "launch", "plan_recipe"]


@dataclass(frozen=True, slots=True)
class Finished:
    """Where a run lies, and whether anything had to be done for it."""

    root: Path
    was_finished: bool


def read_config(path: Path, overrides: Sequence[str]) -> lmsi.LmsiConfig:
    """Read a recipe as the config of the method it names.

    Raises:
        ConfigError: the recipe names no known method, or does not fit it.
    """
    tree = read_recipe(path, overrides)
    if tree.get("method") != "lmsi":
        raise ConfigError(f"{path}: method is {tree.get('method')!r}; known: lmsi")
    return load(lmsi.LmsiConfig, tree, str(path))


def default_folder(path: Path, config: lmsi.LmsiConfig) -> Path:
    """Return where a recipe runs unless told otherwise."""
    return Path("runs") / f"{path.stem}-seed{config.seed}"


def launch(
    path: Path,
    overrides: Sequence[str],
    out: Path | None,
    announce: Callable[[str], None],
) -> Finished:
    """Run a recipe, or go on where it was interrupted; a finished run is left as it is.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    config = read_config(path, overrides)
    root = out or default_folder(path, config)
    # The weights belong to the identity: a folder's name says nothing about what lies in it.
    models = [locate(name).digest for name in (config.model, config.student) if name]
    identity = fingerprint({"recipe": config.model_dump(mode="json"), "models": models})
    finished = root / "finished.json"
    if finished.exists() and read_json(finished)["identity"] == identity:
        return Finished(root, was_finished=True)
    run = Run(root, announce)
    try:
        if not (root / "recipe.json").exists():
            run.write("recipe.json", config.model_dump(mode="json"))
        newest = lmsi.run(config, run)
        run.write("recipe.json", config.model_dump(mode="json"))
        run.write("finished.json", {"identity": identity, "model": newest.path})
    finally:
        run.close()
    return Finished(root, was_finished=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe would do."""

    root: Path
    steps: list[PlannedStep]
    needs: Needs | None
    """None when the model is a hub id that has not been fetched."""


def plan_recipe(path: Path, overrides: Sequence[str], out: Path | None) -> Plan:
    """Return the run's folder, its steps and what they would cost; run nothing.

    Raises:
        SelfImproveError: the recipe, its data or its models cannot be used.
    """
    config = read_config(path, overrides)
    root = out or default_folder(path, config)
    steps = plan(config, root)
    return Plan(root, steps, needs(config, steps))
