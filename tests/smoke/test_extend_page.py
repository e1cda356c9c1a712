"""docs/extend.md: the method that it shows, run, rehearsed, resumed and edited as a user would."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.smoke.dry_runs import check_bounds

import selfimprove as si
from selfimprove.errors import ConfigError, StaleStepError
from selfimprove.report.page import write
from selfimprove.runtime.launch import launch, read_config

_PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
_WORDS = [
    "model=tiny", "data={train: 'tiny:train[:48]', test: 'tiny:test[:16]'}", "most=0.8",
    "paths={m: 4, temperature: 1.0, max_tokens: 64}", "evaluation={modes: [cot], max_tokens: 64}",
    "sft={max_steps: 2}",
]  # fmt: skip


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.S)
    file = Path("close_calls.py")
    file.write_text(code)
    return file


@pytest.mark.slow
def test_a_method_of_ones_own_is_launched_rehearsed_reported_and_never_mixed_with_an_edit_of_it(
    method: Path,
) -> None:
    name = Path(f"{method}:METHOD")
    root = launch(name, _WORDS, None, lambda _line: None).root
    assert root == Path("runs/close_calls-seed0")
    assert launch(name, _WORDS, None, lambda _line: None).was_finished
    check_bounds(name, _WORDS, root)
    told = json.loads((root / "summary.json").read_text())
    assert (told["method"], told["headline"]["n"]) == ("close_calls", 16)
    assert "LMSI on close calls" in write([root], Path("page.html")).read_text()
    funnel = json.loads((root / "round-1-kept" / "done.json").read_text())["funnels"][0]
    assert funnel["name"] == "paths of close calls"
    assert si.Result.of(root).difference.n == 16

    method.write_text(method.read_text().replace("<= most", "< most"))
    with pytest.raises(StaleStepError, match=r"made_by was"):
        launch(name, _WORDS, None, lambda _line: None)


def test_a_wrong_key_or_name_is_told_as_in_a_shipped_method(method: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'most'"):
        read_config(Path(f"{method}:METHOD"), [*_WORDS, "mots=1"])
    with pytest.raises(ConfigError, match="holds nothing called 'METHODS'"):
        read_config(Path(f"{method}:METHODS"), _WORDS)
    with pytest.raises(ConfigError, match=r"is no method: it must be Method\(config, run\)"):
        read_config(Path(f"{method}:run"), _WORDS)
