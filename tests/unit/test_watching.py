"""A run watched from its folder: while it goes on, killed, finished, and held by another machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from selfimprove.errors import DataError
from selfimprove.rows import Batch
from selfimprove.store import Run
from selfimprove.types import Response
from selfimprove.watching import frame
from selfimprove.watching.plan import Planned, ahead
from selfimprove.watching.samples import Newest
from selfimprove.watching.state import look
from selfimprove.watching.watch import watch

_HOSTILE = "wipe \x1b[2J [bold]this[/bold]\n\u202ebackwards"


class Killed(Exception):
    """As if the process had ended there."""


def respond(chunks: list[list[int]], stop_at: int) -> Iterator[Batch[Response]]:
    for chunk in chunks:
        if chunk[0] >= stop_at:
            raise Killed
        rows = [
            Response(f"p{i}", f"Prompt {i}", 0, f"Text {i} {_HOSTILE}", "stop", 5) for i in chunk
        ]
        yield Batch(rows, tokens_sampled=5 * len(chunk))


def begun(root: Path, stop_at: int = 4) -> None:
    """Run until four of eight rows are there, two a shard; the lock goes with the process."""
    with closing(Run(root)) as run:
        run.write("recipe.json", {"method": "lmsi", "model": "tiny", "seed": 3})
        with pytest.raises(Killed):
            run.sharded("m1-candidates", respond, range(8), stop_at, shard_items=2)


def shown(root: Path) -> str:
    console = Console(file=StringIO(), width=100, color_system=None)
    console.print(frame.frame(look(root), None, (), Newest(root, 2).samples(), 40))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_killed_run_shows_how_far_it_came_and_what_to_do(tmp_path: Path) -> None:
    begun(tmp_path)
    seen = look(tmp_path)
    assert seen.state == "stopped"
    assert seen.current is not None
    assert (seen.current.made, seen.current.total) == (2, 4)
    assert seen.current.record["tokens_sampled"] == 20
    picture = shown(tmp_path)
    assert "2 of 4 shards" in picture
    assert "run the same command again" in picture
    assert "seed 3" in picture


def test_a_run_that_a_living_process_holds_goes_on(tmp_path: Path) -> None:
    begun(tmp_path)
    with closing(Run(tmp_path)):
        assert look(tmp_path).state == "running"
    assert look(tmp_path).state == "stopped"


def test_a_number_of_a_process_that_is_another_one_by_now_is_not_believed(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "lock").write_text(f"{os.getppid()} on {os.uname().nodename}")
    assert look(tmp_path).state == "stopped"


def test_on_another_machine_the_holder_is_named(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "lock").write_text("17 on elsewhere")
    assert look(tmp_path).state == "unknown"
    assert "17 on elsewhere, last written" in shown(tmp_path)


def test_what_a_model_wrote_cannot_command_the_terminal(tmp_path: Path) -> None:
    begun(tmp_path)
    picture = shown(tmp_path)
    assert "Text 3 wipe  [2J [bold]this[/bold]".replace("  ", " ") in picture
    assert "\x1b" not in picture
    assert "\u202e" not in picture


def test_a_training_shows_its_steps_its_newest_numbers_and_their_course(tmp_path: Path) -> None:
    folder = tmp_path / "m2-dpo"
    folder.mkdir()
    (folder / "step.json").write_text("{}")
    (folder / "begun.json").write_text(json.dumps({"total": 10, "of": "steps", "done": 0}))
    lines = [
        json.dumps({"loss": loss, "step": step + 1}) for step, loss in enumerate((3.0, 2.0, 1.0))
    ]
    (folder / "train_log.jsonl").write_text("\n".join(lines) + '\n{"loss": 0.')
    seen = look(tmp_path)
    assert seen.current is not None
    assert (seen.current.made, seen.current.total, seen.current.of) == (3, 10, "steps")
    assert "█▅▁" in shown(tmp_path)


def test_a_finished_run_is_one_picture_with_its_result(tmp_path: Path) -> None:
    begun(tmp_path)
    head = {
        "metric": "accuracy",
        "before": 0.5,
        "after": 0.75,
        "difference": 0.25,
        "interval": [0.1, 0.4],
        "n": 40,
    }
    (tmp_path / "summary.json").write_text(json.dumps({"headline": head}))
    (tmp_path / "finished.json").write_text("{}")
    console = Console(file=StringIO(), width=120)
    watch(tmp_path, console, once=False)  # ends by itself: nothing more comes
    assert isinstance(console.file, StringIO)
    assert "Improved: accuracy went from 50.0% to 75.0%" in console.file.getvalue()


def test_what_is_left_takes_as_long_a_token_as_what_was_done(tmp_path: Path) -> None:
    with closing(Run(tmp_path)) as run:
        run.sharded("m1-candidates", respond, range(4), 99, shard_items=2)
    done = tmp_path / "m1-candidates" / "done.json"
    done.write_text(json.dumps({**json.loads(done.read_text()), "seconds": 10.0}))
    plan = [
        Planned("m1-candidates", 100, 0),
        Planned("m2-candidates", 300, 0),
        Planned("m2-pairs", 0, 0),
    ]
    left = ahead(look(tmp_path), plan)
    assert left is not None
    assert left.steps == ("m2-candidates", "m2-pairs")
    assert left.seconds == 30.0
    trained = ahead(look(tmp_path), [*plan, Planned("m2-dpo", 0, 500)])
    assert trained is not None
    assert trained.seconds is None  # no training has shown yet how long one takes


def test_a_folder_without_a_run_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no run in"):
        look(tmp_path)


def test_examples_in_docstrings_hold() -> None:
    import doctest

    assert doctest.testmod(frame).failed == 0
