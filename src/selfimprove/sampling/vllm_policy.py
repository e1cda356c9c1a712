"""Draws from a policy in training by a vLLM server, which is given all its weights as they change.

They lie in a folder that the server reads anew (its own `reload_weights`, on any device; its transfers by NCCL and CUDA
IPC need GPUs), and what it remembers of prompts is forgotten. It must prove itself before the first draw
(`vllm_proof`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import ServerConfig
from selfimprove.sampling.held_policy import Weights
from selfimprove.sampling.policy_server import PolicyServer
from selfimprove.sampling.server_client import GaveUpError
from selfimprove.sampling.vllm_proof import doubt_of, untied

__all__ = ["VllmPolicy"]

_ALLOWED: Final = {"VLLM_SERVER_DEV_MODE": "1"}
_ADVICE: Final = (
    "it cannot draw from a policy in training: take the version that `selfimprove engines add vllm` "
    "installs, with --enforce-eager, or leave the draws to the trainer (rollouts.by=trainer)"
)


@final
class VllmPolicy(PolicyServer):
    """A server that holds a policy."""

    def __init__(  # noqa: PLR0913  a model, a server, a folder between them, by name
        self,
        base: Path,
        tokenizer: Any,  # noqa: ANN401
        ends: Collection[int],
        config: ServerConfig,
        *,
        environment: Mapping[str, str | None],
        scratch: Path,
        unties: bool,
        chat_template_kwargs: Mapping[str, Any],
    ) -> None:
        """Reach the server, or start it on the model that the policy began as.

        Args:
            base: its folder.
            tokenizer: of the model.
            ends: tokens that end a text.
            config: of the server.
            environment: variables of a server that is started, beside the run's own.
            scratch: becomes the folder of weights on their way to the server, which must see it.
            unties: start it on a copy of the model whose output layer is not the embedding: where it computes on
                a CPU, it would not see that the two have changed.
            chat_template_kwargs: variables of the chat template.

        Raises:
            EngineError: it cannot be started or does not answer.
        """
        start = scratch / "start"
        self._equal = untied(base, start) if unties and config.command else {}
        held = start if (start / "config.json").exists() else base
        super().__init__(held, tokenizer, ends, config, environment={**environment, **_ALLOWED},
                         chat_template_kwargs=chat_template_kwargs)  # fmt: skip
        self._base, self._scratch = base, scratch
        self._is_proven = False

    @property
    def policy(self) -> str:
        """The model's name."""
        return self._client.model

    def give(self, weights: Weights) -> None:
        """Let the server draw from these weights from now on; nothing may be under way meanwhile.

        Raises:
            EngineError: it does not take them, or says so and draws from others.
        """
        told = dict(weights)
        if not self._is_proven:
            self._check_names(told)
            if doubt := doubt_of(self._base, self._load, self._log_probs):
                raise EngineError(
                    f"{self.url} says that it has read weights, and does not compute with them: {doubt}\n{_ADVICE}"
                )
            self._is_proven = True
        self._load(told)

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True)
        file = self._scratch / "model.safetensors"
        new = file.with_suffix(".new")
        # A new file each time: the server may still have the one before mapped.
        told = {name: of.detach().contiguous() for name, of in weights.items()}
        told |= {name: told[as_this].clone() for name, as_this in self._equal.items()}
        save_file(told, new)
        new.replace(file)
        there = {"weights_path": str(self._scratch.resolve())}
        self._order("collective_rpc", {"method": "reload_weights", "kwargs": there})
        answer = self._order("reset_prefix_cache", {})
        if not (isinstance(answer, dict) and answer.get("success")):
            raise EngineError(
                f"{self.url} keeps what it read of prompts with other weights: {answer}"
            )

    def _order(self, page: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401
        try:
            return self._client.order(page, body)
        except EngineError as error:
            raise EngineError(f"{error}\n{_ADVICE}") from error

    def _check_names(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Refuse names that the model's own folder does not use: the server knows those alone."""
        known: set[str] = set()
        for file in self._base.glob("*.safetensors"):
            with safe_open(file, framework="pt") as held:
                known.update(held.keys())
        if strange := sorted(weights.keys() - known):
            raise EngineError(
                f"the training calls a weight {strange[0]}, which {self._base} does not: vLLM could not be "
                "told of it. Leave the draws to the trainer (rollouts.by=trainer)"
            )

    def _log_probs(self, text: Sequence[int]) -> list[float]:
        body = {"model": self._client.model, "prompt": list(text), "max_tokens": 1, "temperature": 0,
                "prompt_logprobs": 0}  # fmt: skip
        try:
            told = self._client.ask("completions", body, 0)["choices"][0]["prompt_logprobs"]
            return [
                float(of[str(token)]["logprob"])
                for of, token in zip(told[1:], text[1:], strict=True)
            ]
        except (GaveUpError, LookupError, TypeError, ValueError) as error:
            raise EngineError(
                f"{self.url} does not tell log-probabilities ({error})\n{_ADVICE}"
            ) from error
