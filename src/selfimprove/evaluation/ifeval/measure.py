"""Models, or files of responses, measured on IFEval: what `selfimprove eval ifeval` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfimprove.config import load
from selfimprove.errors import DataError
from selfimprove.evaluation.ifeval.language import need_detector
from selfimprove.evaluation.ifeval.rows import InstructedPrompt, read_prompts, read_responses
from selfimprove.evaluation.ifeval.scores import Checked, check, difference, figures
from selfimprove.files import make_folder, write_replacing
from selfimprove.judges.own_engine import ChatsAndJudges
from selfimprove.models import locate
from selfimprove.progress import track
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.responses import respond
from selfimprove.sampling.served import serving
from selfimprove.types import UserPrompt

__all__ = ["measure_ifeval"]

_CHUNK: Final = 64  # prompts answered between two signs of progress


class _Asking(ChatsAndJudges):
    """What may be overridden on the command line."""

    sampling: SamplingConfig = SamplingConfig(temperature=0, max_tokens=1280)
    """How models answer. lm-evaluation-harness: greedily, 1,280 tokens."""


@dataclass(frozen=True, slots=True)
class _Answers:
    """What one system said; a prompt without a response is absent."""

    system: str
    said: Mapping[str, str]
    """Of each prompt's key."""
    unfinished: int | None
    """Responses that did not end; None: a file does not say."""


def measure_ifeval(
    systems: Sequence[str],
    data: Path,
    how: Mapping[str, Any],
    *,
    limit: int | None = None,
    seed: int = 0,
    out: Path | None = None,
) -> list[dict[str, Any]]:
    """Return the figures of each system, and its difference from the first, as JSON data.

    Args:
        systems: models, or .jsonl files with prompt and response a row.
        data: IFEval's `input_data.jsonl`.
        how: fields of `sampling` and `engine`.
        limit: first so many prompts.
        seed: of the responses.
        out: a folder for the responses of models, a .jsonl file each.

    Raises:
        ConfigError: a field is unknown, or the detector of languages is not installed.
        DataError: a file cannot be read, or holds no response to any prompt.
        EngineError: a model cannot be loaded, or a prompt does not fit its context.
    """
    config = load(_Asking, how, "overrides")
    need_detector()
    prompts = read_prompts(data, limit)
    found: list[dict[str, Any]] = []
    first: list[Checked] | None = None
    for system in systems:
        answers = _answers(system, prompts, config, seed)
        if out is not None and answers.unfinished is not None:
            _write(out / f"{len(found)}-{Path(system).name}.jsonl", prompts, answers)
        checked = [check(p, answers.said[p.key]) for p in prompts if p.key in answers.said]
        told = figures(checked, len(prompts) - len(checked))
        versus = None if first is None else difference(first, checked)
        found.append({"system": system, "data": data.name, **told,
                      "unfinished": answers.unfinished, "versus_first": versus})  # fmt: skip
        first = first or checked
    return found


def _answers(
    system: str, prompts: Sequence[InstructedPrompt], config: _Asking, seed: int
) -> _Answers:
    if system.endswith((".jsonl", ".json")):
        told = read_responses(Path(system))
        said = {p.key: told[p.text] for p in prompts if p.text in told}
        if not said:
            raise DataError(f"{system} holds no response to any of the {len(prompts)} prompts")
        return _Answers(system, said, None)
    asked = [UserPrompt(p.key, "ifeval", p.text) for p in prompts]
    chunks = [asked[i : i + _CHUNK] for i in range(0, len(asked), _CHUNK)]
    with serving(locate(system), config.engine) as model:
        drawn = respond(chunks, model, config.sampling, seed)
        rows = [r for batch in track(drawn, "prompts", len(chunks)) for r in batch.rows]
    given = [r for r in rows if r.finish != "error" and r.index == 0]
    return _Answers(
        system, {r.prompt_id: r.text for r in given}, sum(not r.is_finished for r in given)
    )


def _write(path: Path, prompts: Sequence[InstructedPrompt], answers: _Answers) -> None:
    rows = [{"prompt": p.text, "response": answers.said[p.key]} for p in prompts
            if p.key in answers.said]  # fmt: skip
    make_folder(path.parent)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_replacing(path, lines.encode("utf-8", errors="replace"))
