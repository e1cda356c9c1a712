"""What the commands share that train one model (`selfimprove sft`, `selfimprove reward`): OUT becomes that model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from selfimprove.config import Config, apply_override, load
from selfimprove.data.sources import Sources
from selfimprove.errors import StoreError
from selfimprove.files import writing_to
from selfimprove.remote import Here, kept_at
from selfimprove.sampling.engine import EngineConfig, PromptLayout
from selfimprove.store import Run
from selfimprove.tracking.config import Trackers

__all__ = ["OneModelConfig", "becoming", "config_of_words", "put_on_top"]


class OneModelConfig(Config):
    """Which model is trained on what."""

    block: ClassVar[str]
    """The field that says how."""
    model: str
    """The model to start from: a name, a folder, a GGUF file or a hub id."""
    data: Sources
    """Rows, as files, `format:file` or hub ids."""
    chat: bool = False
    """Put plain prompts into a user turn of the chat template; rows of messages always get it."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, e.g. {enable_thinking: false}."""
    seed: int = 0
    """Seeds the order of the rows, which are held out, and the trainer."""
    trackers: Trackers = ()

    aside: ClassVar[frozenset[str]] = frozenset({"trackers"})

    @property
    def shown(self) -> PromptLayout:
        """How the model reads prompts, in training as in measuring."""
        return PromptLayout(chat=self.chat, chat_template_kwargs=self.chat_template_kwargs)


OfCommand = TypeVar("OfCommand", bound=OneModelConfig)


def config_of_words(
    kind: type[OfCommand],
    model: str,
    data: Sequence[str],
    overrides: Sequence[str],
    limit: int | None,
) -> OfCommand:
    """Return the config of a command line; a key that is no field of it is one of its training block.

    Raises:
        ConfigError: an override is unknown or does not fit.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        first = override.partition("=")[0].partition(".")[0]
        ours = first in kind.model_fields
        apply_override(tree, override if ours else f"{kind.block}.{override}")
    config = load(kind, {"model": model, "data": list(data), **tree}, kind.block)
    return config.model_copy(update={"data": tuple(s.at_most(limit) for s in config.data)})


@contextmanager
def becoming(
    out: Path, announce: Callable[[str], None], engine: EngineConfig | None = None
) -> Iterator[Run]:
    """Open the folder that becomes the model as a run, and close it whatever happens; `engine` serves it.

    Raises:
        StoreError: it holds a model that no command of this kind made, or cannot be written.
        LockedRunError: another process is at it.
    """
    root, keeper = kept_at(out)
    if (root / "config.json").exists() and not (root / "training").is_dir():
        raise StoreError(f"{out} holds a model that this command did not make: give another --out")
    with closing(Run(root, announce, engine=engine or EngineConfig(), keeper=keeper)) as run:
        yield run


def put_on_top(model: Path, run: Run) -> None:
    """Give the model's files a second name in the run's folder; config.json, which makes it a model, last.

    Where a URL keeps the run it becomes a finished run instead, whose model is this one.
    """
    out = run.root
    if not isinstance(run.keeper, Here):
        run.write("finished.json", {"model": str(model.relative_to(out))})
        return
    with writing_to(out):
        files = sorted(model.iterdir(), key=lambda file: (file.name == "config.json", file.name))
        for file in files:
            partial = out / f"{file.name}.partial"
            partial.unlink(missing_ok=True)
            try:
                os.link(file, partial)
            except OSError:  # a file system without hard links, or a disk that is full: as below
                shutil.copyfile(file, partial)
            partial.replace(out / file.name)
