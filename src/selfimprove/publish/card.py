"""The model card: what was done, on what, at what cost, and what came of it, read from the run alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import jinja2
from pydantic import BaseModel

from selfimprove.api.spelling import spelled
from selfimprove.data.hub import is_hub_id as is_hub_dataset
from selfimprove.data.sources import Source
from selfimprove.evaluation.summary import Score, Unit
from selfimprove.models import is_hub_id, known
from selfimprove.publish.licence import Licence, licence_of
from selfimprove.publish.subject import Subject
from selfimprove.report import wording
from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections import cost, headline
from selfimprove.runtime.launch import config_of

__all__ = ["Form", "card_of", "hub_id_of"]

Form: TypeAlias = Literal["hf", "gguf", "adapter"]

_METHODS: Final = {
    "lmsi": "LMSI ([arXiv:2210.11610](https://arxiv.org/abs/2210.11610)): the model answered unlabelled "
    "questions several times, kept the chains of thought that reach the majority answer, and was "
    "fine-tuned on them.",
    "self_rewarding": "Self-Rewarding Language Models ([arXiv:2401.10020]"
    "(https://arxiv.org/abs/2401.10020)): the model wrote prompts, answered them, judged its own "
    "answers, and was trained by DPO on the best against the worst.",
    "pit": "PIT ([arXiv:2310.00898](https://arxiv.org/abs/2310.00898)): the model learned from "
    "preferences how to turn a response into a better one.",
}
_LIBRARY: Final = {"hf": "transformers", "gguf": "gguf", "adapter": "peft"}


def card_of(subject: Subject, form: Form, file: str = "") -> str:
    """Return a README.md with metadata that the hub's own library has checked.

    Args:
        subject: the run, or the model alone.
        form: what lies beside the card.
        file: of form gguf, the file's name.
    """
    licence = licence_of(subject.base_folder)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("selfimprove.publish"), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["cell"] = _cell
    body = environment.get_template("card.md.jinja").render(
        subject=subject, form=form, file=file, licence=licence.name,
        hub_id=hub_id_of(subject.base or ""), run=subject.run and _told(subject.run),
    )  # fmt: skip
    return f"---\n{_metadata(subject, form, licence)}\n---\n{body}"


def hub_id_of(name: str) -> str | None:
    """Return the hub id of a model by the name that a recipe gives it; None: it has none."""
    if name in known.KNOWN:
        return known.KNOWN[name].hub_id
    here = Path(name).expanduser().exists()
    return name.partition("@")[0] if is_hub_id(name) and not here else None


def _metadata(subject: Subject, form: Form, licence: Licence) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = list(_results(subject.run, EvalResult)) if subject.run is not None else []
    data = ModelCardData(
        base_model=hub_id_of(subject.base or ""),
        datasets=sorted(_hub_datasets(subject.run)) or None,
        library_name=_LIBRARY[form],
        license=licence.name or None,
        model_name=subject.name,
        eval_results=results or None,
        pipeline_tag="text-generation",
        tags=["selfimprove", *_method_of(subject.run)],
    )
    return str(data.to_yaml())


def _method_of(run: RunFolder | None) -> list[str]:
    """Return the name of a shipped method; of one's own it could be anything."""
    name = "" if run is None else str(run.recipe["method"])
    return [name] if name in _METHODS else []


def _results(run: RunFolder, result: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield what was measured of the arm that the headline is about, one result a score."""
    told = run.summary.headline
    arm = next((a for a in run.summary.arms if told and a.name == told.arm), None)
    for score in arm.scores if arm else ():
        yield result(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type=score.set,
            dataset_name=score.set,
            metric_type=score.metric,
            metric_name=f"{score.metric} ({score.mode})",
            metric_value=round(score.value, 6),
            metric_args={"n": score.n, "interval_95": list(score.interval or ()) or None},
        )


def _told(run: RunFolder) -> dict[str, Any]:
    """Return what the template says of a run."""
    config = config_of(run.recipe, str(run.path / "recipe.json"))
    unit = run.summary.headline.unit if run.summary.headline else "share"
    return {
        "title": run.summary.title or run.recipe["method"],
        "method": _METHODS.get(run.recipe["method"], "A method of the user's own."),
        "sentence": (headline.figures(run) or {}).get("sentence", ""),
        "scores": [_row(arm.name, score, unit) for arm in run.summary.arms for score in arm.scores],
        "data": [(role, _part(s), s.format) for role, s in sources(config)],
        "total": (cost.figures(run) or {"total": {}})["total"],
        "duration": wording.duration,
        "count": wording.count,
        "lineage": run.lineage,
        "recipe": spelled(config, "recipe"),
    }


def _row(arm: str, score: Score, unit: Unit) -> dict[str, str]:
    """Return a line of the table of figures, as words."""
    shown: Unit = "points" if unit == "points" else "share"
    gain = score.versus_base
    value = wording.amount(score.value, shown)
    if score.interval is not None:
        low, high = (wording.amount(end, shown) for end in score.interval)
        value += f" [{low}, {high}]"
    change = gain and wording.change_of(gain.difference, shown)
    return {
        "arm": arm,
        "set": score.set,
        "metric": f"{score.metric} ({score.mode})",
        "value": value,
        "n": wording.count(score.n),
        "gain": "" if gain is None else f"{change} ({wording.span(gain.interval, shown)})",
    }


def sources(config: BaseModel, place: str = "") -> Iterator[tuple[str, Source]]:
    """Yield every source of data in a config, with the key it stands at."""
    for name in type(config).model_fields:
        yield from _within(getattr(config, name), f"{place}.{name}".lstrip("."))


def _part(source: Source) -> str:
    """Return a source with the rows that are used of it, as a recipe would say them."""
    whole = not source.skip and source.limit is None
    return source.source if whole else f"{source.source}[{source.skip or ''}:{source.end or ''}]"


def _within(value: object, place: str) -> Iterator[tuple[str, Source]]:
    if isinstance(value, Source):
        yield place, value
    elif isinstance(value, BaseModel):
        yield from sources(value, place)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _within(part, place)


def _hub_datasets(run: RunFolder | None) -> set[str]:
    if run is None:
        return set()
    config = config_of(run.recipe, str(run.path / "recipe.json"))
    named = (source.source for _, source in sources(config))
    ids = (name for name in named if not Path(name).exists() and is_hub_dataset(name))
    return {name.partition("@")[0].partition(":")[0] for name in ids}


def _cell(value: object) -> str:
    """Write a value so that it stays within its cell of a table."""
    return str(value).replace("|", "\\|").replace("\n", " ")
