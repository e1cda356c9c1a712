"""Who judges, how it is asked, and how often."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from selfimprove.config import Config, fingerprint
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.models import is_here
from selfimprove.own_code import OwnCode
from selfimprove.sampling.engine import EngineConfig

__all__ = ["RANDOM", "JudgeConfig"]

_SELF: Final = "self"
_ASKED: Final = ("rubric", "pairwise")  # the kinds that are asked by a prompt
_WITHOUT_MODEL: Final = ("function", "random")


class JudgeConfig(Config):
    """Who judges, how it is asked, and how often."""

    kind: Literal["rubric", "pairwise", "reward_model", "function", "random"] = "rubric"
    """rubric: points by a judge prompt; pairwise: comparisons; reward_model: a classifier with one
    logit; function: code of your own; random: a control."""
    function: OwnCode | None = None
    """Of kind `function`: module:name or path/to/file.py:name. It gets a list of prompts and one of
    responses, and returns a score for each, or None. A digest of its code is added by itself."""
    model: str = _SELF
    """self: the model of the iteration; or tiny, a folder, a hub id. With an engine of kind `server`
    the name by which the server knows it."""
    prompt: str = "additive"
    """A shipped judge prompt (additive, multiple_choice, tiny; pairwise), or a YAML file of one's own.
    A pairwise judge has `pairwise` where nothing is said."""
    prompt_digest: str | None = None
    """What the judge prompt says, by digest: filled in by itself, so that a stored verdict belongs to
    the words it was asked with; where a recipe gives it, the prompt must match."""
    layout: Literal["auto", "chat", "pair", "text"] = "auto"
    """How a reward_model is shown prompt and response. chat: as turns of its chat template; pair: as two
    segments, tokenizer(prompt, response), as BERT-like ones are trained; text: as one text with an
    empty line between them. auto: as it was trained where that was here (`selfimprove reward`), else
    the first of them that its tokenizer knows."""
    votes: int = Field(default=3, ge=1)
    """Verdicts on a response, of which the mean is taken. Paper: 3."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the verdicts. Paper: that of the candidates, 0.7."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Of the verdicts. Paper: 0.9."""
    max_tokens: int = Field(default=512, ge=1)
    """Of one verdict."""
    engine: EngineConfig | None = None
    """Another engine for the judge alone, e.g. a server; None: that of the run. What it leaves out is
    as in the run's; with a `kind` or a `server` of its own it shares `chat` alone."""
    max_unscored: float = Field(default=0.5, ge=0, le=1)
    """Above this share of responses without any score the step stops with an error."""

    derived: ClassVar[frozenset[str]] = frozenset({"prompt_digest"})
    later: ClassVar[frozenset[str]] = frozenset({"function"})

    @property
    def is_asked(self) -> bool:
        """Whether it writes its verdicts, and does not only score."""
        return self.kind in _ASKED

    @property
    def is_self(self) -> bool:
        """Whether the model of the iteration judges."""
        return self.model == _SELF and self.kind not in _WITHOUT_MODEL

    @property
    def names_model(self) -> bool:
        """Whether another model than that of the iteration judges."""
        return self.model != _SELF and self.kind not in _WITHOUT_MODEL

    @property
    def holds_model_here(self) -> bool:
        """Whether `model` names weights on this machine, or such as are fetched to it."""
        if not self.names_model:
            return False
        server = self.engine.server if self.engine is not None else None
        return server is None or (bool(server.command) and is_here(self.model))

    @model_validator(mode="before")
    @classmethod
    def _pins_its_prompt(cls, tree: Any) -> Any:  # noqa: ANN401  whatever was given
        if not isinstance(tree, dict):
            return tree
        kind = tree.get("kind", "rubric")
        filled = {**tree}
        if kind == "pairwise":
            filled.setdefault("prompt", "pairwise")
        name = filled.get("prompt", "additive")
        if kind in _ASKED and isinstance(name, str):
            filled.setdefault("prompt_digest", _said_by(name, kind))
        return filled

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.kind == "function") != (self.function is not None):
            raise ValueError("judge: kind `function` and the name of a `function` belong together")
        if self.kind == "reward_model" and self.model == _SELF:
            raise ValueError("judge.model: a reward_model judge needs the folder of a classifier")
        if self.kind != "reward_model" and self.layout != "auto":
            raise ValueError("judge.layout: only a reward_model is shown prompt and response by it")
        if self.kind in _ASKED and self.votes > 1 and self.temperature == 0:
            raise ValueError("judge.votes: at temperature 0 all votes are the same; set votes=1")
        if self.kind in _ASKED and self.prompt_digest != _said_by(self.prompt, self.kind):
            raise ValueError(
                f"judge.prompt: {self.prompt} no longer says what it said when judge.prompt_digest was "
                "written; leave the digest out to judge by the new words"
            )
        return self


def _said_by(prompt: str, kind: str) -> str:
    return fingerprint(judge_prompt(prompt, pairwise=kind == "pairwise"))


RANDOM = JudgeConfig(kind="random", votes=1)
"""The control judge."""
