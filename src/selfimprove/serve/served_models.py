"""What is served: a model, the models of a finished run, or one that a server elsewhere holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, final

from selfimprove.config import load
from selfimprove.errors import ConfigError
from selfimprove.files import read_json
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.methods.pit.improve import Improver
from selfimprove.models import finished_model, locate
from selfimprove.remote import here, told
from selfimprove.sampling.engine import EngineConfig, ServerConfig
from selfimprove.serve.asks import Line
from selfimprove.serve.house import House, Visit
from selfimprove.serve.protocol import Improve
from selfimprove.store import Unstored
from selfimprove.training.export import left_the_run
from selfimprove.types import ModelRef

__all__ = ["Models"]

# Requests that are passed on at once: it is the server elsewhere that batches them.
_UPSTREAM: Final = 128
# Clients wait meanwhile: some seconds are worth while, minutes are not.
_RETRIES: Final = 2
_OWN: Final = JudgeConfig(votes=1)


@final
@dataclass(frozen=True)
class Models:
    """What is served, in memory from the first request on."""

    name: str
    """By which clients know it."""
    policy: ModelRef
    engine: EngineConfig
    improver: Improver | None = None
    """Of a PIT run."""
    reward: ModelRef | None = None
    """R_P of a PIT run."""
    judge: JudgeConfig = field(default_factory=lambda: _OWN)
    """By which a model without a reward model judges its own responses."""
    house: House = field(default_factory=House)
    """Where they are in memory."""

    @classmethod
    def of(cls, name: str, engine: Mapping[str, Any], upstream: str | None = None) -> Self:
        """Find a model, or the models of a finished run.

        Args:
            name: of a model, or the folder of a run.
            engine: fields of `EngineConfig` laid over the run's, or the defaults.
            upstream: URL of a server that holds the model under this name; it draws then.

        Raises:
            ConfigError: a field is unknown, or the run is not finished.
            EngineError: there is no such model.
        """
        root = here(name) if upstream is None else Path(name)
        if upstream is not None:
            server = ServerConfig(url=upstream, model=name, concurrency=_UPSTREAM, retries=_RETRIES)
            how = load(
                EngineConfig, {"kind": "server", "server": server, "chat": True, **engine}, "engine"
            )
            return cls(name, ModelRef(name, name, ""), how)
        if (root / "recipe.json").is_file():
            return cls._of_run(root, engine)
        model = locate(name)
        how = load(EngineConfig, {"chat": _chats(model), **engine}, "engine")
        return cls(root.name or name, model, how)

    @classmethod
    def _of_run(cls, root: Path, engine: Mapping[str, Any]) -> Self:
        if not (root / "finished.json").is_file():
            raise ConfigError(
                f"{told(root)} is a run that has not finished: run its recipe to the end, or serve a model within it"
            )
        tree = read_json(root / "recipe.json")
        how = load(EngineConfig, {**tree["engine"], **engine}, "engine").one_of_several
        last = finished_model(root)
        if tree["method"] != "pit":
            own = tree.get("judge")
            by = load(JudgeConfig, own, "judge") if own and own["kind"] == "rubric" else _OWN
            named = ModelRef(root.name, str(last), "")
            return cls(root.name, named, how, judge=by)
        improver = Improver.of_run(root, {})
        plain = ModelRef(root.name, str(left_the_run(root, "reward-model")), "")
        return cls(root.name, improver.policy, how, improver, plain)

    @cached_property
    def context(self) -> int:
        """Tokens that the model reads, prompt and response; of a server elsewhere it is not known."""
        if self.engine.server is not None and self.engine.server.url:
            return sys.maxsize
        from transformers import AutoConfig

        from selfimprove.sampling.loading import context_length

        config = AutoConfig.from_pretrained(self.policy.path, local_files_only=True)
        return context_length(config) or sys.maxsize

    def can(self, improve: Improve) -> str | None:
        """Return why a way cannot be gone with these models; None: it can."""
        if improve.method == "pit" and self.improver is None:
            return "improve.method pit needs a finished PIT run: selfimprove serve runs/MY-PIT-RUN"
        return None

    def close(self) -> None:
        """Give the models' memory back."""
        self.house.close()

    def visit(self, line: Line) -> Visit:
        """Return the models as a request asks them."""
        return Visit(self.house, line)

    def steps(self, line: Line) -> Unstored:
        """Return what makes a request's steps; nothing is stored of them."""
        return Unstored(engine=self.engine, held=self.visit(line))


def _chats(model: ModelRef) -> bool:
    from selfimprove.sampling.loading import load_tokenizer

    return bool(load_tokenizer(Path(model.path)).chat_template)
