"""How many threads compute, and that a busy machine does not change what they compute."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from selfimprove.config import fingerprint
from selfimprove.errors import StaleStepError
from selfimprove.sampling import threads
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.threads import cores, use_threads
from selfimprove.store import Run
from selfimprove.tiny.shipped import folder


@dataclass(frozen=True)
class _Row:
    text: str


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)],
)
def test_a_container_counts_as_many_cores_as_it_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, allowed: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert cores(tmp_path) == allowed


@pytest.mark.parametrize(("share", "allowed"), [("-1", 8), ("300000", 3)])
def test_so_does_one_of_the_older_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: str, allowed: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(share)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cores(tmp_path) == allowed


def test_without_a_number_torch_keeps_its_own_up_to_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    for own, kept in ((16, 2), (1, 1)):
        torch.set_num_threads(own)
        use_threads(None)
        assert torch.get_num_threads() == kept
    use_threads(3)
    assert torch.get_num_threads() == 3


def test_an_engine_computes_with_the_threads_of_its_config() -> None:
    torch.set_num_threads(1)
    open_engine(folder(), EngineConfig(device="cpu", threads=2)).close()
    assert torch.get_num_threads() == 2


def test_other_threads_make_no_step_anew(tmp_path: Path) -> None:
    """But another precision does: it is a part of what the rows are."""
    run = Run(tmp_path)
    made = run.rows("drawn", _drawn, EngineConfig(threads=2))
    assert run.rows("drawn", _drawn, EngineConfig(threads=1)).digest == made.digest
    with pytest.raises(StaleStepError, match="dtype"):
        run.rows("drawn", _drawn, EngineConfig(dtype="float32"))
    run.close()
    assert fingerprint(EngineConfig(threads=2)) == fingerprint(EngineConfig())
    assert EngineConfig(threads=2).model_dump()["threads"] == 2


def _drawn(engine: EngineConfig) -> list[_Row]:
    return [_Row(engine.kind)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "given", "found"),
    [
        ("import selfimprove", {}, "1000"),
        ("import selfimprove", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("import selfimprove", {"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
        ("import sys; sys.modules['torch'] = None; import selfimprove", {}, "None"),
    ],
    ids=["by itself", "as asked", "another policy", "too late"],
)
def test_threads_that_wait_give_up_their_core_unless_told_otherwise(
    code: str, given: dict[str, str], found: str
) -> None:
    """Spinning threads make a busy machine several times slower: docs/engines.md."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code += "; import os; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == found
