"""The three methods as functions: a recipe's keys are their arguments.

Blocks such as `sft` are mappings, or configs of their own; what they leave out is as in a recipe. The
same call resumes a run that was interrupted, and returns a finished one at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict, Unpack

from selfimprove.api.model import Model
from selfimprove.api.result import Result
from selfimprove.config import Config, described
from selfimprove.methods.table import METHODS, MethodConfig
from selfimprove.runtime.launch import config_of, default_folder, run_config

__all__ = ["Block", "Files", "config", "lmsi", "pit", "run", "self_rewarding"]

Block: TypeAlias = Mapping[str, Any] | Config
"""A block of a recipe."""
Files: TypeAlias = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""Sources: `format:file`, with [50:150] behind it for those rows, or several of them."""


class LmsiKeys(TypedDict, total=False):
    """Keys of an LMSI recipe, beside `model`, `data.train`, `data.test` and `paths.m`."""

    student: str | None
    seed: int
    iterations: int
    restart: bool
    data: Block
    decontaminate: bool
    questions: Block | None
    exemplars: Block | None
    paths: Block
    vote: Block
    keep: Block
    formats: Block
    sft: Block
    evaluation: Block
    controls: Sequence[str]
    engine: Block
    export: Block
    trackers: Sequence[str]


class SelfRewardingKeys(TypedDict, total=False):
    """Keys of a Self-Rewarding recipe, beside `model`, `seeds`, `evaluation` and `iterations`."""

    seed: int
    decontaminate: bool
    prompts: Block
    candidates: Block
    judge: Block
    pairs: Block
    learn: str
    sft: Block
    dpo: Block
    controls: Sequence[str]
    engine: Block
    export: Block
    trackers: Sequence[str]


class PitKeys(TypedDict, total=False):
    """Keys of a PIT recipe, beside `model` and `preferences`."""

    seed: int
    folds: str
    decontaminate: bool
    max_prompt_tokens: int
    max_response_tokens: int
    template: str
    sft: Block
    reward: Block
    reward_function: str | Callable[..., Any] | None
    gap: str
    policy_rl: Block
    first_round: Block
    second_round: Block
    rounds: str
    validation_prompts: int
    start: str
    improve: Block
    reference_dropout: float
    ablations: Sequence[str]
    baselines: Block
    evaluation: Block
    engine: Block
    export: Block
    trackers: Sequence[str]


def lmsi(
    model: Model | str,
    *,
    train: Files,
    test: Files,
    out: str | Path | None = None,
    m: int | None = None,
    quiet: bool = False,
    **recipe: Unpack[LmsiKeys],
) -> Result:
    """Let a model learn from its own majority-voted chains of thought (Huang et al., 2022).

    Args:
        model: that draws the paths, and learns.
        train: questions to learn from; their answers are not read.
        test: held-out questions that are reported.
        out: the run's folder [runs/lmsi-seedN].
        m: paths a question (paper: 32).
        quiet: print no progress.
        recipe: further keys of the recipe.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    data = {**_tree(recipe.get("data", {})), "train": train, "test": test}
    paths = {**_tree(recipe.get("paths", {})), **({} if m is None else {"m": m})}
    return _run(config("lmsi", model, {**recipe, "data": data, "paths": paths}), out, quiet=quiet)


def self_rewarding(
    model: Model | str,
    *,
    seeds: Block,
    evaluation: Block,
    iterations: int = 2,
    out: str | Path | None = None,
    quiet: bool = False,
    **recipe: Unpack[SelfRewardingKeys],
) -> Result:
    """Let a model write prompts, answer, judge its answers and learn from them (Yuan et al., 2024).

    Args:
        model: M0.
        seeds: what people wrote: `ift`, and `eft` or `ranked` for judging.
        evaluation: what is measured, with its held-out `prompts`.
        iterations: rounds of DPO (paper: 2).
        out: the run's folder [runs/self_rewarding-seedN].
        quiet: print no progress.
        recipe: further keys of the recipe.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    keys = {**recipe, "seeds": seeds, "evaluation": evaluation, "iterations": iterations}
    return _run(config("self_rewarding", model, keys), out, quiet=quiet)


def pit(
    model: Model | str,
    *,
    preferences: Files,
    out: str | Path | None = None,
    quiet: bool = False,
    **recipe: Unpack[PitKeys],
) -> Result:
    """Let a model learn from preferences how to improve a response (Wang et al., 2023).

    Args:
        model: that policies and reward models begin as.
        preferences: what people preferred, e.g. hh_rlhf:train.jsonl.gz.
        out: the run's folder [runs/pit-seedN].
        quiet: print no progress.
        recipe: further keys of the recipe.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    return _run(config("pit", model, {**recipe, "preferences": preferences}), out, quiet=quiet)


def run(
    method: str,
    model: Model | str,
    *,
    out: str | Path | None = None,
    quiet: bool = False,
    **recipe: Any,  # noqa: ANN401  keys of that method's recipe
) -> Result:
    """Run a method by its name: a shipped one, or one of your own as path/to/file.py:NAME.

    Args:
        method: its name.
        model: that improves.
        out: the run's folder [runs/NAME-seedN].
        quiet: print no progress.
        recipe: keys of its recipe.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    return _run(config(method, model, recipe), out, quiet=quiet)


def config(method: str, model: Model | str, keys: Mapping[str, Any]) -> MethodConfig:
    """Return the checked config of a method; a model's own engine is that of the run.

    Raises:
        ConfigError: a key is unknown, or a value does not fit.
    """
    engine: dict[str, Any] = {}
    if isinstance(model, Model):
        model.close()  # the run loads it by itself, and memory is for one
        engine = model.engine.model_dump(exclude_defaults=True)
    name = model.name if isinstance(model, Model) else model
    stated = _tree({name: value for name, value in keys.items() if value is not None})
    both = {"engine": {**engine, **stated.get("engine", {})}} if engine else {}
    return config_of({"method": method, "model": name, **stated, **both}, f"{method}(...)")


def _run(config: MethodConfig, out: str | Path | None, *, quiet: bool) -> Result:
    """Run a config, or go on where it was interrupted; return a finished run as it is.

    Raises:
        SelfImproveError: with what happened, where, and what to do.
    """
    from selfimprove.terminal import announce

    place = out or default_folder(Path(config.method), config)
    return Result.of(run_config(config, place, (lambda _line: None) if quiet else announce).root)


def _tree(given: Any) -> Any:  # noqa: ANN401  mappings, lists and values, and configs among them
    """Return a tree of plain values: of a config only what it states."""
    if isinstance(given, Config):
        return given.model_dump(exclude_unset=True)
    if isinstance(given, Mapping):
        return {name: _tree(value) for name, value in given.items()}
    if isinstance(given, Path):
        return str(given)
    return [_tree(value) for value in given] if isinstance(given, list | tuple) else given


_FUNCTIONS: Final[tuple[Any, ...]] = (lmsi, self_rewarding, pit)

for _function in _FUNCTIONS:
    _keys = described(METHODS[_function.__name__].config)
    _function.__doc__ = f"{cleandoc(_function.__doc__)}\n\nKeys of the recipe:\n{_keys}"
