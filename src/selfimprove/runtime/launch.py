"""From a recipe file to a finished run, whichever method it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfimprove.config import IDENTITY, fingerprint, load, overridden, read_recipe
from selfimprove.errors import ConfigError, OwnCodeError
from selfimprove.files import read_json
from selfimprove.methods.table import METHODS, MethodConfig, is_method, method_of
from selfimprove.models import locate
from selfimprove.own_code import pinned
from selfimprove.remote import kept_at
from selfimprove.runtime.cluster import Estimate, estimate
from selfimprove.runtime.devices import cluster_of
from selfimprove.runtime.nodes import Machines
from selfimprove.runtime.plan import Needs, PlannedStep, needs
from selfimprove.runtime.processes import Processes, check
from selfimprove.runtime.ray_processes import RayProcesses
from selfimprove.runtime.rehearsal import Rehearsal
from selfimprove.runtime.shipped import recipe_path
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.quantized import need_for
from selfimprove.sampling.ray_cluster import kept_up
from selfimprove.sampling.threads import use_threads
from selfimprove.store import Run
from selfimprove.tracking.telling import telling
from selfimprove.tracking.trackers import require
from selfimprove.types import ModelRef

__all__ = [
    "Finished",
    "On",
    "Plan",
    "config_of",
    "default_folder",
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


def read_config(path: Path, overrides: Sequence[str]) -> MethodConfig:
    """Read a recipe, a file or one that ships, as the config of the method it names; a method's name is one, too.

    Raises:
        ConfigError: the recipe names no known method, or does not fit it.
    """
    if is_method(str(path)) and not path.is_file():
        return config_of(overridden({"method": str(path)}, overrides), f"{path}, as overridden")
    if path.suffix == ".py":
        raise ConfigError(f"{path} is Python: name the method in it, e.g. {path}:METHOD")
    return config_of(read_recipe(recipe_path(path), overrides), str(path))


def config_of(tree: dict[str, Any], source: str) -> MethodConfig:
    """Return the config of the method that a recipe's tree names.

    Raises:
        ConfigError: it names no known method, or does not fit it.
    """
    name = tree.get("method")
    try:
        method = method_of(str(name))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if name not in METHODS:
        tree = {**tree, "method": pinned(str(name))}
    config = load(method.config, tree, source)
    if name in METHODS:
        _must_hold_what_is_trained(config.engine, source)
        _must_be_what_is_trained(config.engine, source)
    return config


def _must_hold_what_is_trained(engine: EngineConfig, source: str) -> None:
    """Every method that ships draws from the models that it trained: one server for all would never hold them."""
    server = engine.server
    if server is None or server.follows_model:
        return
    what = f"url={server.url}" if server.url else "command has no {model} in it, so it"
    raise ConfigError(
        f"{source}: engine.server.{what} is one model's server, and a run draws from every model that it "
        "trains: give a `command` with {model} in it, which the run starts on each (docs/engines.md), or "
        "take the server for the judge alone (judge.engine)"
    )


def _must_be_what_is_trained(engine: EngineConfig, source: str) -> None:
    """What is measured is what is written: rounded weights would be others."""
    if engine.quantization is None:
        return
    raise ConfigError(
        f"{source}: engine.quantization: a run draws from the models that it trains and measures them, and "
        "would do so with other weights than it writes: set it for the judge alone (judge.engine, "
        "evaluation.judge.engine)"
    )


def default_folder(path: Path, config: MethodConfig) -> Path:
    """Return where a recipe, or a method by its name, runs unless told otherwise."""
    return Path("runs") / f"{path.name.partition('.')[0]}-seed{config.seed}"


def launch(
    path: Path,
    overrides: Sequence[str],
    out: str | Path | None,
    announce: Callable[[str], None],
    processes: int = 1,
    machines: Machines | None = None,
) -> Finished:
    """Run a recipe, or go on where it was interrupted; a finished run is left as it is.

    Training steps take `processes` processes of this machine, one a GPU, or those of several machines.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    config = read_config(path, overrides)
    return run_config(config, out or default_folder(path, config), announce, processes, machines)


