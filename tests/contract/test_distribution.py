"""What `make dist` built: its content, and the wheel at work where there is no checkout.

Runs where SELFIMPROVE_DIST names the folder of sdist and wheel, as `make build` and `make dist` do. What the wheel needs
is lent to its environment from this one, so that nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import selfimprove

_DIST = Path(os.environ.get("SELFIMPROVE_DIST", "")).absolute()
pytestmark = pytest.mark.skipif(
    "SELFIMPROVE_DIST" not in os.environ, reason="`make dist` builds a distribution and runs this"
)

_NEEDED = (
    "py.typed", "recipes/lmsi-tiny.yaml", "judges/prompts/", "kernels/decoding.c", "kernels/vectors.h",
    "tiny/models/tiny/model.safetensors", "tiny/models/tinier/model.safetensors", "report/templates/",
    "publish/templates/card.md.jinja", "data/improvement_templates/", "data/exemplar_files/",
)  # fmt: skip
_MOST_BYTES = 8_000_000


def _built(pattern: str) -> Path:
    found = sorted(_DIST.glob(pattern))
    assert len(found) == 1
    return found[0]


def test_the_wheel_holds_all_of_the_package_and_nothing_else() -> None:
    wheel = _built("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in _NEEDED:
        assert any(name.startswith(f"selfimprove/{needed}") for name in names), needed
    dist_info = f"selfimprove-{selfimprove.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"selfimprove", dist_info}
    assert f"{dist_info}/licenses/LICENSE" in names
    assert not [name for name in names if "__pycache__" in name or "/test" in name]
    assert wheel.stat().st_size < _MOST_BYTES


def test_the_source_distribution_holds_what_builds_it_and_no_tests_or_pages() -> None:
    with tarfile.open(_built("*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert {name.split("/")[0] for name in names} - {"pyproject.toml", "README.md", "LICENSE",
            "CHANGELOG.md", "PKG-INFO", ".gitignore", ""} == {"src", "recipes"}  # fmt: skip


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command of the installed wheel."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(_built("*.whl"))], check=True, timeout=300)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    lent = place / "lib" / version / "site-packages" / "lent.pth"
    lent.write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "selfimprove"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--version", f"selfimprove {selfimprove.__version__}\n"),
        ("--help", "Language models that improve themselves"),
        ("init lmsi", "method: lmsi"),
        ("run lmsi-tiny --dry-run", "round-1-paths"),
        ("models", "tiny"),
    ],
)
def test_an_installed_wheel_works_anywhere(
    command: Path, tmp_path: Path, words: str, said: str
) -> None:
    done = called(command, tmp_path, words)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_where_nothing_has_been_run_that_is_said(command: Path, tmp_path: Path) -> None:
    assert (
        "there is no folder runs; `selfimprove run` makes runs/"
        in called(command, tmp_path, "runs").stderr
    )


def called(command: Path, tmp_path: Path, words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "HOME": str(tmp_path)
    }
    return subprocess.run([str(command), *words.split()], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
