"""The page: one HTML file that needs nothing else and may fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from selfimprove.errors import DataError
from selfimprove.files import make_folder, write_replacing
from selfimprove.remote import as_url, here, send
from selfimprove.report import wording
from selfimprove.report.axis import axis
from selfimprove.report.compare import compare
from selfimprove.report.figures import figures_of
from selfimprove.report.names import names_of
from selfimprove.report.run_folder import RunFolder, read_run
from selfimprove.report.sections import SECTIONS

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["data_json", "write"]

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("page.js", "texts.js")
_STYLES = ("page.css", "texts.css")
_DATA_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write(runs: Sequence[Path], out: Path) -> Path:
    """Write the page of one run, or of several side by side, and return where it lies; both may be URLs.

    Raises:
        DataError: a folder is not a run, or one of its files is damaged.
        DiskFullError: there is no room for the page.
    """
    if not runs:
        raise DataError("no run to report on: give at least one run folder")
    runs = [here(run) for run in runs]
    held = {name: read_run(path) for name, path in zip(names_of(runs), runs, strict=True)}
    page = _render(held)
    if url := as_url(out):
        with TemporaryDirectory(prefix="selfimprove-report-") as folder:
            send(_written(page, Path(folder) / "report.html"), url)
        return out
    make_folder(out.parent)
    return _written(page, out)


def _written(page: str, out: Path) -> Path:
    # A lone surrogate can come from a JSON escape; it has no UTF-8 form.
    write_replacing(out, page.encode("utf-8", errors="replace"))
    return out


def data_json(value: object) -> str:
    r"""Return JSON that can stand inside a script element, whatever text it carries.

    >>> data_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_DATA_ESCAPES)


def _render(runs: dict[str, RunFolder]) -> str:
    environment = _environment()
    figures = {name: figures_of(run) for name, run in runs.items()}
    script = "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        style="\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _STYLES),
        script=script,
        script_hash=f"sha256-{digest}",
        runs=[
            _run_context(name, runs[name], held, alone=len(runs) == 1)
            for name, held in figures.items()
        ],
        comparison=compare(figures, runs) if len(runs) > 1 else None,
    )


def _run_context(
    name: str, run: RunFolder, figures: dict[str, Any], *, alone: bool
) -> dict[str, Any]:
    shown = [s for s in SECTIONS if figures[s.name] is not None and (alone or not s.alone)]
    embedded = {s.name: data_json(s.embedded(run)) for s in shown if s.embedded}
    return {"name": name, "figures": figures, "sections": shown, "embedded": embedded}


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(axis=axis, wording=wording)
    environment.filters.update(
        amount=wording.amount,
        change_of=wording.change_of,
        percent=wording.percent,
        points=wording.points,
        span=wording.span,
        count=wording.count,
        duration=wording.duration,
        setting=wording.setting,
    )
    return environment