def run_config(
    config: MethodConfig,
    out: str | Path,
    announce: Callable[[str], None],
    processes: int = 1,
    machines: Machines | None = None,
) -> Finished:
    """Run a config in a folder or at a URL, or go on where it was interrupted.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    check(config, processes, machines.count if machines else 1, anywhere=_anywhere(config.engine))
    require(config.trackers)
    need_for(config.model_dump(mode="json"))
    # The weights belong to the identity: a folder's name says nothing about what lies in it.
    located = [locate(name) for name in config.models]
    recipe = config.model_dump(mode="json", context=IDENTITY)
    identity = fingerprint({"recipe": recipe, "models": [model.digest for model in located]})
    root, keeper = kept_at(out)
    finished = root / "finished.json"
    if finished.exists() and not keeper.behind and read_json(finished).get("identity") == identity:
        with telling(config.trackers, config, root, announce):  # who was not told of it before
            return Finished(root, was_finished=True)
    _announce_engine(config, located[0], announce)
    elsewhere = _elsewhere(config, processes, machines)
    run = Run(root, announce, elsewhere, config.engine, config.seed, keeper=keeper)
    with closing(run), kept_up(config.engine, processes):
        if not (root / "recipe.json").exists():
            run.write("recipe.json", config.model_dump(mode="json"))
        with telling(config.trackers, config, root, announce):
            newest = run_method(config, run)
        if not (root / "summary.json").exists():
            raise OwnCodeError(
                f"{config.method} returned its model and wrote no summary: call `summarise` of the board "
                "that it measures with (docs/extend.md) and run it again; what was made is kept"
            )
        run.write("recipe.json", config.model_dump(mode="json"))
        model = {"model": _within(root, newest.path), "name": newest.name, "digest": newest.digest}
        run.write("finished.json", {"identity": identity, **model})
    return Finished(root, was_finished=False)


def _elsewhere(
    config: MethodConfig, processes: int, machines: Machines | None
) -> Callable[[Path], dict[str, Any]] | None:
    """Return what trains a step in processes of its own; None: it is trained in this one."""
    if machines is None and processes == 1:
        return None
    if machines is None and config.engine.kind == "ray":
        return RayProcesses(config, config.engine, processes).train
    return Processes(config, processes, machines).train


def _anywhere(engine: EngineConfig) -> bool:
    """Tell whether trainings may take other machines than this one."""
    return engine.kind == "ray" and engine.replicas.address != "local"


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
    newest = method_of(config.method).run(config, run)
    if not isinstance(newest, ModelRef):
        raise OwnCodeError(
            f"`run` of {config.method} returned {newest!r}: it must return the model it ends with, e.g. "
            "`return board.leaving(newest)`"
        )
    return newest


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe would do."""

    root: Path
    steps: list[PlannedStep]
    needs: Needs
    takes: Estimate | None = None
    """On a cluster, where one was named."""


@dataclass(frozen=True, slots=True)
class On:
    """A cluster that a plan is worked out for."""

    cluster: str
    """As `64xh100`."""
    price: float | None = None
    """Of a GPU and hour; None: the assumed one of its kind."""
    times: int = 1
    """The recipe's data are counted so many times."""


def plan_recipe(
    path: Path,
    overrides: Sequence[str],
    out: str | Path | None,
    processes: int = 1,
    on: On | None = None,
) -> Plan:
    """Return the run's folder, its steps and what they would cost; train nothing and fetch no model.

    Raises:
        SelfImproveError: as the run would: the recipe, a model or a data file cannot be used; or there
            is no such cluster.
    """
    config = read_config(path, overrides)
    check(config, processes, anywhere=_anywhere(config.engine))
    require(config.trackers)
    need_for(config.model_dump(mode="json"))
    cluster = cluster_of(on.cluster) if on else None
    root = kept_at(out or default_folder(path, config))[0]
    with closing(Rehearsal(root, engine=config.engine, seed=config.seed)) as run:
        run_method(config, run)
        found = needs(run.uses, run.steps, run.absent, processes)
        takes = None
        if on is not None and cluster is not None:
            takes = estimate(run.steps, run.uses, cluster, price=on.price, times=on.times)
        return Plan(root, run.steps, found, takes)
