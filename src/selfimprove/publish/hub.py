"""To the Hugging Face hub: one folder, one commit, and what to do where it is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from selfimprove.errors import ConfigError, HubError
from selfimprove.publish.card import Form
from selfimprove.publish.export import export
from selfimprove.publish.gguf_weights import GgufType

__all__ = ["Pushed", "push"]

_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+")
_TAKEN, _NO_TOKEN, _FORBIDDEN = 409, 401, 403


class Pushed(NamedTuple):
    """What was uploaded, or would be."""

    url: str
    """Where it is; of a dry run, where it would be."""
    files: tuple[tuple[str, int], ...]
    """Names and bytes."""
    card: str


def push(  # noqa: PLR0913  each is an option of the command line
    what: str,
    name: str,
    form: Form = "hf",
    dtype: GgufType | None = None,
    *,
    private: bool = False,
    update: bool = False,
    dry_run: bool = False,
) -> Pushed:
    """Upload a run's model, or a model, with its card, to a new repository of the hub.

    Args:
        what: as `export` takes it.
        name: of the repository, user/name.
        form: what is uploaded.
        dtype: of a GGUF file.
        private: nobody else sees it.
        update: the repository may be there, and gets one more commit.
        dry_run: write the folder, tell what is in it, and ask no network.

    Raises:
        ConfigError: the name is none of a repository.
        HubError: there is no token, no network, the name is taken, or the hub refuses.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} names no repository: give user/name, or organisation/name")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, constants, get_token

    if not dry_run and get_token() is None:
        raise HubError(
            "the hub wants to know who you are, and there is no token: make one that may write at "
            f"{constants.ENDPOINT}/settings/tokens, then `hf auth login`, or set HF_TOKEN"
        )
    with TemporaryDirectory(prefix="selfimprove-push-") as workspace:
        folder = export(what, Path(workspace) / "model", form, dtype).place
        files = tuple((f.name, f.stat().st_size) for f in sorted(folder.iterdir()))
        card = (folder / "README.md").read_text(encoding="utf-8")
        url = f"{constants.ENDPOINT}/{name}"
        if not dry_run:
            api = HfApi()
            with _explained(name, str(constants.ENDPOINT)):
                api.create_repo(name, private=private, exist_ok=update)
                api.upload_folder(
                    repo_id=name, folder_path=folder, commit_message="Upload by selfimprove"
                )
    return Pushed(url, files, card)


@contextmanager
def _explained(name: str, endpoint: str) -> Iterator[None]:
    """Say what to do when the hub, or the way to it, refuses."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # Of whichever HTTP library this version of the hub's client is built on.
    kinds: tuple[type[Any], ...] = HfHubHTTPError.__mro__
    lost = next((kind for kind in kinds if kind.__name__ == "HTTPError"), HfHubHTTPError)
    try:
        yield
    except HfHubHTTPError as error:
        code = error.response.status_code
        raise HubError(f"{endpoint} refused {name} ({code}): {_way_out(code, error)}") from error
    except OfflineModeIsEnabled as error:
        raise HubError("HF_HUB_OFFLINE is set: unset it, and push again") from error
    except (lost, ConnectionError, TimeoutError, RuntimeError) as error:  # the last: of one file
        raise HubError(
            f"{endpoint} cannot be reached ({type(error).__name__}): check the network (HTTPS_PROXY, "
            "HF_ENDPOINT), and push again; or `selfimprove export` here, and upload that folder elsewhere"
        ) from error


def _way_out(code: int, error: Exception) -> str:
    if code == _TAKEN:
        return "the name is taken: choose another, or add a commit to your own with --update"
    if code == _NO_TOKEN:
        return "the token is not valid: `hf auth login` with one that may write"
    if code == _FORBIDDEN:
        return (
            "the token may not write there: check the user or organisation, and the token's rights"
        )
    return str(error).splitlines()[0]
