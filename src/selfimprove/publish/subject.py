"""What is published: a finished run, with the model that it ended with, or a model alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfimprove.errors import StoreError
from selfimprove.models import config_here, finished_model, locate
from selfimprove.report.run_folder import RunFolder, read_run

__all__ = ["Subject", "subject_of"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, and the run it came from."""

    name: str
    """A short one, for files and titles."""
    model: Path
    """Its Hugging Face folder, as it left the run."""
    run: RunFolder | None
    """None: a model that no run here made."""

    @property
    def base(self) -> str | None:
        """What the run's recipe calls the model that it began with; None: no run."""
        return str(self.run.recipe["model"]) if self.run is not None else None

    @property
    def base_folder(self) -> Path | None:
        """Return where the base lies, or of a model alone itself; None: not on this machine."""
        return self.model if self.base is None else config_here(self.base)

    def exact(self) -> Path:
        """Return the folder of the same model before it was rounded, in float32."""
        step = self.model.parent.name
        before = self.model.parents[1] / step.removesuffix("-export") / "model"
        return before if step.endswith("-export") and before.is_dir() else self.model


def subject_of(what: str) -> Subject:
    """Find a run or a model by name, folder, `.gguf` file or hub id.

    Raises:
        EngineError: there is no such model.
        StoreError: the run has not finished.
    """
    folder = Path(what).expanduser()
    if not (folder / "recipe.json").is_file():
        model = locate(what)
        return Subject(_short(what), Path(model.path), None)
    if not (folder / "finished.json").is_file():
        raise StoreError(
            f"{folder} has not finished: run its recipe again with the same --out first"
        )
    model_folder = finished_model(folder)
    locate(str(model_folder))  # refuses one that is not whole
    return Subject(folder.resolve().name, model_folder, read_run(folder))


def _short(name: str) -> str:
    return Path(name.partition("@")[0]).expanduser().name.removesuffix(".gguf") or name
