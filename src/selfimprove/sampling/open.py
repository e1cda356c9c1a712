"""Opens the engine that a config names; torch is imported only when it is the one wanted."""

from __future__ import annotations

from pathlib import Path

from selfimprove.sampling.engine import Engine, EngineConfig

__all__ = ["open_engine"]


def open_engine(model: Path, config: EngineConfig) -> Engine:
    """Load the model in folder `model`, or reach the server that holds it, ready to sample.

    Raises:
        EngineError: the folder holds no causal language model, the device is not there, or the
            server cannot be reached or started.
    """
    if config.server is not None:
        from selfimprove.sampling.server_engine import ServerEngine

        return ServerEngine(model, config.server, config.chat_template_kwargs)
    from selfimprove.sampling.torch_engine import TorchEngine

    return TorchEngine(model, config)
