"""Models on tasks of lm-evaluation-harness: what `selfimprove eval lm-eval` does.

The harness runs in a process of its own, by its command line: its seeds and caches are its own, and it
may live in another environment.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfimprove.errors import ConfigError, EngineError
from selfimprove.evaluation.harness.results import compared, read_results
from selfimprove.files import make_folder, read_json, write_json
from selfimprove.models import locate
from selfimprove.pip import last_words
from selfimprove.types import ModelRef

__all__ = ["FILE", "HarnessOptions", "measure_by_harness"]

FILE: Final = "harness.json"
"""In a run's folder: what the harness says of the run."""
_FOLDER: Final = "harness"
_LOG: Final = "lm_eval.log"


@dataclass(frozen=True, slots=True)
class HarnessOptions:
    """How the harness is called; the names are those of its command line."""

    tasks: tuple[str, ...]
    include_path: Path | None = None
    """A folder with tasks of one's own."""
    num_fewshot: int | None = None
    limit: int | None = None
    """First so many documents a task."""
    apply_chat_template: bool = False
    batch_size: str = "1"
    device: str | None = None
    model_args: tuple[str, ...] = ()
    """Further arguments of its model `hf`, as key=value, e.g. dtype=bfloat16."""
    python: Path = Path(sys.executable)
    """Of the environment in which it lives."""


def measure_by_harness(
    systems: Sequence[str], options: HarnessOptions, out: Path | None = None
) -> dict[str, Any]:
    """Return the harness's figures of each system, with intervals, paired with the first by document.

    A finished run alone is measured before and after: the model of its recipe, and the one it ended with;
    its figures are kept in its folder, from which the report shows them.

    Args:
        systems: models, or one finished run.
        options: tasks, and how the harness is called.
        out: a folder for what it writes; None: a run's own `harness`.

    Raises:
        ConfigError: the harness is not installed, or there is no folder to write to.
        DataError: it wrote no figures, or the systems were asked different documents.
        EngineError: a model is not there, or the harness failed; with its last words.
    """
    run = Path(systems[0]) if len(systems) == 1 and _is_run(Path(systems[0])) else None
    if run is None and out is None:
        raise ConfigError("give --out, a folder for what lm-evaluation-harness writes")
    _need(options.python)
    named = (
        [("before", _recipe_model(run)), ("after", str(run))] if run else [(s, s) for s in systems]
    )
    folder = out or Path(str(run)) / _FOLDER
    models = [(name, locate(model)) for name, model in named]
    found = []
    for number, (name, model) in enumerate(models):
        place = folder / f"{number}-{Path(name).name}"
        _call(model, options, place)
        found.append((name, read_results(place)))
    told = {
        "version": found[0][1].version,
        "options": _as_told(options),
        "models": [{"system": name, "model": m.name, "digest": m.digest} for name, m in models],
        "figures": compared(found),
    }
    write_json((run or folder) / FILE, told)
    return told


def _is_run(path: Path) -> bool:
    return (path / "recipe.json").is_file() and (path / "finished.json").is_file()


def _recipe_model(run: Path) -> str:
    return str(read_json(run / "recipe.json")["model"])


def _need(python: Path) -> None:
    if python == Path(sys.executable) and importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(
            "lm-evaluation-harness is not installed: pip install 'selfimprove[lm-eval]', or name the "
            "Python of an environment that has it (--python)"
        )


def _as_told(options: HarnessOptions) -> dict[str, Any]:
    return {
        "tasks": list(options.tasks),
        "num_fewshot": options.num_fewshot,
        "limit": options.limit,
        "apply_chat_template": options.apply_chat_template,
        "model_args": list(options.model_args),
    }


def _call(model: ModelRef, options: HarnessOptions, place: Path) -> None:
    make_folder(place)
    log = place / _LOG
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            _command(model, options, place), stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise EngineError(
            f"lm-evaluation-harness failed on {model.name} ({log}):\n{last_words(said)}"
        )


def _command(model: ModelRef, options: HarnessOptions, place: Path) -> list[str]:
    arguments = {"pretrained": model.path}
    arguments |= dict(word.split("=", 1) for word in options.model_args)
    words: dict[str, object] = {
        "--model": "hf",
        "--model_args": json.dumps(arguments),
        "--tasks": ",".join(options.tasks),
        "--output_path": place,
        "--batch_size": options.batch_size,
        "--include_path": options.include_path,
        "--num_fewshot": options.num_fewshot,
        "--limit": options.limit,
        "--device": options.device,
    }
    given = [str(w) for name, value in words.items() if value is not None for w in (name, value)]
    chat = ["--apply_chat_template"] if options.apply_chat_template else []
    return [str(options.python), "-m", "lm_eval", *given, "--log_samples", *chat]
