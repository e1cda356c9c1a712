"""From a recipe file to a finished run, whichever method it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from selfimprove.config import IDENTITY, fingerprint, load, overridden, read_recipe
from selfimprove.errors import ConfigError, DataError
from selfimprove.files import read_json
from selfimprove.methods import (
    lmsi,
    lmsi_plan,
    pit,
    pit_plan,
    self_rewarding,
    self_rewarding_plan,
)
from selfimprove.methods.plan import Line, Needs, PlannedStep, Use, needs, planned
from selfimprove.methods.processes import Processes, check
from selfimprove.models import locate
from selfimprove.sampling.threads import use_threads
from selfimprove.store import Run
from selfimprove.types import ModelRef

__all__ = [
    "Finished",
    "MethodConfig",
    "Plan",
    "config_of",
    "launch",
    "plan_recipe",
    "read_config",
    "run_config",
    "run_method",
]


@dataclass(frozen=True, slots=True)
class Finished:
    """Where a run lies, and whether anything had to be done for it."""

    root: Path
    was_finished: bool


MethodConfig: TypeAlias = "lmsi.LmsiConfig | self_rewarding.SelfRewardingConfig | pit.PitConfig"

_CONFIGS: Final[dict[str, type[MethodConfig]]] = {
    "lmsi": lmsi.LmsiConfig,
    "self_rewarding": self_rewarding.SelfRewardingConfig,
    "pit": pit.PitConfig,
}


def read_config(path: Path, overrides: Sequence[str]) -> MethodConfig:
    """Read a recipe as the config of the method it names; a method's name is a recipe of its own.

    Raises:
        ConfigError: the recipe names no known method, or does not fit it.
    """
    if str(path) in _CONFIGS and not path.exists():
        return config_of(overridden({"method": str(path)}, overrides), f"{path}, as overridden")
    return config_of(read_recipe(path, overrides), str(path))


def config_of(tree: dict[str, Any], source: str) -> MethodConfig:
    """Return the config of the method that a recipe's tree names.

    Raises:
        ConfigError: it names no known method, or does not fit it.
    """
    method = tree.get("method")
    if not isinstance(method, str) or method not in _CONFIGS:
        raise ConfigError(f"{source}: method is {method!r}; known: {', '.join(_CONFIGS)}")
    return load(_CONFIGS[method], tree, source)


def default_folder(path: Path, config: MethodConfig) -> Path:
    """Return where a recipe runs unless told otherwise."""
    return Path("runs") / f"{path.stem}-seed{config.seed}"


def launch(
    path: Path,
    overrides: Sequence[str],
    out: Path | None,
    announce: Callable[[str], None],
    processes: int = 1,
) -> Finished:
    """Run a recipe, or go on where it was interrupted; a finished run is left as it is.

    Training steps take `processes` processes of this machine, one a GPU.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    config = read_config(path, overrides)
    return run_config(config, out or default_folder(path, config), announce, processes)


def run_config(
    config: MethodConfig, root: Path, announce: Callable[[str], None], processes: int = 1
) -> Finished:
    """Run a config in a folder, or go on where it was interrupted.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    check(config, processes)
    # The weights belong to the identity: a folder's name says nothing about what lies in it.
    located = [locate(name) for name in _models(config)]
    recipe = config.model_dump(mode="json", context=IDENTITY)
    identity = fingerprint({"recipe": recipe, "models": [model.digest for model in located]})
    finished = root / "finished.json"
    if finished.exists() and read_json(finished)["identity"] == identity:
        return Finished(root, was_finished=True)
    _announce_engine(config, located[0], announce)
    run = Run(root, announce, Processes(config, processes).train if processes > 1 else None)
    try:
        if not (root / "recipe.json").exists():
            run.write("recipe.json", config.model_dump(mode="json"))
        newest = run_method(config, run)
        run.write("recipe.json", config.model_dump(mode="json"))
        run.write("finished.json", {"identity": identity, "model": _within(root, newest.path)})
    finally:
        run.close()
    return Finished(root, was_finished=False)


def _announce_engine(
    config: MethodConfig, model: ModelRef, announce: Callable[[str], None]
) -> None:
    """Say what draws, and why, where there is a choice."""
    from selfimprove.sampling.loading import pick_device
    from selfimprove.sampling.open import pick_for

    if config.engine.kind == "auto" and pick_device(config.engine.device).type == "cuda":
        announce(f"engine {pick_for(Path(model.path), config.engine)}")


def _within(root: Path, path: str) -> str:
    """Return a path relative to the run's folder, which may be moved, if it lies there."""
    place = Path(path).resolve()
    inside = place.is_relative_to(root.resolve())
    return str(place.relative_to(root.resolve()) if inside else place)


def run_method(config: MethodConfig, run: Run) -> ModelRef:
    """Run the method of this config and return the model it ends with.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    use_threads(config.engine.threads)
    if isinstance(config, lmsi.LmsiConfig):
        return lmsi.run(config, run)
    if isinstance(config, pit.PitConfig):
        return pit.run(config, run)
    return self_rewarding.run(config, run)


def _lines(config: MethodConfig) -> Iterable[Line]:
    if isinstance(config, lmsi.LmsiConfig):
        return lmsi_plan.lines(config)
    if isinstance(config, pit.PitConfig):
        return pit_plan.lines(config)
    return self_rewarding_plan.lines(config)


def _models(config: MethodConfig) -> list[str]:
    """Return the names of the models that a run reads."""
    if isinstance(config, lmsi.LmsiConfig):
        return [config.model, *([config.student] if config.student else [])]
    if isinstance(config, pit.PitConfig):
        judge = config.evaluation.judge
        return [config.model, *([judge.model] if judge and judge.holds_model_here else [])]
    writer, judges = config.prompts.writer, (config.judge, config.evaluation.judge)
    named = [j.model for j in judges if j is not None and j.holds_model_here]
    return [config.model, *([] if writer == "self" else [writer]), *named]


def _uses(config: MethodConfig) -> Iterable[Use]:
    if isinstance(config, lmsi.LmsiConfig):
        return lmsi_plan.uses(config)
    if isinstance(config, pit.PitConfig):
        return pit_plan.uses(config)
    return self_rewarding_plan.uses(config)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe would do."""

    root: Path
    steps: list[PlannedStep]
    needs: Needs
    no_data: str = ""
    """Why the steps cannot be told: a data file that cannot be read; empty: they are."""


def plan_recipe(path: Path, overrides: Sequence[str], out: Path | None, processes: int = 1) -> Plan:
    """Return the run's folder, its steps and what they would cost; run nothing and fetch no model.

    What is held in memory follows from the models alone, and is told without the data, too.

    Raises:
        SelfImproveError: the recipe or a model cannot be used.
    """
    config = read_config(path, overrides)
    check(config, processes)
    root = out or default_folder(path, config)
    try:
        steps, no_data = planned(_lines(config), root), ""
    except DataError as error:
        steps, no_data = [], str(error)
    return Plan(root, steps, needs(_uses(config), steps), no_data)
