"""Which model: a shipped one by name, a folder, or a hub id; pinned by the digest of its weights."""

from __future__ import annotations

import os
from pathlib import Path

from selfimprove.errors import EngineError
from selfimprove.types import ModelRef
from selfimprove.weights import weights_digest

__all__ = ["is_here", "is_hub_id", "locate"]


def locate(name: str) -> ModelRef:
    """Find a model by shipped name (`tiny`, `tinier`), folder or hub id (`org/name@revision`).

    Raises:
        EngineError: there is no such model here and it cannot be fetched.
    """
    folder = _folder(name)
    if not (folder / "config.json").is_file():
        raise EngineError(f"{folder} holds no config.json: it is not a Hugging Face model folder")
    return ModelRef(name=name, path=str(folder), digest=weights_digest(folder))


def is_here(name: str) -> bool:
    """Tell whether a model is on this machine by name or folder, so that nothing is fetched."""
    from selfimprove.tiny import shipped

    return name in shipped.NAMES or Path(name).expanduser().is_dir()


def is_hub_id(name: str) -> bool:
    """Tell whether a name has the shape owner/name[@revision].

    >>> is_hub_id("Qwen/Qwen2.5-7B-Instruct"), is_hub_id("./models/mine"), is_hub_id("tiny")
    (True, False, False)
    """
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _folder(name: str) -> Path:
    from selfimprove.tiny import shipped

    if name in shipped.NAMES:
        return shipped.folder(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if not is_hub_id(name):
        raise EngineError(
            f"no model at {name!r}: give a shipped name ({', '.join(shipped.NAMES)}), a folder, "
            "or a hub id such as Qwen/Qwen2.5-7B-Instruct"
        )
    return _fetch(name)


def _fetch(name: str) -> Path:
    """Download from the hub, weights as safetensors only (a pickle could run code)."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "*.txt"]
    try:
        found = snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EngineError(
            f"could not fetch {name!r} from the hub ({type(error).__name__}): check the name and "
            "the network, or download it and give its folder"
        ) from error
    return Path(found)
