"""Which program a server is, and what it must be told so that a draw is shaped by the recipe alone.

What a request leaves out, servers fill in: llama.cpp draws from the 40 most probable tokens, and from
those of them that are at least a twentieth as probable as the first; vLLM takes what the model's
`generation_config.json` says; `transformers serve` does not sample at all. A server that is not known
is sent the fields of OpenAI's interface and those that the recipe names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, final

from selfimprove.sampling.engine import SamplingConfig

__all__ = ["Software", "software_at"]

_Name: TypeAlias = Literal["vllm", "llama.cpp", "llama-cpp-python", "transformers", "unknown"]

_KEEP_SEEDS: Final[frozenset[_Name]] = frozenset({"vllm", "llama.cpp", "llama-cpp-python"})


@final
@dataclass(frozen=True, slots=True)
class Software:
    """A program that serves a model."""

    name: _Name = "unknown"
    version: str = ""
    """Empty where it does not say."""
    context: int | None = None
    """Tokens that it lets its model attend to; None: it does not say."""

    @property
    def keeps_seeds(self) -> bool:
        """Whether a request's seed decides its draw, however many requests are under way."""
        return self.name in _KEEP_SEEDS

    def fields(self, sampling: SamplingConfig) -> dict[str, Any]:
        """Return what a request needs beyond OpenAI's interface, so that nothing else shapes its draws."""
        if self.name == "vllm":
            return {"top_k": sampling.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        if self.name in ("llama.cpp", "llama-cpp-python"):
            return {"top_k": sampling.top_k, "min_p": 0.0, "repeat_penalty": 1.0}
        if self.name == "transformers":
            # It refuses these as fields, and takes them as a generation config in JSON.
            told = {"do_sample": sampling.temperature > 0, "top_k": sampling.top_k, "min_p": 0.0,
                    "repetition_penalty": 1.0}  # fmt: skip
            return {"generation_config": json.dumps(told)}
        return {"top_k": sampling.top_k} if sampling.top_k else {}

    def __str__(self) -> str:
        """Return name and version."""
        return f"{self.name} {self.version}".rstrip()


def software_at(url: str, told: Callable[[str], Any]) -> Software:
    """Return the program behind an address, by what it says of itself.

    Args:
        url: of its interface, ending in /v1.
        told: gives the JSON at an address, None where there is none.
    """
    root = url.removesuffix("/v1")
    model = _model(told(f"{url}/models"))
    owner = model.get("owned_by")
    if owner == "vllm":
        version = _at(told(f"{root}/version"), "version")
        return Software("vllm", str(version or ""), _count(model.get("max_model_len")))
    if owner == "llamacpp":
        props = told(f"{root}/props")
        room = _count(_at(props, "default_generation_settings", "n_ctx"))
        return Software("llama.cpp", str(_at(props, "build_info") or ""), room)
    pages = told(f"{root}/openapi.json")
    if "llama.cpp Python" in str(_at(pages, "info", "title")):
        return Software("llama-cpp-python", str(_at(pages, "info", "version") or ""))
    if {"/load_model", "/v1/chat/completions"} <= set(_at(pages, "paths") or ()):
        return Software("transformers")
    return Software(context=_count(model.get("max_model_len")))


def _model(told: Any) -> Mapping[str, Any]:  # noqa: ANN401
    models = _at(told, "data")
    first = models[0] if isinstance(models, list) and models else None
    return first if isinstance(first, Mapping) else {}


def _at(told: Any, *path: str) -> Any:  # noqa: ANN401
    for part in path:
        told = told.get(part) if isinstance(told, Mapping) else None
    return told


def _count(told: object) -> int | None:
    return told if isinstance(told, int) and told > 0 else None
