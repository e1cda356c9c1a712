"""docs/python.md as a program: its blocks are run one after the other, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import selfimprove as si
from selfimprove.errors import DataError, StaleStepError

_PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.S)
    assert len(blocks) == 7
    space: dict[str, Any] = {}
    for block in blocks:
        exec(block, space)
    said = capsys.readouterr().out
    assert "runs/first.html" in said
    assert said.endswith("select * from t\n")

    result = space["result"]
    assert result.before.n == result.difference.n == 20
    assert result.before.interval is not None
    assert result.difference.value == pytest.approx(result.after.value - result.before.value)
    assert result.unit == "share"
    again = si.Result.of(result.folder)
    assert (again.config, again.difference) == (result.config, result.difference)
    assert "<table>" in result._repr_html_()
    assert str(result.difference) in str(result)
    assert result.table("round-1-votes").num_rows <= 24
    with pytest.raises(DataError, match="no one step 'nothing'"):
        result.table("nothing")
    assert (tmp_path / "models" / "student" / "config.json").is_file()
    with pytest.raises(StaleStepError, match="made from other inputs"):
        si.fine_tune(space["model"], space["rows"], out="models/student", epochs=2)
