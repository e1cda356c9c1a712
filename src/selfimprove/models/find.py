"""Which model: by name, a folder, a GGUF file or a hub id; pinned by the digest of its weights."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from selfimprove.errors import EngineError
from selfimprove.files import read_json
from selfimprove.models import cache, gguf, known
from selfimprove.remote import here, whole
from selfimprove.tiny import shipped
from selfimprove.types import ModelRef
from selfimprove.weights import weights_digest

__all__ = ["config_here", "find_here", "is_here", "is_hub_id", "locate"]


def locate(name: str) -> ModelRef:
    """Find a model by name, folder, `.gguf` file or hub id (`org/name@revision`).

    Names are those that ship (`tiny`, `tinier`) and those that `selfimprove models get` fetches. A
    finished run is a folder, too: the model it ended with. A GGUF file is converted once.

    Raises:
        EngineError: there is no such model here and it cannot be fetched, or it is not whole.
        DiskFullError: a GGUF file has no room to be converted.
    """
    folder = find_here(name) or _fetch(name)
    if not (folder / "config.json").is_file():
        raise EngineError(f"{folder} is no Hugging Face model folder: {_what_it_is(folder)}")
    try:
        digest = weights_digest(folder)
    except FileNotFoundError as error:
        raise EngineError(
            f"{folder} has a config.json and no *.safetensors; only safetensors weights are read: "
            "save the model again with save_pretrained(..., safe_serialization=True)"
        ) from error
    cache.refuse_if_changed(folder, digest)
    return ModelRef(name=name, path=str(folder), digest=digest)


def is_here(name: str) -> bool:
    """Tell whether a model is on this machine by name, folder or file, so that nothing is fetched."""
    if name in known.KNOWN:
        return known.find(name) is not None
    return name in shipped.NAMES or Path(name).expanduser().exists()


def config_here(name: str) -> Path | None:
    """Return a folder with the model's config.json, its weights there or not; None: not here.

    Nothing is fetched and nothing converted; of a hub id, the file in the hub's own cache will do.

    Raises:
        EngineError: the name is none of a model, or names a folder without config.json.
    """
    path = Path(name).expanduser()
    if name in known.KNOWN:
        return known.find(name)
    if path.is_file() and _is_gguf(name):
        return gguf.find(path)
    folder = find_here(name)
    if folder is None:
        return _cached_config(name)
    if not (folder / "config.json").is_file():
        raise EngineError(f"{folder} is no Hugging Face model folder: {_what_it_is(folder)}")
    return folder


def _cached_config(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def is_hub_id(name: str) -> bool:
    """Tell whether a name has the shape owner/name[@revision].

    >>> is_hub_id("Qwen/Qwen2.5-7B-Instruct"), is_hub_id("./models/mine"), is_hub_id("tiny")
    (True, False, False)
    """
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not _is_gguf(name)


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def find_here(name: str) -> Path | None:
    """Return the folder of a model that needs no network; None for a hub id.

    Raises:
        EngineError: the name is none of a model, or its model is not here.
    """
    if name in shipped.NAMES:
        return shipped.folder(name)
    if name in known.KNOWN:
        return known.place_or_refuse(name)
    path = here(name).expanduser()
    if path.is_dir():
        return _of_run(path.resolve())
    if path.is_file():
        if _is_gguf(name):
            return gguf.folder_of(path)
        raise EngineError(f"{path} is a file: a model is a folder, a .gguf file or a hub id")
    if is_hub_id(name):
        return None
    names = (*shipped.NAMES, *known.KNOWN)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise EngineError(
        f"no model at {name!r}: {hint}give a name ({', '.join(names)}), a folder, "
        "a .gguf file, or a hub id such as Qwen/Qwen2.5-7B-Instruct"
    )


def _of_run(folder: Path) -> Path:
    """Return the model that a finished run ended with; any other folder stays what it is."""
    if (folder / "config.json").is_file() or not (folder / "finished.json").is_file():
        return folder
    return finished_model(folder)


def finished_model(run: Path) -> Path:
    """Return the folder of the model that a finished run ended with.

    Raises:
        StoreError: its finished.json is damaged.
    """
    told = read_json(run / "finished.json")
    folder = run / str(told["model"])
    whole(folder)
    if not folder.is_dir() and Path(told["model"]).is_absolute() and "name" in told:
        return _base(told["name"], told["digest"])
    return folder


def _base(name: str, digest: str) -> Path:
    """Return the model that a run began with, and ended with, where it lies on this machine."""
    found = locate(name)
    if found.digest != digest:
        raise EngineError(
            f"the run ended with the model it began with, {name}, and {found.path} holds other weights: "
            "put those of the run there"
        )
    return Path(found.path)


def _what_it_is(folder: Path) -> str:
    files = sorted(folder.glob("*.gguf"))
    if files:
        return f"it has no config.json; name the GGUF file itself, {files[0]}"
    if (folder / "recipe.json").is_file():
        return "it is a run that has not finished; run it to its end, or name a model within it"
    inside = sorted(path.parent for path in folder.glob("*/config.json"))
    if inside:
        return f"it has no config.json, but {inside[0]} has one"
    return "it has no config.json"


def _fetch(name: str) -> Path:
    """Download from the hub, weights as safetensors only (a pickle could run code)."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    repository, _, revision = name.partition("@")
    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "*.txt",
                "README.md", "LICEN[SC]E*"]  # fmt: skip
    try:
        found = snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise EngineError(
            f"there is no folder {name!r} here, and it could not be fetched from the hub "
            f"({type(error).__name__}): check the name and the network, or download it and give its "
            "folder"
        ) from error
    return Path(found)
