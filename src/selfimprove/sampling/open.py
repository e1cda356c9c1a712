"""Opens the engine that a config names, or the one that suits a model on this machine."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final, Literal, NamedTuple

from selfimprove.errors import EngineError
from selfimprove.files import read_json
from selfimprove.sampling.engine import Engine, EngineConfig

__all__ = ["WORTH_A_START", "Picked", "open_engine", "pick_engine", "pick_for"]

_log = logging.getLogger(__name__)

WORTH_A_START: Final = 1_500_000_000
"""Bytes of a model's weights from which vLLM is taken: starting it takes a minute or two at every sampling
step, and of smaller models the built-in engine draws some ten million tokens in that time."""


class Picked(NamedTuple):
    """An engine for a model, and why it is the one."""

    kind: Literal["torch", "vllm"]
    why: str

    def __str__(self) -> str:
        """Say both."""
        return f"{self.kind}: {self.why}"


def pick_engine(device: str, weights_bytes: int) -> Picked:
    """Return what `kind: auto` takes for a model of so many bytes on a device.

    Raises:
        EngineError: the device is not there.
    """
    from selfimprove.sampling import vllm_environment
    from selfimprove.sampling.loading import pick_device

    if pick_device(device).type != "cuda":
        return Picked("torch", "on a CPU the built-in engine is the faster one")
    if vllm_environment.find("cuda") is None:
        return Picked("torch", "vLLM is not here; `selfimprove engines add vllm` fetches it")
    if weights_bytes < WORTH_A_START:
        return Picked("torch", "so small a model is drawn from before a server has started")
    return Picked("vllm", "its environment is here, and the model is large enough for it")


def pick_for(model: Path, config: EngineConfig) -> Picked:
    """Return what `kind: auto` takes for the model in a folder.

    Raises:
        EngineError: the device is not there.
    """
    if config.quantization is not None:
        return Picked("torch", "it rounds weights to int8 as it loads them")
    return pick_engine(config.device, _weights_bytes(model))


def open_engine(model: Path, config: EngineConfig) -> Engine:
    """Load the model in folder `model`, or reach the server that holds it, ready to sample.

    Raises:
        EngineError: the folder holds no causal language model, the device is not there, or the
            server cannot be reached or started.
    """
    if config.server is not None:
        from selfimprove.sampling.server_engine import ServerEngine

        return ServerEngine(model, config.server, config.chat_template_kwargs)
    from selfimprove.sampling.loading import check_folder
    from selfimprove.sampling.torch_engine import TorchEngine
    from selfimprove.sampling.vllm_engine import VllmEngine

    check_folder(model)
    if config.kind == "ray":
        from selfimprove.sampling.ray_engine import RayEngine

        return RayEngine(model, config)
    if config.kind == "vllm":
        return VllmEngine(model, config)
    if config.kind == "auto" and pick_for(model, config).kind == "vllm" and not _is_refused(model):
        try:
            return VllmEngine(model, config)
        except EngineError as error:
            _refuse(model)
            _log.warning("vLLM did not start, the built-in engine draws instead: %s", error)
    return TorchEngine(model, config)


# Architectures that vLLM did not start on, in this process, and the bytes of the smallest model: another
# try would cost its minutes again, but a smaller one may fit.
_REFUSED: Final[dict[str, int]] = {}


def _refuse(model: Path) -> None:
    kind, size = _architecture(model), _weights_bytes(model)
    _REFUSED[kind] = min(size, _REFUSED.get(kind, size))


def _is_refused(model: Path) -> bool:
    return _weights_bytes(model) >= _REFUSED.get(_architecture(model), sys.maxsize)


def _architecture(model: Path) -> str:
    return str(read_json(model / "config.json").get("architectures"))


def _weights_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))
