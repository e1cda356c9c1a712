"""Adapters taken out of a difference, the card's checked metadata, and uploads to a fake of the hub."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from peft import PeftModel
from tests.families import random_model, tokenizer
from transformers import AutoModelForCausalLM

from selfimprove.config import load
from selfimprove.errors import ConfigError, HubError, StoreError, TrainingError
from selfimprove.files import write_json
from selfimprove.methods.lmsi.config import LmsiConfig
from selfimprove.publish.adapter import low_rank, write_adapter
from selfimprove.publish.export import export
from selfimprove.publish.hub import push
from selfimprove.publish.licence import licence_of
from selfimprove.tiny.shipped import folder as shipped
from selfimprove.training import model_folder
from selfimprove.training.training_config import LoraConfig

# The hub's own client sends bytes as its HTTP library would rather not have them.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    random_model("llama", hidden_size=64, intermediate_size=96).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def trained(base: Path, out: Path, seed: int) -> Path:
    """Stand for a stage: adapters with random numbers, merged as every stage merges them."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = model_folder.adapted(model, LoraConfig(r=3, alpha=6), "CAUSAL_LM")
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn_like(weight) * 0.05
    model_folder.write(model, base, out)
    return out


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(5, 45)[None]).logits
    return found


def test_adapters_of_two_stages_come_back_as_one(base: Path, tmp_path: Path) -> None:
    last = trained(trained(base, tmp_path / "first", 1), tmp_path / "second", 2)
    out = tmp_path / "adapter"
    out.mkdir()
    assert write_adapter(last, base, out, "owner/base", "abc123") == 6  # 3 of each stage
    told = json.loads((out / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["revision"]) == ("owner/base", "abc123")
    whole, start = (
        AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (last, base)
    )
    moved = (logits(whole) - logits(start)).abs().max()
    adapted = PeftModel.from_pretrained(start, out)
    assert (logits(adapted) - logits(whole)).abs().max() < 1e-4 * moved


def test_what_no_adapter_did_is_refused(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.model.layers[0].mlp.up_proj.weight.data += 0.01 * torch.randn(96, 64)
    model.save_pretrained(tmp_path / "full")
    with pytest.raises(TrainingError, match=r"up_proj\.weight changed as no adapter changes it"):
        write_adapter(tmp_path / "full", base, tmp_path, "base", None)
    with pytest.raises(TrainingError, match="has the weights of its base"):
        write_adapter(base, base, tmp_path, "base", None)


def test_a_rank_is_that_of_the_change_whatever_its_size() -> None:
    torch.manual_seed(0)
    weight = torch.randn(120, 80)
    for size in (1e-4, 1.0):
        change = size * torch.randn(120, 5) @ torch.randn(5, 80)
        exact = weight + change
        pair = low_rank(exact - weight, exact)
        assert pair is not None
        assert pair.a.shape == (5, 80)
        assert torch.allclose(pair.b @ pair.a, change, atol=1e-5)
    assert low_rank(torch.randn(120, 80), weight) is None


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a finished run, as its files say it."""
    root = tmp_path / "first|run"
    config = load(LmsiConfig, {"method": "lmsi", "model": "tiny", "data": {
        "train": ["gsm8k:openai/gsm8k@main:train"], "test": ["tiny:test[:24]"]}}, "test")  # fmt: skip
    change = {"difference": 0.1, "interval": [0.02, 0.18]}
    score = {"set": "tiny test", "mode": "cot", "metric": "accuracy", "value": 0.6, "n": 24,
             "interval": [0.4, 0.8], "versus_base": change}  # fmt: skip
    arms = [{"name": "base", "kind": "base", "scores": [{**score, "value": 0.5, "versus_base": None}]},
            {"name": "round 1", "kind": "method", "round": 1, "scores": [score]}]  # fmt: skip
    headline = {"metric": "accuracy", "set": "tiny test", "arm": "round 1", "before": 0.5, "after": 0.6,
                "n": 24, **change}  # fmt: skip
    summary = {"method": "lmsi", "title": "LMSI", "model": "tiny", "seed": 0, "headline": headline,
               "arms": arms}  # fmt: skip
    model = root / "round-1-model" / "model"
    model.parent.mkdir(parents=True)
    write_json(root / "recipe.json", config.model_dump(mode="json"))
    write_json(root / "summary.json", summary)
    write_json(
        root / "lineage.json", [{"role": "base", "name": "tiny | <b>", "digest": "8dc619a51361"}]
    )
    write_json(root / "finished.json", {"identity": "", "model": "round-1-model/model"})
    write_json(root / "round-1-model" / "step.json", {})
    write_json(root / "round-1-model" / "done.json", {"seconds": 75, "tokens_trained": 1234})
    export("tiny", model)
    return root


def test_a_card_tells_figures_with_intervals_data_cost_and_licence(
    run: Path, tmp_path: Path
) -> None:
    out = export(str(run), tmp_path / "out").place
    text = (out / "README.md").read_text()
    told = yaml.safe_load(text.split("---\n")[1])
    assert told["license"] == "apache-2.0"
    assert told["datasets"] == ["openai/gsm8k"]
    assert told["tags"] == ["selfimprove", "lmsi"]
    measured = told["model-index"][0]["results"][0]["metrics"][0]
    assert (measured["value"], measured["args"]["interval_95"]) == (0.6, [0.4, 0.8])
    assert "60.0% [40.0%, 80.0%] | 24 | +10.0 (+2.0 to +18.0)" in text
    assert "Improved: accuracy on tiny test went from 50.0% to 60.0%" in text
    assert "1 min 15 s; 0 tokens sampled, 1,234 trained on" in text
    assert "tiny \\| <b>" in text
    assert sorted(f.name for f in out.iterdir()) == sorted(
        f.name for f in (run / "round-1-model" / "model").iterdir()
    )


def test_a_model_alone_keeps_what_its_maker_says(tmp_path: Path) -> None:
    out = export("tiny", tmp_path / "out").place
    assert (out / "README.md").read_text() == (shipped() / "README.md").read_text()
    gguf = export("tiny", tmp_path / "as-gguf", "gguf", "f16").place
    assert {f.name for f in gguf.iterdir()} == {"README.md", "tiny-f16.gguf"}
    assert "llama-cli -m tiny-f16.gguf" in (gguf / "README.md").read_text()


def test_words_that_do_not_go_together_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"names a GGUF file, and --format hf writes a folder"):
        export("tiny", tmp_path / "x.gguf", "hf")
    with pytest.raises(ConfigError, match=r"recipe's export\.dtype"):
        export("tiny", tmp_path / "x", "hf", "f16")
    with pytest.raises(StoreError, match="is there already"):
        export("tiny", run)
    with pytest.raises(ConfigError, match="give a run's folder"):
        export("tiny", tmp_path / "x", "adapter")
    (run / "finished.json").unlink()
    with pytest.raises(StoreError, match="has not finished"):
        export(str(run), tmp_path / "x")
    assert not list(tmp_path.glob("x*"))


def test_a_licence_is_read_from_the_card_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (tmp_path / "LICENSE").write_text("MIT")
    assert licence_of(tmp_path).name == "mit"
    assert [f.name for f in licence_of(tmp_path).files] == ["LICENSE"]
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert licence_of(tmp_path).name == licence_of(None).name == ""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as one upload needs; what it was sent is kept in `got`."""

    got: dict[str, bytes]
    repositories: set[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers["Authorization"] != "Bearer hf_good":
            return self._say({"error": "Invalid username or password."}, 401)
        if self.path.endswith("/commit/main"):
            return self._commit(body)
        told = json.loads(body)
        if self.path == "/api/repos/create":
            return self._create(f"{told.get('organization') or 'me'}/{told['name']}")
        if self.path.endswith("/preupload/main"):
            files = [{"path": f["path"], "shouldIgnore": False,
                      "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                     for f in told["files"]]  # fmt: skip
            return self._say({"files": files})
        if self.path.endswith("/info/lfs/objects/batch"):
            href = f"http://{self.headers['Host']}/lfs"
            return self._say({"transfer": "basic", "objects": [
                {**o, "actions": {"upload": {"href": f"{href}/{o['oid']}"}}} for o in told["objects"]
            ]})  # fmt: skip
        return self._say({})  # validate-yaml and the like

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path.endswith(hashlib.sha256(body).hexdigest())
        self.got["lfs"] = body
        self._say({})

    def do_GET(self) -> None:
        self._say({"sha": "0" * 40, "siblings": []})

    def _create(self, name: str) -> None:
        url = {"url": f"http://{self.headers['Host']}/{name}"}
        if name in self.repositories:
            return self._say({"error": "You already created this model repo", **url}, 409)
        self.repositories.add(name)
        return self._say(url)

    def _commit(self, body: bytes) -> None:
        for line in body.decode().splitlines():
            told = json.loads(line)
            if told["key"] == "file":
                self.got[told["value"]["path"]] = base64.b64decode(told["value"]["content"])
            elif told["key"] == "lfsFile":
                self.got[told["value"]["path"]] = told["value"]["oid"].encode()
        host = f"http://{self.headers['Host']}"
        self._say({"commitUrl": f"{host}/me/mine/commit/1", "commitOid": "1", "success": True})

    def _say(self, told: dict[str, Any], code: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code >= 400:
            self.send_header("X-Error-Message", str(told["error"]))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.got, Hub.repositories = {}, {"me/taken"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    to_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def to_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Point huggingface_hub, which read HF_ENDPOINT when it was imported, to another hub."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def test_an_upload_makes_the_repository_and_sends_every_file(run: Path, hub: type[Hub]) -> None:
    pushed = push(str(run), "me/mine", private=True)
    assert "me/mine" in hub.repositories
    weights = (run / "round-1-model" / "model" / "model.safetensors").read_bytes()
    assert hub.got["lfs"] == weights
    assert hub.got["README.md"].decode() == pushed.card
    assert {name for name, _ in pushed.files} == set(hub.got) - {"lfs"}


def test_a_name_that_is_taken_can_be_added_to_when_that_is_said(hub: type[Hub]) -> None:
    with pytest.raises(HubError, match=r"the name is taken: choose another, .*--update"):
        push("tiny", "me/taken")
    assert hub.got == {}
    push("tiny", "me/taken", update=True)
    assert "config.json" in hub.got


def test_what_is_missing_is_said(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'mine' names no repository"):
        push("tiny", "mine")
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(HubError, match="the token is not valid"):
        push("tiny", "me/other")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    to_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached"):
        push("tiny", "me/other")


def test_without_a_token_nothing_is_written_and_a_dry_run_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    with pytest.raises(HubError, match=r"there is no token: .*HF_TOKEN"):
        push("tiny", "me/mine")
    to_hub(monkeypatch, "http://127.0.0.1:9")
    assert dict(push("tiny", "me/mine", dry_run=True).files)["model.safetensors"] > 1_000_000
