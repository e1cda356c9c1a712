"""Who draws from the policy in training: the built-in engine, or a server that gets its adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from selfimprove.errors import TrainingError
from selfimprove.sampling.adapter_server import AdapterServer
from selfimprove.sampling.architecture import unwrapped
from selfimprove.sampling.engine import EngineConfig, Sampler, SamplingConfig, ServerConfig
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.training.processes import everyones, first_process
from selfimprove.types import Draw, Prompt

__all__ = ["policy_sampler"]


def policy_sampler(
    policy: tuple[Any, Any, Sequence[int]],
    base: Path,
    engine: EngineConfig,
    scratch: Path,
) -> Sampler:
    """Return what draws from the policy as it is at the time of every call.

    Args:
        policy: the model in training, with adapters a PEFT model; its tokenizer; tokens that end a text.
        base: the folder whose weights the model began as.
        engine: the run's; where it is a server that takes adapters, that server draws.
        scratch: becomes the folder of the adapter on its way to the server.

    Raises:
        TrainingError: the server takes adapters, and the model has none.
        EngineError: the server cannot be reached or started.
    """
    model, tokenizer, ends = policy
    adapts = hasattr(model, "peft_config")
    if engine.server is None or not engine.server.adapters:
        return TorchEngine.of_model(unwrapped(model), tokenizer, engine)
    if not adapts:
        raise TrainingError(
            "engine.server.adapters: the server can be given adapters, but all weights are trained: "
            "set `lora` for every reinforcement learning, or leave `adapters` out, and the built-in "
            "engine draws"
        )
    return _Served(model, _one_server(base, tokenizer, ends, engine, engine.server), scratch)


def _one_server(
    base: Path,
    tokenizer: Any,  # noqa: ANN401
    ends: Sequence[int],
    engine: EngineConfig,
    config: ServerConfig,
) -> AdapterServer:
    """Start the server in the first process; the others reach it by its address."""

    def reach(config: ServerConfig) -> AdapterServer:
        variables = engine.chat_template_kwargs
        return AdapterServer(base, tokenizer, ends, config, chat_template_kwargs=variables)

    started = reach(config) if first_process() else None
    url = everyones([started.url if started else None])[0]
    return started or reach(config.model_copy(update={"command": (), "url": url}))


@final
class _Served:
    """Gives the server the newest adapter before every call."""

    def __init__(self, model: Any, server: AdapterServer, scratch: Path) -> None:  # noqa: ANN401
        self._model, self._server, self._scratch = model, server, scratch

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        if first_process():
            self._model.save_pretrained(self._scratch)
            self._server.load(self._scratch)
        self._server.adapter = everyones([self._server.adapter])[0]
        return self._server.draw(prompts, sampling, seed=seed)

    def close(self) -> None:
        self._server.close()
