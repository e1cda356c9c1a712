"""lm-evaluation-harness's files as they are read: figures with intervals, paired by document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_report_folders import put

from selfimprove.errors import ConfigError, DataError
from selfimprove.evaluation.harness.measure import HarnessOptions, measure_by_harness
from selfimprove.evaluation.harness.results import compared, read_results
from selfimprove.report.sections import harness

STAMP = "2026-11-27T22-02-19.836981"


def write(folder: Path, right: list[float], *, stamp: str = STAMP, tail: str = "") -> Path:
    """Write what the harness writes of a task with two filters and of a group without samples."""
    inner = folder / "model"
    inner.mkdir(parents=True, exist_ok=True)
    value = sum(right) / len(right)
    scores = {"alias": "sums", "sample_len": len(right), "exact_match,strict": value,
              "exact_match_stderr,strict": 0.1, "perplexity,strict": 7.5,
              "perplexity_stderr,strict": "N/A"}  # fmt: skip
    told = {"results": {"sums": scores, "group": {"acc,none": 0.5, "acc_stderr,none": 0.2}},
            "higher_is_better": {"sums": {"exact_match": True, "perplexity": False}},
            "lm_eval_version": "0.4.13"}  # fmt: skip
    (inner / f"results_{stamp}.json").write_text(json.dumps(told))
    rows: list[dict[str, Any]] = [
        {"doc_id": n, "doc_hash": f"h{n}{tail}", "filter": "strict", "exact_match": one,
         "perplexity": [1, 2], "metrics": ["exact_match", "perplexity"]}
        for n, one in enumerate(right)
    ]  # fmt: skip
    (inner / f"samples_sums_{stamp}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_figures_come_with_the_numbers_of_their_documents(tmp_path: Path) -> None:
    write(tmp_path, [0.0], stamp="2026-01-01T00-00-00")  # an older one is passed over
    found = read_results(write(tmp_path, [1.0, 0.0, 1.0, 1.0]))
    assert found.version == "0.4.13"
    match = found.figures["sums", "strict", "exact_match"]
    assert (match.value, match.standard_error, match.higher_is_better) == (0.75, 0.1, True)
    assert list(match.by_document.values()) == [1, 0, 1, 1]
    # Numbers that are no mean of documents stand alone.
    perplexity = found.figures["sums", "strict", "perplexity"]
    assert (perplexity.value, perplexity.standard_error, perplexity.by_document) == (7.5, None, {})
    assert found.figures["group", "none", "acc"].by_document == {}


def test_systems_are_paired_by_document(tmp_path: Path) -> None:
    before = read_results(write(tmp_path / "b", [1.0, 0.0, 0.0, 0.0]))
    after = read_results(write(tmp_path / "a", [1.0, 1.0, 1.0, 0.0]))
    told = {f["metric"]: f for f in compared([("before", before), ("after", after)])}
    first, second = told["exact_match"]["systems"]
    assert (first["value"], first["n"], first["versus_first"]) == (0.25, 4, None)
    versus = second["versus_first"]
    assert (versus["difference"], versus["wins"], versus["ties"]) == (0.5, 2, 2)
    assert versus["interval"][0] <= 0.5 <= versus["interval"][1]
    assert told["acc"]["systems"][1]["versus_first"] is None


def test_other_documents_cannot_be_paired(tmp_path: Path) -> None:
    before = read_results(write(tmp_path / "b", [1.0, 0.0]))
    after = read_results(write(tmp_path / "a", [1.0, 0.0], tail="x"))
    with pytest.raises(DataError, match="different documents"):
        compared([("before", before), ("after", after)])


def test_what_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wrote no results below"):
        read_results(tmp_path)
    with pytest.raises(ConfigError, match="--out"):
        measure_by_harness(["tiny"], HarnessOptions(("gsm8k",)))


def test_the_report_shows_what_the_harness_said_of_a_run(tmp_path: Path) -> None:
    from selfimprove.report.page import write as write_page
    from selfimprove.report.run_folder import read_run

    figures = compared([("before", read_results(write(tmp_path / "b", [1.0, 0.0]))),
                        ("after", read_results(write(tmp_path / "a", [1.0, 1.0])))])  # fmt: skip
    told = {"version": "0.4.13", "figures": figures}
    run = put(tmp_path / "run", recipe="{}", summary="{}", harness=json.dumps(told))
    assert harness.figures(read_run(run)) == told
    page = write_page([run], tmp_path / "report.html").read_text()
    assert "lm-evaluation-harness 0.4.13" in page
    assert "+0.5000" in page
