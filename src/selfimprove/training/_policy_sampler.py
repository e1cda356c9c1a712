"""Who draws from the policy in training: the built-in engine here, replicas of it, or a vLLM server.

Whoever is apart is given the weights, or the adapter, that the policy has by then: once a step at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, final

from selfimprove.errors import TrainingError
from selfimprove.sampling.adapter_server import AdapterServer
from selfimprove.sampling.architecture import unwrapped
from selfimprove.sampling.arithmetic import Arithmetic
from selfimprove.sampling.engine import EngineConfig, Sampler, SamplingConfig, ServerConfig
from selfimprove.sampling.held_policy import Weights
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.training.policy_config import (
    PolicyGradientConfig,
    RolloutConfig,
    cannot_draw,
)
from selfimprove.training.processes import everyones, first_process, processes
from selfimprove.training.whole_weights import whole_weights
from selfimprove.types import Draw, Prompt

S = TypeVar("S", bound="_Server")

__all__ = ["Policy", "PolicySampler", "policy_sampler"]


class Policy(NamedTuple):
    """The model in training, as those who draw from it need it."""

    model: Any
    """With adapters a PEFT model."""
    tokenizer: Any
    ends: Sequence[int]
    """Tokens that end a text."""
    base: Path
    """The folder whose weights the model began as."""
    use: Arithmetic
    """The precision that it computes in."""


class PolicySampler(Sampler, Protocol):
    """Draws from a policy as it was when it was last told to follow."""

    as_here: bool
    """Whether its draws of the very weights are those that this process would make of them."""

    def follow(self, step: int) -> None:
        """Draw from the policy as it is now, after so many optimiser steps, from now on."""
        ...


def policy_sampler(
    policy: Policy, engine: EngineConfig, config: PolicyGradientConfig, scratch: Path
) -> PolicySampler:
    """Return what draws from the policy.

    Args:
        policy: in training.
        engine: the run's; where it is a server that takes adapters, that server draws.
        config: says whether the engine draws apart from the trainer.
        scratch: becomes the folder of an adapter on its way to the server.

    Raises:
        TrainingError: the engine cannot draw from such a policy.
        EngineError: the engine cannot be reached or started.
    """
    adapts = hasattr(policy.model, "peft_config")
    if why_not := cannot_draw(config, engine):
        raise TrainingError(why_not)
    if engine.server is not None and engine.server.adapters:
        server = _one_server(policy, engine, engine.server)
        return _Drawing(
            server, partial(_give_adapter, policy.model, server, scratch), as_here=False
        )
    if config.rollouts.by == "trainer":
        own = TorchEngine.of_model(unwrapped(policy.model), policy.tokenizer, engine)
        return _Drawing(own, _sees_them, as_here=True)
    apart = (
        _replicas(policy, engine, config.rollouts)
        if engine.kind == "ray"
        else _vllm(policy, engine, scratch.parent / "weights")
    )
    return _Drawing(apart, partial(_give_weights, policy.model, apart),
                    as_here=engine.kind == "ray" and not adapts)  # fmt: skip


def _replicas(policy: Policy, engine: EngineConfig, rollouts: RolloutConfig) -> Sender:
    """Begin replicas that compute as the training does."""
    from selfimprove.sampling.ray_policy import RayPolicy

    if processes() > 1:
        raise TrainingError(
            f"rollouts.by=engine with engine.kind=ray: {processes()} processes train, and each would begin "
            "replicas of its own: train in one process, or leave the draws to the trainers"
        )
    device = "cpu" if policy.model.device.type == "cpu" else "cuda"
    ray = engine.replicas.model_copy(update={"shard_prompts": rollouts.shard_prompts})
    told = {"ray": ray, "dtype": policy.use.dtype, "device": device}
    return RayPolicy(policy.base, engine.model_copy(update=told))


def _vllm(policy: Policy, engine: EngineConfig, scratch: Path) -> Sender:
    """Start a server that takes all weights: vLLM of its own environment, or by a command of the user's."""
    from selfimprove.sampling import vllm_engine
    from selfimprove.sampling.loading import pick_device
    from selfimprove.sampling.vllm_policy import VllmPolicy

    device, environment = policy.model.device, dict[str, str | None]()
    if engine.server is not None:
        config = engine.server
    else:
        read, device = vllm_engine.config_of(policy.base), pick_device(engine.device)
        if device == policy.model.device and device.type == "cuda":
            raise TrainingError(
                f"rollouts.by=engine with engine.kind=vllm: vLLM would take the memory of {device}, where the "
                "policy learns: give it another GPU (engine.device=cuda:1), or say by engine.server.command "
                "how much it may have"
            )
        config = vllm_engine.server_of(device, policy.use, read)
        if device.type == "cpu":  # each training starts one: to compile takes three times as long
            eager = (*config.command, "--enforce-eager")
            config = config.model_copy(update={"command": eager})
        environment = vllm_engine.environment(device, engine.threads)
    on_cpu = device.type == "cpu"

    def reach(config: ServerConfig) -> VllmPolicy:
        return VllmPolicy(policy.base, policy.tokenizer, policy.ends, config, environment=environment,
                          scratch=scratch, unties=on_cpu, chat_template_kwargs=engine.chat_template_kwargs)  # fmt: skip

    return _shared(reach, config)


def _one_server(policy: Policy, engine: EngineConfig, config: ServerConfig) -> AdapterServer:
    """Start the server in the first process; the others reach it by its address."""

    def reach(config: ServerConfig) -> AdapterServer:
        variables = engine.chat_template_kwargs
        return AdapterServer(
            policy.base, policy.tokenizer, policy.ends, config, chat_template_kwargs=variables
        )

    return _shared(reach, config)


def _shared(reach: Callable[[ServerConfig], S], config: ServerConfig) -> S:
    """Return what the first process starts, as every process reaches it."""
    started = reach(config) if first_process() else None
    url = everyones([started.url if started else None])[0]
    return started or reach(config.model_copy(update={"command": (), "url": url}))


class _Server(Protocol):
    """What has an address."""

    @property
    def url(self) -> str: ...


class Sender(Sampler, Protocol):
    """An engine apart, which holds the weights that it was last given."""

    def give(self, weights: Weights) -> None:
        """Replace them."""
        ...


@final
class _Drawing:
    """An engine, and how it comes to hold the policy as it is."""

    def __init__(self, engine: Sampler, hand_over: Callable[[], None], *, as_here: bool) -> None:
        self._engine, self._hand_over, self.as_here = engine, hand_over, as_here
        self._step: int | None = None

    def follow(self, step: int) -> None:
        if step != self._step:
            self._hand_over()
            self._step = step

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        return self._engine.draw(prompts, sampling, seed=seed)

    def close(self) -> None:
        self._engine.close()


def _sees_them() -> None:
    """Do nothing: the built-in engine draws from the weights in memory."""


def _give_weights(model: Any, engine: Sender) -> None:  # noqa: ANN401
    if first_process():
        engine.give(whole_weights(model))
    everyones([True])  # nobody draws before they are there


def _give_adapter(model: Any, server: AdapterServer, scratch: Path) -> None:  # noqa: ANN401
    if first_process():
        model.save_pretrained(scratch)
        server.load(scratch)
    server.adapter = everyones([server.adapter])[0]
