"""Real trackers without a network: what they kept is read back, from a run that was interrupted once.

Runs where all four are installed and SELFIMPROVE_TRACKERS is set, as `make test-trackers` does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_ALL = ("tensorboard", "wandb", "mlflow", "trackio")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_TRACKERS" not in os.environ or not all(map(find_spec, _ALL)),
        reason="trackers stand in an environment of their own: `make test-trackers`",
    ),
    # What the trackers' own dependencies deprecate.
    pytest.mark.filterwarnings("ignore"),
]

_ROOT = Path(__file__).parents[2]

# The first process ends after the verdicts, as a killed one would; the second makes the pairs as well.
_RUN = """
import sys
from pathlib import Path
from selfimprove.methods.recipe import Recipe
from selfimprove.tracking import telling
from tests.unit.test_tracking import made
root = Path("run")
(root / "m2-dpo").mkdir(parents=True, exist_ok=True)
telling._PATIENCE = 300.0  # this run lasts a second; on a busy machine four trackers open for a minute
recipe = Recipe(method="own.py:METHOD", model="tiny", seed=7)
with telling.telling(("tensorboard", "wandb", "mlflow", "trackio"), recipe, root, lambda line: sys.exit(line)):
    (root / "m2-dpo" / "step.json").write_text("{}")
    lines = ['{"loss": 0.69, "kl": 0.5, "step": 1}', '{"loss": 0.25, "step": 2}']
    count = int(sys.argv[1])
    (root / "m2-dpo" / "train_log.jsonl").write_text("".join(line + "\\n" for line in lines[:count]))
    made(root, pairs=count == 2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tell one run to all four, in two processes, and return where they ran."""
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "run.py").write_text(_RUN)
    own = {
        "WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_TRACKING_URI": (folder / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true", "TRACKIO_DIR": str(folder / "trackio"), "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(_ROOT / "src"), str(_ROOT), os.environ.get("PYTHONPATH", "")]),
        "GIT_PYTHON_REFRESH": "quiet", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    for lines in ("1", "2"):
        subprocess.run(
            [sys.executable, "run.py", lines], cwd=folder, env=os.environ | own, check=True
        )
    return folder


def test_tensorboard_has_each_number_once_at_its_step(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "run" / "tensorboard"))
    read.Reload()
    loss = [(event.step, round(event.value, 2)) for event in read.Scalars("m2-dpo/loss")]
    assert loss == [(1, 0.69), (2, 0.25)]
    assert [(e.step, e.value) for e in read.Scalars("stage/verdicts/parse_rate")] == [(2, 0.75)]
    assert [e.value for e in read.Scalars("stage/pairs/margin")] == [3.0]


def test_mlflow_goes_on_with_one_run_that_holds_the_recipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("selfimprove")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["seed"] == "7"
    history = client.get_metric_history(run.info.run_id, "m2-dpo/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.69), (2, 0.25)]
    assert run.data.metrics["stage/pairs/filter/pairs/kept_rate"] == 0.25


def test_trackio_keeps_one_run_on_this_machine(folder: Path) -> None:
    code = ("import json\nfrom trackio.sqlite_storage import SQLiteStorage as S\n"
            "runs = S.get_runs('selfimprove')\n"
            "print(json.dumps([runs, S.get_logs('selfimprove', runs[0])]))")  # fmt: skip
    own = os.environ | {"TRACKIO_DIR": str(folder / "trackio")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True
    )
    runs, logs = json.loads(done.stdout.splitlines()[-1])
    assert len(runs) == 1
    assert [(e["step"], e["m2-dpo/loss"]) for e in logs if "m2-dpo/loss" in e] == [
        (1, 0.69),
        (2, 0.25),
    ]


def test_wandb_keeps_both_parts_of_one_run_offline(folder: Path) -> None:
    parts = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(parts) == 2
    assert len({part.name for part in parts}) == 1  # the run's id: `wandb sync` joins them
    first, second = (_records(part.read_bytes()) for part in parts)
    assert _logged(first, "m2-dpo/loss") == ["0.69"]
    assert _logged(second, "m2-dpo/loss") == ["0.25"]
    assert _logged(first, "stage/verdicts/parse_rate") == ["0.75"]
    assert _logged(second, "stage/pairs/margin") == ["3"]
    # The second part's steps come behind those of the first, so that nothing is overwritten.
    last, next_ = (_logged(part, "_step") for part in (first, second))
    assert int(next_[0]) == int(last[-1]) + 1


def _records(held: bytes) -> list[bytes]:
    """Return the records of a file of wandb's: fragments with a head of 7 bytes, in blocks of 32 KiB."""
    at, whole, records = 7, b"", []
    while at + 7 <= len(held):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(held[at + 4 : at + 6], "little"), held[at + 6]
        whole += held[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last fragment
            records.append(whole)
            whole = b""
    return records


def _logged(records: list[bytes], name: str) -> list[Any]:
    """Return what a metric was told, as JSON, in the records of the history (field 2; the summary is 3)."""
    found = []
    for record in records:
        if re.match(rb"\x08[\x80-\xff]*[\x00-\x7f]\x12", record) is None:
            continue
        # An item: the name, then its value as JSON, each behind its length.
        match = re.search(
            rb"\x12." + re.escape(name.encode()) + rb"\x82\x01.([-0-9.e]+)", record, re.DOTALL
        )
        if match:
            found.append(match[1].decode())
    return found
