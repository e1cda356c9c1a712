"""S3, Google Cloud Storage and Azure Blob Storage, by obstore: conditional writes, retries with jitter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, final

from selfimprove.errors import ConfigError, RemoteError
from selfimprove.remote.objects import Listed

__all__ = ["Cloud", "is_cloud"]

_SCHEMES: Final = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss")
_PART: Final = 16 * 2**20  # bytes of an upload in parts, of which there may be 10,000
_PARTS: Final = 9_000
_SOURCE: Final = re.compile(r"\s*Debug source:.*", re.DOTALL)


def is_cloud(url: str) -> bool:
    """Tell whether a URL is one of an object store.

    >>> is_cloud("s3://bucket/run"), is_cloud("memory://run")
    (True, False)
    """
    return url.partition(":")[0] in _SCHEMES


@final
class Cloud:
    """The objects below a prefix of a bucket."""

    conditional: Final = True

    def __init__(self, url: str, patience_s: float) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            raise ConfigError(
                f"{url}: runs in an object store need an extra: pip install 'selfimprove[s3]', in a "
                f"checkout '.[s3]' ({error})"
            ) from None
        self.url = url
        self._of = obstore
        self._seen: dict[str, dict[str, str]] = {}
        with self._asked(""):
            self._store = from_url(url, **_settings(url, patience_s))

    def names(self) -> dict[str, Listed]:
        """Return everything that is there."""
        with self._asked(""):
            batches = [list(batch) for batch in self._of.list(self._store)]
        return {meta["path"]: self._listed(meta) for batch in batches for meta in batch}

    def _listed(self, meta: Any) -> Listed:  # noqa: ANN401  obstore's ObjectMeta
        return Listed(
            meta["size"], self._note(meta["path"], meta), meta["last_modified"].timestamp()
        )

    def _note(self, name: str, meta: Any) -> str:  # noqa: ANN401  ObjectMeta or PutResult
        """Remember by what a version is known: S3 wants its tag, Google its generation."""
        held = {key: meta[key] for key in ("e_tag", "version") if meta.get(key)}
        self._seen[name] = held
        return str(held.get("e_tag", ""))

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return an object's content and tag; None: there is none."""
        try:
            with self._asked(name):
                got = self._of.get(self._store, name)
                return bytes(got.bytes()), self._note(name, got.meta)
        except FileNotFoundError:
            return None

    def fetch(self, name: str, to: Path) -> bool:
        """Write an object's content into a file; False: there is none."""
        try:
            with self._asked(name), to.open("wb") as file:
                for chunk in self._of.get(self._store, name).stream(min_chunk_size=_PART):
                    file.write(chunk)
        except FileNotFoundError:
            return False
        return True

    def put(self, name: str, content: bytes | Path) -> str:
        """Write an object, whatever was there, and return its tag."""
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        with self._asked(name):
            part = max(_PART, size // _PARTS)
            return self._note(name, self._of.put(self._store, name, content, chunk_size=part))

    def put_if(self, name: str, content: bytes, tag: str | None) -> str | None:
        """Write an object where the one there still has this tag; None: it was changed by somebody."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create"
        if tag is not None:
            seen = self._seen.get(name, {})
            mode = seen if seen.get("e_tag") == tag else {"e_tag": tag}
        try:
            with self._asked(name):
                made = self._of.put(self._store, name, content, mode=mode, use_multipart=False)
                return self._note(name, made)
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError:  # what was to be replaced has been deleted
            return None

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        if several := list(names):
            with self._asked(several[0]):
                try:
                    self._of.delete(self._store, several)
                except FileNotFoundError:
                    return

    def folders(self, depth: int, holding: str) -> list[str]:
        """Return the folders, at most `depth` levels down, that hold an object of this name."""
        found, level = [], [""]
        for _ in range(depth + 1):
            below: list[str] = []
            for folder in level:
                with self._asked(folder):
                    told = self._of.list_with_delimiter(self._store, folder or None)
                if any(meta["path"].rpartition("/")[2] == holding for meta in told["objects"]):
                    found.append(folder)
                else:
                    below += told["common_prefixes"]
            level = below
        return found

    @contextmanager
    def _asked(self, name: str) -> Iterator[None]:
        """Say where it failed and what to do; a bucket that is not there is no missing object."""
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        place = f"{self.url}/{name}".rstrip("/")
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise RemoteError(_way_out(place, str(error))) from error
            raise
        except BaseError as error:
            raise RemoteError(_way_out(place, str(error))) from error


_WAYS_OUT: Final = (
    (("NoSuchBucket", "ContainerNotFound", "bucket does not exist"),
     "there is no such bucket: make it, or check the name"),
    (("169.254.169.254", "metadata.google.internal", "Missing AccessKeyId", "Missing SecretAccessKey"),
     "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (Google: "
     "GOOGLE_APPLICATION_CREDENTIALS; Azure: AZURE_STORAGE_ACCOUNT_NAME and _KEY), or pip install boto3, by "
     "which profiles in ~/.aws are read"),
    (("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "401 Unauthorized"),
     "the credentials are wrong: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    (("ExpiredToken",), "the credentials have expired: renew them"),
    (("403 Forbidden", "AccessDenied", "PermissionDenied"),
     "access is denied: these credentials need to list, read, write and delete below that URL"),
    (("301 Moved", "PermanentRedirect", "AuthorizationHeaderMalformed"),
     "the bucket lies in another region: set AWS_REGION"),
    (("RequestTimeTooSkewed",), "this machine's clock is wrong: set it"),
)  # fmt: skip
_UNREACHABLE: Final = (
    "it cannot be reached, or does not work as it should: check the network and AWS_ENDPOINT_URL"
)


def _way_out(place: str, said: str) -> str:
    ways = (way for words, way in _WAYS_OUT if any(word in said for word in words))
    detail = " ".join(_SOURCE.sub("", said).split())
    return f"{place}: {next(ways, _UNREACHABLE)} ({detail[:300]})"


def _settings(url: str, patience_s: float) -> dict[str, Any]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    told: dict[str, Any] = {
        "client_options": {"allow_http": endpoint.startswith("http://"), "timeout": "30s"},
        "retry_config": {
            # By the time alone: from 0.2 to 10 s apart, with jitter.
            "max_retries": 1_000,
            "retry_timeout": timedelta(seconds=patience_s),
            "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10),
                        "base": 2},
        },
    }  # fmt: skip
    if url.startswith("s3") and (provider := _of_profile(url)) is not None:
        told["credential_provider"] = provider
    return told


def _of_profile(url: str) -> Any:  # noqa: ANN401  obstore's provider
    """Return what reads the credentials of a profile in ~/.aws; None: the environment's, or the machine's role."""
    by_profile = os.environ.get("AWS_PROFILE") or Path("~/.aws").expanduser().is_dir()
    own = "AWS_ACCESS_KEY_ID" in os.environ or "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ
    if not by_profile or own or find_spec("boto3") is None:
        return None
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except ValueError:  # the profile has none
        return None
    except BotoCoreError as error:
        raise RemoteError(f"{url}: {error}: check AWS_PROFILE and ~/.aws") from error
