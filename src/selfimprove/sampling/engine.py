"""What every engine promises: prompts in, draws out as they finish, each with its own seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol, Self, TypeAlias

from pydantic import Field, model_validator

from selfimprove.config import Config
from selfimprove.sampling.own_words import spoken
from selfimprove.types import Draw, Prompt

__all__ = [
    "BATCH_TOKENS",
    "MAX_ROWS",
    "READ_TOKENS",
    "Engine",
    "EngineConfig",
    "PromptLayout",
    "RayConfig",
    "Sampler",
    "SamplingConfig",
    "ServerConfig",
    "Temperature",
    "draw_in_order",
]


MAX_ROWS: Final = {"cpu": 512, "cuda": 2048}
"""Rows that the built-in engine draws at once: more do not make a step cheaper a row (CPU: measured),
and they cost memory."""

BATCH_TOKENS: Final = 65_536
"""Cache entries held at once, where memory does not say how many."""

READ_TOKENS: Final = 8192
"""Prompts are read in passes of about so many tokens."""

Temperature: TypeAlias = Annotated[float, Field(ge=0)]
"""Of a draw; 0 is greedy."""


class SamplingConfig(Config):
    """How continuations are drawn. Names are those of the OpenAI and vLLM interfaces."""

    n: int = Field(default=1, ge=1)
    """Draws a prompt."""
    temperature: float = Field(default=0.7, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the smallest set of tokens that holds this much probability; 1 is all."""
    top_k: int = Field(default=0, ge=0)
    """Sample from this many most probable tokens; 0 is all."""
    max_tokens: int = Field(default=256, ge=1)
    """Tokens sampled at most for one draw."""
    stop: tuple[str, ...] = ()
    """Strings that end a draw; the draw's text stops before the first of them."""


class ServerConfig(Config):
    """An OpenAI-compatible server: one that runs, or a command that the run starts and stops."""

    url: str | None = None
    """Of a server that runs, e.g. http://127.0.0.1:8000/v1."""
    command: tuple[str, ...] = ()
    """Starts a server, e.g. [vllm, serve, "{model}", --port, "{port}"]; {model} becomes the folder of
    the model and {port} a free port. The program may come from another environment."""
    model: str | None = None
    """The name that requests carry; None: the model's folder."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself is stored nowhere."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request, as this server knows them, e.g. {min_p: 0.05}."""
    concurrency: int = Field(default=16, ge=1)
    """Requests under way at once."""
    timeout: float = Field(default=600, gt=0)
    """Seconds to wait for one response."""
    retries: int = Field(default=5, ge=0)
    """Further attempts after a lost connection, a time-out, and status 408, 429 or 5xx."""
    startup_timeout: float = Field(default=900, gt=0)
    """Seconds in which a started server must answer."""
    max_failed: float = Field(default=0.05, ge=0, le=1)
    """Draws that failed for good are recorded as such; above this share the call fails."""
    adapters: bool = False
    """The server takes adapters while it runs (`vllm serve --enable-lora`): a policy that is trained
    with `lora` is then drawn from it, too."""

    @property
    def follows_model(self) -> bool:
        """Whether the run starts it on the model that is asked."""
        return any("{model}" in word for word in self.command)

    @model_validator(mode="after")
    def _is_one_server(self) -> Self:
        if bool(self.url) == bool(self.command):
            raise ValueError("engine.server: give `url` of a running server or `command`, not both")
        if self.command and not any("{port}" in word for word in self.command):
            raise ValueError("engine.server.command must hold {port}: the run chooses a free one")
        if self.adapters and not self.command:
            raise ValueError(
                "engine.server.adapters needs `command`: every training begins with a model of its "
                "own, which the server must hold"
            )
        return self


class RayConfig(Config):
    """Several engines as actors of Ray, on this machine or on a cluster."""

    replicas: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Engines at once. auto: one a GPU where there are GPUs, else one for every `engine.threads` cores (1
    unless said); nodes that join later are used."""
    per_replica: Literal["auto", "torch", "vllm"] = "auto"
    """The engine of each replica, as in `engine.kind`."""
    address: str = "local"
    """local: a Ray of this machine's, started and stopped with the engine. auto: the cluster that this machine
    belongs to. Else of a cluster's head, e.g. 10.0.0.1:6379. All nodes must see the model's folder."""
    shard_prompts: int = Field(default=256, ge=1)
    """Prompts that a replica is given at once at most: a call of no more goes to one of them whole."""


class PromptLayout(Config):
    """How conversations are laid out for a model, wherever it reads them."""

    chat: bool
    """By its chat template; otherwise as plain text."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template."""


# What the conversation and its end look like is said by whoever asks, not by a recipe.
_NOT_OF_THE_TEMPLATE: Final = frozenset(
    {"messages", "conversation", "chat_template", "tokenize", "add_generation_prompt",
     "continue_final_message", "return_dict", "return_tensors", "max_length", "truncation", "padding"}
)  # fmt: skip


