"""A finished run, or a model, as something that others can use: a folder, adapters, or a GGUF file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

from selfimprove.errors import ConfigError, StoreError
from selfimprove.files import make_folder, require_room, writing_to
from selfimprove.models import locate
from selfimprove.publish.adapter import write_adapter
from selfimprove.publish.card import Form, card_of, hub_id_of
from selfimprove.publish.gguf_file import About, write_gguf
from selfimprove.publish.gguf_weights import GgufType
from selfimprove.publish.licence import licence_of
from selfimprove.publish.subject import Subject, subject_of

__all__ = ["Made", "export"]

_OURS: Final = ("origin.json", "README.md")  # not to be copied: a note of the cache; the card


class Made(NamedTuple):
    """What was written."""

    place: Path
    """The folder, or the GGUF file where one was asked for by name."""
    base_kept: bool
    """Whether the run ended with the model that it began with."""


def export(what: str, out: Path, form: Form | None = None, dtype: GgufType | None = None) -> Made:
    """Write a run's model, or a model, with a model card, complete or not at all.

    Args:
        what: a run's folder, or a model by name, folder or hub id.
        out: a folder that is not there yet; or a file OUT.gguf, which has no card beside it.
        form: hf: a Hugging Face folder; gguf; adapter: a PEFT folder; None: by the name of `out`.
        dtype: of a GGUF file's matrices; None: as the model has them.

    Raises:
        ConfigError: these do not go together.
        StoreError: `out` is there already, cannot be written, or the run has not finished.
        EngineError: there is no such model, or llama.cpp cannot have it.
        TrainingError: an adapter is asked for, and the run did not train adapters.
    """
    as_file = out.suffix == ".gguf"
    form = form or ("gguf" if as_file else "hf")
    if as_file and form != "gguf":
        raise ConfigError(f"{out} names a GGUF file, and --format {form} writes a folder")
    if dtype is not None and form != "gguf":
        raise ConfigError(
            "--dtype is for GGUF files: a folder has the weights that were measured; another precision "
            "is set by the recipe's export.dtype, and measured as such"
        )
    if out.exists():
        raise StoreError(f"{out} is there already: delete it, or choose another name")
    subject = subject_of(what)
    if as_file:
        write_gguf(subject.model, out, dtype or "auto", _about(subject))
    else:
        with _new_folder(out) as folder:
            _fill(subject, form, dtype, folder)
    ended = subject.run is not None and subject.model == subject.base_folder
    return Made(out, ended)


def _about(subject: Subject) -> About:
    said = subject.run.summary.title if subject.run is not None else None
    return About(subject.name, licence_of(subject.base_folder).name, said or "")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its name when all is in it."""
    make_folder(out.parent)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    with writing_to(out):
        try:
            partial.mkdir()
            yield partial
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _fill(subject: Subject, form: Form, dtype: GgufType | None, folder: Path) -> None:
    file = ""
    if form == "gguf":
        kind: GgufType | Literal["auto"] = dtype or "auto"
        file = f"{subject.name}{'' if dtype is None else f'-{dtype}'}.gguf"
        write_gguf(subject.model, folder / file, kind, _about(subject))
    elif form == "adapter":
        _fill_adapter(subject, folder)
    else:
        require_room(folder, sum(f.stat().st_size for f in subject.model.glob("*") if f.is_file()))
        shutil.copytree(
            subject.model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_OURS)
        )
    for text in licence_of(subject.base_folder).files:
        shutil.copy(text, folder / text.name)
    own = subject.model / "README.md"
    if subject.run is None and form == "hf" and own.is_file():
        shutil.copy(own, folder)  # what its maker says of it
    else:
        (folder / "README.md").write_text(card_of(subject, form, file), encoding="utf-8")


def _fill_adapter(subject: Subject, folder: Path) -> None:
    if subject.base is None:
        raise ConfigError(
            "an adapter is taken from a run, which knows its base: give a run's folder"
        )
    base = locate(subject.base)
    hub_id = hub_id_of(subject.base)
    exact_hub_id = hub_id if hub_id and subject.base.partition("@")[0] == hub_id else None
    revision = _revision(subject.base, Path(base.path)) if exact_hub_id else None
    write_adapter(subject.exact(), Path(base.path), folder, exact_hub_id or subject.base, revision)


def _revision(name: str, folder: Path) -> str | None:
    """Return the revision that a recipe names, or the commit that the hub's cache holds."""
    named = name.partition("@")[2]
    return named or (folder.name if folder.parent.name == "snapshots" else None)
