"""A judge's own engine: what it leaves out is as in the engine of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import model_validator

from selfimprove.config import Config, over
from selfimprove.sampling.engine import EngineConfig

__all__ = ["ChatsAndJudges", "beside_engine"]

_ITS_OWN: Final = frozenset({"kind", "server"})


class ChatsAndJudges(Config):
    """The part of a recipe that says by which engine its model chats and its judges judge."""

    engine: EngineConfig = EngineConfig(chat=True)
    """Sampling engine, and how prompts are laid out in every stage; a judge's own block goes over it. A model
    in training is sampled by the built-in engine, which sees its newest weights, unless `server.adapters` says otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _judges_share_the_engine(cls, tree: Any) -> Any:  # noqa: ANN401  raw YAML
        return _judges_beside_engine(tree, cls.model_fields["engine"].default)


def _judges_beside_engine(tree: Any, default: EngineConfig) -> Any:  # noqa: ANN401  raw YAML
    """Lay the engines of `judge` and `evaluation.judge` over the run's own, before the recipe is checked."""
    if not isinstance(tree, Mapping):
        return tree
    filled = {**tree, **_beside(tree, tree.get("engine"), default)}
    measured = tree.get("evaluation")
    if isinstance(measured, Mapping):
        filled["evaluation"] = {**measured, **_beside(measured, tree.get("engine"), default)}
    return filled


def _beside(block: Mapping[str, Any], run: object, default: EngineConfig) -> dict[str, Any]:
    judge = block.get("judge")
    if not isinstance(judge, Mapping):
        return {}
    if isinstance(run, EngineConfig):
        return {"judge": beside_engine(judge, over(run, {}))}
    return {"judge": beside_engine(judge, over(default, run if isinstance(run, Mapping) else {}))}


def beside_engine(judge: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block of a judge, its engine laid over the fields that the run's engine states.

    An engine with a `kind` or a `server` of its own shares `chat` alone; neither is ever shared.
    """
    own = judge.get("engine")
    if not isinstance(own, Mapping):
        return dict(judge)
    shared = {"chat"} if _ITS_OWN & set(own) else set(run) - _ITS_OWN
    return {**judge, "engine": {**{n: v for n, v in run.items() if n in shared}, **own}}