class EngineConfig(Config):
    """Which engine samples, and within what bounds."""

    kind: Literal["auto", "torch", "vllm", "server", "ray"] = "auto"
    """torch: the built-in sampler, any Hugging Face causal LM on CPU or one GPU. vllm: vLLM in the
    environment that `selfimprove engines add vllm` makes, a server a run starts and stops. auto: vllm
    where that environment is, for models on a GPU that are large enough for it; else torch. server: any
    OpenAI-compatible server (vLLM, SGLang, llama.cpp, transformers serve, a hosted judge). ray: replicas of
    torch or vllm on many devices or machines (extra `ray`)."""
    server: ServerConfig | None = None
    """Which server, where `kind` is server."""
    ray: RayConfig | None = None
    """Which replicas, where `kind` is ray; left out, as many as there is room for on this machine."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the arithmetic, however the weights are stored; auto: bfloat16 on a GPU that has it, and on a
    CPU with AMX from a hidden size of 256; else float32. `doctor` tells."""
    quantization: Literal["int8"] | None = None
    """int8: hold the linear layers of a model that is only read in eight bits, a quarter of float32 (extra
    `quantized`). For judges and reward models on the built-in engine; None: in the precision of `dtype`."""
    chat: bool = False
    """Lay prompts out by the model's chat template (instruct models); otherwise as plain text."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, in sampling, training and judging alike, e.g.
    {enable_thinking: false} for a template that would open a reasoning block."""
    max_batch_tokens: int | None = Field(default=None, ge=1)
    """Cache entries (rows x length) held at once; halved by itself when memory runs out. None: what a
    GPU has memory for, where its decoding steps are graphs; 65,536 elsewhere."""
    threads: int | None = Field(default=None, ge=1)
    """That compute on a CPU, in training as well; None: one a core. No step is made anew for it."""

    later: ClassVar[frozenset[str]] = frozenset({"quantization"})

    def identifying(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Leave out what says how fast a step is made, not what."""
        told = super().identifying(tree)
        del told["threads"], told["ray"]
        # Who draws is noted beside the rows; either is asked for the same, and no step is made
        # anew when vLLM comes or goes, nor for how many draw. `auto` was `torch` before there was a choice.
        kind = self.of_a_replica.kind
        kind = "torch" if kind == "auto" else kind
        # Left out, it is what it was when it had to be a number: steps made then are still good.
        return {**told, "kind": kind, "max_batch_tokens": self.max_batch_tokens or BATCH_TOKENS}

    @property
    def replicas(self) -> RayConfig:
        """Which replicas draw, where `kind` is ray."""
        return self.ray or RayConfig()

    @property
    def of_a_replica(self) -> EngineConfig:
        """The engine of each of them; where `kind` is not ray, the same."""
        if self.kind != "ray":
            return self
        return self.model_copy(update={"kind": self.replicas.per_replica, "ray": None})

    @property
    def one_of_several(self) -> EngineConfig:
        """The same where several models are held at once: vLLM takes a GPU's memory for one, Ray all devices."""
        if self.server is not None:
            return self
        return self.model_copy(update={"kind": "torch", "ray": None})

    @property
    def layout(self) -> PromptLayout:
        """How prompts are laid out: what a training must share with the engine."""
        return PromptLayout(chat=self.chat, chat_template_kwargs=self.chat_template_kwargs)

    @model_validator(mode="after")
    def _leaves_the_conversation_alone(self) -> Self:
        taken = sorted(_NOT_OF_THE_TEMPLATE & set(self.chat_template_kwargs))
        if taken:
            raise ValueError(
                f"engine.chat_template_kwargs: {', '.join(taken)} is no variable of a chat template"
            )
        return self

    @model_validator(mode="after")
    def _names_its_server(self) -> Self:
        if (self.kind == "server") != (self.server is not None):
            raise ValueError("engine: kind `server` and the block `server` belong together")
        if self.ray is not None and self.kind != "ray":
            raise ValueError("engine: the block `ray` belongs to kind `ray`: set engine.kind=ray")
        if self.quantization and (self.of_a_replica.kind not in ("auto", "torch")):
            raise ValueError(
                f"engine.quantization={self.quantization}: the built-in engine rounds weights as it loads "
                f"them; kind={self.of_a_replica.kind} does not: set engine.kind=torch, or tell the server itself "
                "by its command (vLLM: --quantization)"
            )
        if self.kind == "ray" and self.device.startswith("cuda:"):
            raise ValueError(
                f"engine.device={self.device}: Ray gives each replica a GPU of its own: take device=cuda"
            )
        return self


class Sampler(Protocol):
    """Whatever continues prompts."""

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, each as it finishes, in any order.

        A draw's randomness comes from (seed, prompt key, draw index) alone.

        Raises:
            EngineError: a prompt does not fit the model's context, or two prompts share a key.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back."""
        ...


class Engine(Sampler, Protocol):
    """One loaded model, ready to continue prompts."""

    @property
    def identity(self) -> dict[str, str]:
        """Engine, its version, device, dtype, threads, weights digest: stored with what it made."""
        ...

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Return, for each (prompt, continuation), the log-probability of each of its tokens.

        In nats, at temperature 1; the end-of-sequence token is not added.
        """
        ...


def draw_in_order(
    sampler: Sampler, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
) -> list[Draw]:
    """Return all draws, in the order of the prompts and then of the draws' indices.

    Reasoning is parted from each text: nothing behind an engine reads it as the response.
    """
    place = {prompt.key: i for i, prompt in enumerate(prompts)}
    draws = map(spoken, sampler.draw(prompts, sampling, seed=seed))
    return sorted(draws, key=lambda draw: (place[draw.key], draw.index))
