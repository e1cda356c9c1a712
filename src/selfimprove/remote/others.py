"""Any other file system that fsspec knows (hdfs://, sftp://, hf://, memory://): without conditional writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, final

from selfimprove.errors import ConfigError, RemoteError
from selfimprove.remote.objects import Listed

__all__ = ["Others"]


@final
class Others:
    """The files below one folder of such a file system."""

    conditional: Final = False

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        try:
            self._system, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise ConfigError(
                f"{url}: {error}; give a folder, or a URL such as s3://bucket/run, gs://bucket/run or "
                "az://container/run"
            ) from error
        self._root = root.rstrip("/")

    def names(self) -> dict[str, Listed]:
        """Return everything that is there."""
        with self._asked(""):
            self._system.invalidate_cache()
            found = self._system.find(self._root, detail=True)
        start = len(self._root) + 1
        return {path[start:]: self._listed(path, info) for path, info in found.items()}

    def _listed(self, path: str, info: Any) -> Listed:  # noqa: ANN401  fsspec's own dict
        made = info.get("mtime") or info.get("created") or 0.0
        when = made.timestamp() if isinstance(made, datetime) else float(made)
        return Listed(int(info["size"]), str(self._system.ukey(path)), when)

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return a file's content and tag; None: there is none."""
        try:
            with self._asked(name):
                tag = str(self._system.ukey(self._at(name)))
                return self._system.cat_file(self._at(name)), tag
        except FileNotFoundError:
            return None

    def fetch(self, name: str, to: Path) -> bool:
        """Write a file's content into one here; False: there is none."""
        try:
            with self._asked(name):
                self._system.get_file(self._at(name), str(to))
        except FileNotFoundError:
            return False
        return True

    def put(self, name: str, content: bytes | Path) -> str:
        """Write a file, whatever was there, and return its tag."""
        path = self._at(name)
        with self._asked(name):
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(content, Path):
                self._system.put_file(str(content), path)
            else:
                self._system.pipe_file(path, content)
            self._system.invalidate_cache()
            return str(self._system.ukey(path))

    def put_if(self, name: str, content: bytes, tag: str | None) -> str | None:
        """Look whether the file still has this tag, and write it then; None: it has another."""
        held = self.read(name)
        if (held[1] if held else None) != tag:
            return None
        return self.put(name, content)

    def delete(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are no error."""
        for name in names:
            try:
                with self._asked(name):
                    self._system.rm_file(self._at(name))
            except FileNotFoundError:
                continue

    def folders(self, depth: int, holding: str) -> list[str]:
        """Return the folders, at most `depth` levels down, that hold a file of this name."""
        parts = [name.split("/") for name in self.names()]
        return sorted("/".join(p[:-1]) for p in parts if p[-1] == holding and len(p) <= depth + 1)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _asked(self, name: str) -> Iterator[None]:
        """Say where it failed; what lies behind an fsspec URL raises what it likes, mostly OSErrors."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, NotImplementedError, ImportError) as error:
            place = f"{self.url}/{name}".rstrip("/")
            raise RemoteError(f"{place}: {type(error).__name__}: {error}; check the URL, the network and "
                              "your permissions there") from error  # fmt: skip
