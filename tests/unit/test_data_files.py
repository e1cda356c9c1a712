"""Files in every shape, whole and broken: each breakage is named with its place."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfimprove.config import IDENTITY
from selfimprove.data.preferences import read_preferences
from selfimprove.data.read import BadRow, check, read_labelled, read_questions
from selfimprove.data.sources import Source
from selfimprove.errors import DataError, OwnCodeError
from selfimprove.evaluation.labels import read_labels

ROWS: list[dict[str, Any]] = [
    {"question": "What is 1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
    {"question": "What is 1,000 + 80?", "answer": "Add.\n#### 1,080"},
    {"question": "Wie viel ist ½?", "answer": "Genau.\n#### 0.5"},
]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the suffix says."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "json":
        content = json.dumps(rows, ensure_ascii=False).encode()
    elif kind == "jsonl":
        content = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows).encode()
    elif kind == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        content = sink.getvalue().to_pybytes()
    else:
        lines: list[str] = []

        class Lines:
            def write(self, line: str) -> None:
                lines.append(line)

        writer = csv.DictWriter(Lines(), list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        content = "".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str, gz: str) -> None:
    read = read_labelled(_write(tmp_path / f"rows.{kind}{gz}", ROWS), "gsm8k")
    assert [r.gold for r in read] == [("2",), ("1080",), ("0.5",)]
    assert [r.question.id for r in read] == ["gsm8k-1", "gsm8k-2", "gsm8k-3"]
    assert read[0].rationale == "1 + 1 = 2"
    assert read[2].question.text == "Wie viel ist ½?"


def test_lines_with_windows_ends_a_byte_order_mark_and_blanks_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    text = "\r\n\r\n".join(json.dumps(r) for r in ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    assert len(read_labelled(path, "gsm8k")) == 3


def test_a_line_separator_within_a_string_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"question": "one\u2028line\x85still", "answer": "#### 2"}
    path.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert read_labelled(path, "gsm8k")[0].question.text == "one\u2028line\x85still"


def test_json_lines_in_a_file_called_json_are_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", ROWS).rename(tmp_path / "rows.json")
    assert len(read_labelled(path, "gsm8k")) == 3


def test_limit_takes_the_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"{n}?", "answer": f"#### {n}"} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = [q.text for q in read_questions(path, "gsm8k", limit=3)]
    assert first == ["0?", "1?", "2?"]


def test_other_columns_are_named_and_other_records_made_by_own_code(tmp_path: Path) -> None:
    path, code = tmp_path / "rows.jsonl", tmp_path / "mine.py"
    path.write_text(json.dumps({"ask": {"en": "Why?"}, "good": "yes", "bad": "no"}) + "\n")
    columns = {"prompt": "ask.en", "chosen": "good", "rejected": "bad"}
    named = Source(source=str(path), format="preferences", columns=columns)
    code.write_text(
        "def row(r):\n    return {'prompt': r['ask']['en'], 'chosen': r['good'], 'rejected': r['bad']}\n"
    )
    made = Source(source=str(path), format="preferences", row=f"{code}:row")
    for source in (named, made):
        (told,) = read_preferences((source,), 0).rows
        assert (told.prompt[0].content, told.chosen, told.rejected) == ("Why?", "yes", "no")
    with pytest.raises(DataError, match="has no 'better'"):
        wrong = {**columns, "chosen": "better"}
        read_preferences((named.model_copy(update={"columns": wrong}),), 0)
    code.write_text("def row(r):\n    return r['asked']\n")
    broken = Source(source=str(path), format="preferences", row=f"{code}:row")
    with pytest.raises(OwnCodeError, match=r"raised KeyError: 'asked' .*mine.py, line 2"):
        read_preferences((broken,), 0)


def test_columns_of_questions_are_named_likewise(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"q": "How many?", "solution": "#### 3"}) + "\n")
    source = Source(
        source=str(path), format="gsm8k", columns={"question": "q", "answer": "solution"}
    )
    (labelled,) = read_labels((source,))
    assert (labelled.question.text, labelled.gold) == ("How many?", ("3",))
    assert "columns" not in Source(source="a").model_dump(context=IDENTITY)


def test_rows_behind_the_limit_are_not_looked_at(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", ROWS)
    path.write_text(path.read_text(encoding="utf-8") + "\n{broken", encoding="utf-8")
    assert len(read_labelled(path, "gsm8k", limit=3)) == 3
    with pytest.raises(DataError, match="line 4: not JSON"):
        read_labelled(path, "gsm8k")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question": "a?"', "line 2: not JSON"),
        ("[1, 2]", "line 2: is list, not an object"),
        ("null", "line 2: is NoneType"),
        ('{"answer": "#### 1"}', "line 2: has no 'question'; found answer"),
        ("{}", "line 2: has no 'question'; found nothing"),
        ('{"question": " ", "answer": "#### 1"}', "line 2: 'question' is empty"),
        ('{"question": ["a"], "answer": "#### 1"}', "line 2: 'question' is list, not text"),
        ('{"question": "a?", "answer": "one"}', "line 2: its answer does not end in '#### n'"),
        ("[" * 100_000, "line 2: not JSON"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f"{good}\n{line}\n{good.replace('1 + 1?', '2 + 0?')}\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_labelled(path, "gsm8k")
    assert str(path) in str(raised.value)
    assert problem in str(raised.value)
    found = check(path, "gsm8k")
    assert (found.rows, found.good, len(found.bad)) == (3, 2, 1)
    assert f"{found.bad[0].place}: {found.bad[0].problem}".startswith(problem)


def test_check_counts_everything_and_lists_every_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        '{"question": "a?", "answer": 3}',
        "oops",
        '{"question": "b?"}',
        '{"question": "c?", "choices": ["x", "y"], "answer": "B"}',
        '{"question": "d?", "choices": ["x", "y"], "answer": "Z"}',
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    found = check(path, "questions")
    assert (found.rows, found.good, found.unlabelled) == (5, 3, 1)
    assert found.answer_types == {"number": 1, "span": 1, "choice": 1}
    assert found.bad[1] == BadRow(
        "line 5", "its answer 'Z' is neither a letter nor one of its choices"
    )


def test_two_rows_with_one_id_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = '{"id": "x", "question": "a?", "answer": "1"}\n'
    path.write_text(row * 2, encoding="utf-8")
    with pytest.raises(DataError, match="line 2: has the id of line 1"):
        read_labelled(path, "questions")


def test_rows_without_an_answer_are_questions_but_not_labelled(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a?"}', encoding="utf-8")
    assert [q.text for q in read_questions(path, "questions")] == ["a?"]
    with pytest.raises(DataError, match="has no answer"):
        read_labelled(path, "questions")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("rows.jsonl", b"", "is empty"),
        ("rows.jsonl", b" \n\n", "is empty"),
        (
            "rows.jsonl",
            b'{"question": "a"}\n{"question": "\xff"}\n',
            "line 2: byte 0xff is not UTF-8",
        ),
        ("rows.jsonl.gz", b"not gzip at all", "is not a whole gzip file"),
        ("rows.jsonl.gz", gzip.compress(b"x" * 5000, mtime=0)[:-20], "is not a whole gzip file"),
        ("rows.jsonl.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("rows.json", b'[{"question": "a"', "is not JSON: Expecting"),
        ("rows.json", b"[" * 100_000, "is not JSON: nested too deeply"),
        ("rows.json", b'{"one": 1}', "does not look like gsm8k"),
        ("rows.parquet", b"PAR1 no", "is not a whole Parquet file"),
        ("rows.txt", b"hello", "cannot tell its layout"),
        ("rows", b"hello", "cannot tell its layout"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_labelled(path, "gsm8k")
    assert problem in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        read_labelled(path, "gsm8k")


def test_a_missing_file_and_a_folder_are_no_hub_ids(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file at"):
        read_labelled(tmp_path / "rows.jsonl", "gsm8k")
    with pytest.raises(DataError, match="no file at"):
        read_labelled("data/rows.jsonl", "gsm8k")
    folder = tmp_path / "rows.json"
    folder.mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_labelled(folder, "gsm8k")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("question,answer\na?,#### 1,extra\n", "line 2: has 3 cells where 2 cells"),
        ("question,answer\na?\n", "line 2: has 1 cells where 2 cells"),
        ('question,answer\n"two\nlines?",#### 1\nb?,no\n', "line 4: its answer does not end"),
        ("question,reply\na?,b\n", None),
    ],
)
def test_cells_that_do_not_fit_their_header_are_named(
    tmp_path: Path, text: str, problem: str | None
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=problem or "has no answer"):
        read_labelled(path, "gsm8k")


def test_an_unknown_format_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no format is called 'gsm'; there are gsm8k, svamp"):
        read_labelled(tmp_path / "rows.jsonl", "gsm")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "no format is named: give FORMAT:FILE, such as gsm8k:test.jsonl"),
        ("hh_rlhf", "hh_rlhf holds preferences, and questions are needed here; they come as gsm8k"),
        ("oasst", "oasst holds conversations, and questions are needed here"),
    ],
)
def test_a_format_without_questions_says_what_it_holds(
    tmp_path: Path, name: str, problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        read_labelled(tmp_path / "rows.jsonl", name)


@pytest.mark.slow
def test_a_hub_id_without_a_network_is_a_clear_error(tmp_path: Path) -> None:
    """In another process, since `datasets` reads the environment once."""
    code = (
        "from selfimprove.data.read import read_labelled\n"
        "from selfimprove.errors import DataError\n"
        "try:\n    read_labelled('openai/gsm8k:test', 'gsm8k')\n"
        "except DataError as error:\n    print(error)\n"
    )
    source = Path(__file__).parents[2] / "src"
    environment = {"PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert (
        "openai/gsm8k:test is no file here and cannot be had from the Hugging Face hub"
        in done.stdout
    )
    assert "give the file" in done.stdout


def test_hub_rows_are_read_like_file_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[object, ...]] = []

    def load(name: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        asked.append((name, config, split))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(read_labelled("openai/gsm8k", "gsm8k")) == 3
    read_labelled("openai/gsm8k@socratic:test", "gsm8k")
    read_labelled("someone/else:test[:10]", "gsm8k")
    assert asked == [
        ("openai/gsm8k", "main", "train"),
        ("openai/gsm8k", "socratic", "test"),
        ("someone/else", None, "test[:10]"),
    ]


def test_reading_a_file_imports_neither_torch_nor_datasets(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", ROWS)
    code = (
        "import sys\nfrom selfimprove.data.read import read_labelled\n"
        f"read_labelled({str(path)!r}, 'gsm8k')\nread_labelled('train', 'tiny', limit=2)\n"
        "print([m for m in ('torch', 'datasets', 'pyarrow', 'transformers') if m in sys.modules])"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(source)},
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_tiny_world_is_read_by_split() -> None:
    rows = read_labelled("train", "tiny", limit=5)
    assert [r.question.id for r in rows] == [f"tiny-train-{n}" for n in range(5)]
    assert {r.question.dataset for r in rows} == {"tiny"}
    assert all(r.gold[0].lstrip("-").isdigit() for r in rows)
    with pytest.raises(DataError, match="no split 'corpus'; there are train, dev, test, ood"):
        read_labelled("corpus", "tiny")
