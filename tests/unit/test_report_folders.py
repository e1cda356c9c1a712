"""The report and folders that are not what it hopes for; numbers put into words."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from selfimprove.errors import DataError
from selfimprove.report import axis, page, wording
from selfimprove.report.axis import axis as axis_of
from selfimprove.report.figures import figures
from selfimprove.report.page import write
from selfimprove.report.sections import SECTIONS, accuracy

TEMPLATES = Path(page.__file__).parent / "templates"


def put(root: Path, **files: str) -> Path:
    """Write files into a folder; a double underscore in a name stands for a folder below."""
    for name, content in files.items():
        folder, _, file = name.rpartition("__")
        (root / folder).mkdir(parents=True, exist_ok=True)
        suffix = ".parquet" if file.startswith("shard") else ".json"
        (root / folder / f"{file.replace('_', '-')}{suffix}").write_text(content, encoding="utf-8")
    return root


def test_a_run_without_any_step_still_gives_a_page(tmp_path: Path) -> None:
    run = put(tmp_path / "run", recipe='{"method": "pit", "seed": null}')
    text = write([run], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No step is finished" in text
    assert "pit" in text


def test_a_summary_of_another_method_without_our_keys_gives_a_page(tmp_path: Path) -> None:
    run = put(tmp_path / "run", recipe='{"method": "pit"}', summary='{"win_rate": 0.6}')
    held = figures(run)
    assert held["finished"]
    assert held["notice"] is None
    assert held["headline"] is None
    assert write([run], tmp_path / "page.html").exists()


def test_a_run_whose_gate_stopped_every_round_says_that_the_base_stays(tmp_path: Path) -> None:
    told = {
        "headline": {"metric": "accuracy", "set": "a, b", "arm": "base", "before": 0.6, "after": 0.6,
                     "difference": 0.0, "interval": [0.0, 0.0], "n": 40},
        "gate": [{"round": 1, "promoted": False, "difference": -0.1, "interval": [-0.2, -0.05]}],
    }  # fmt: skip
    run = put(tmp_path / "run", recipe="{}", summary=json.dumps(told))
    assert figures(run)["headline"]["sentence"] == (
        "No improvement shown: accuracy on a, b went from 60.0% to 60.0%, 0.0 points; the 95% "
        "interval 0.0 to 0.0 contains zero (40 questions). No round passed the gate, so the base "
        "model stays."
    )


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (None, "there is no folder"),
        ({"notes": "{}"}, "it has no recipe.json"),
        ({"inner__recipe": "{}"}, "is not a run but holds some: give .*inner"),
        ({"recipe": "[1]"}, "it has no recipe.json"),
    ],
)
def test_a_folder_that_is_no_run_is_refused_with_advice(
    tmp_path: Path, files: dict[str, str] | None, advice: str
) -> None:
    if files is not None:
        put(tmp_path / "run", **files)
    with pytest.raises(DataError, match=advice):
        write([tmp_path / "run"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"summary": "{"}, "summary.json is damaged"),
        ({"summary": '{"headline": {"metric": "x"}}'}, "headline.before: Field required"),
        ({"summary": '{"headline": {"metric": "m", "before": NaN}}'}, "headline.before: Input should be"),
        ({"lineage": '[{"role": 3}]'}, "lineage.json: 0."),
        (
            {"round-1-votes__step": "{}", "round-1-votes__done": "{}",
             "round-1-votes__shard_00000": "PAR1"},
            "shard-00000.parquet cannot be read",
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    run = put(tmp_path / "run", recipe="{}", **files)
    with pytest.raises(DataError, match=re.escape(said)):
        figures(run)


def test_no_run_and_one_run_twice_are_refused(tmp_path: Path) -> None:
    run = put(tmp_path / "run", recipe="{}")
    with pytest.raises(DataError, match="at least one run folder"):
        write([], tmp_path / "page.html")
    with pytest.raises(DataError, match="given twice"):
        write([run, run / ".." / "run"], tmp_path / "page.html")


def test_a_lone_surrogate_from_a_json_escape_does_not_stop_the_page(tmp_path: Path) -> None:
    run = put(tmp_path / "run", recipe=json.dumps({"model": "\ud800"}))
    assert write([run], tmp_path / "page.html").exists()


def test_an_axis_covers_its_values_and_keeps_fractions_between_0_and_1() -> None:
    assert axis_of([0.97, 1.0]).ticks == (0.92, 0.94, 0.96, 0.98, 1.0)
    assert axis_of([-0.07, 0.16, 0.0], fractions=False).ticks == (-0.1, 0.0, 0.1, 0.2)
    assert axis_of([0.2, 0.8]).at(0.5) == 50.0
    assert axis_of([]).at(2.0) == 100.0


def test_every_section_has_its_template() -> None:
    files = {path.stem for path in (TEMPLATES / "sections").glob("*.html")}
    assert {section.name for section in SECTIONS} == files


@pytest.mark.parametrize("module", [axis, page, wording, accuracy])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_importing_the_report_is_light() -> None:
    code = (
        "import sys, selfimprove.report.page as page; "
        "print({'jinja2', 'pyarrow', 'numpy', 'torch'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
