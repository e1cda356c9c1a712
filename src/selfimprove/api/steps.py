"""The steps of LMSI one by one, for a notebook: plain rows in, plain rows out, nothing stored in between.

questions = si.read_questions("gsm8k:train.jsonl", limit=100)
paths = si.draw_paths(model, questions, m=8)
votes = si.vote(questions, paths)
rows = si.training_rows(questions, si.agreeing(paths, votes))
student = si.fine_tune(model, rows, out="models/student")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from selfimprove.answers.ballots import VotedQuestion, Weigh, held_votes
from selfimprove.api.model import Model
from selfimprove.config import load
from selfimprove.data.exemplars import ExemplarSet, shipped_sets
from selfimprove.data.sources import as_source, training_questions
from selfimprove.errors import ConfigError, DataError
from selfimprove.evaluation.summary import Score
from selfimprove.methods.lmsi import plot as lmsi
from selfimprove.methods.lmsi.config import FormatsConfig, KeepConfig, PathsConfig
from selfimprove.methods.lmsi.plot import TrainingRow
from selfimprove.methods.one_model import becoming, put_on_top
from selfimprove.rows import arrow_table
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Question, ReasoningPath

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "agreeing",
    "draw_paths",
    "evaluate",
    "fine_tune",
    "read_questions",
    "table",
    "training_rows",
    "vote",
]

Row = TypeVar("Row")


def read_questions(*sources: str, limit: int | None = None) -> list[Question]:
    """Read questions without their answers: `format:file`, with [50:150] behind it for those rows.

    Args:
        sources: whose ids are told apart where several count alike.
        limit: first so many questions of each.

    Raises:
        ConfigError: no format is named.
        DataError: a file cannot be read, or a row of it is broken.
    """
    told = [as_source(source, "").at_most(limit) for source in sources]
    for source in told:
        if not source.format:
            raise ConfigError(f"{source.source}: name its format, e.g. gsm8k:train.jsonl")
    return training_questions(told)


def draw_paths(
    model: Model,
    questions: Sequence[Question],
    *,
    exemplars: Sequence[ExemplarSet] | None = None,
    seed: int = 0,
    **paths: Any,  # noqa: ANN401  as a recipe states them
) -> list[ReasoningPath]:
    """Draw reasoning paths for every question (Sec. 3.1), each with the answer that it states.

    Args:
        model: that draws them.
        questions: to answer.
        exemplars: that are shown first; None: those that ship for the questions' formats.
        seed: of all draws.
        paths: fields of `PathsConfig`, e.g. m=8 or temperature=1.0.

    Raises:
        ConfigError: no such field, or a value that does not fit.
        DataError: two questions have one id.
        EngineError: a prompt does not fit the model's context.
    """
    from selfimprove.progress import track

    config = load(PathsConfig, paths, "draw_paths")
    _refuse_repeated(questions)
    sets, most = _shown(questions, exemplars), config.shard_questions
    chunks = [questions[i : i + most] for i in range(0, len(questions), most)]
    drawn = lmsi.draw_paths(chunks, model.served, sets, config, seed)
    return [row for batch in track(drawn, "paths", len(chunks)) for row in batch.rows]


def vote(
    questions: Sequence[Question],
    paths: Sequence[ReasoningPath],
    weights: Weigh | None = None,
) -> list[VotedQuestion]:
    """Hold the vote of every question over its paths (Sec. 3.1); `weights` says what each counts.

    Raises:
        ConfigError: a weight is no number from 0 on, or there is not one for each path.
        DataError: two questions have one id.
    """
    _refuse_repeated(questions)
    return held_votes(questions, paths, weights)


def agreeing(
    paths: Sequence[ReasoningPath],
    votes: Sequence[VotedQuestion],
    **keep: Any,  # noqa: ANN401  as a recipe states them
) -> list[ReasoningPath]:
    """Keep the paths that reach their question's majority answer; `keep` are fields of `KeepConfig`.

    Raises:
        ConfigError: no such field, or a value that does not fit.
    """
    return list(lmsi.agreeing_paths(paths, votes, load(KeepConfig, keep, "agreeing")).rows)


def training_rows(
    questions: Sequence[Question],
    paths: Sequence[ReasoningPath],
    *,
    exemplars: Sequence[ExemplarSet] | None = None,
    seed: int = 0,
    **formats: Any,  # noqa: ANN401  as a recipe states them
) -> list[TrainingRow]:
    """Write paths in mixed formats (Sec. 3.2); `formats` are fields of `FormatsConfig`.

    Raises:
        ConfigError: no such field, or a value that does not fit.
    """
    config = load(FormatsConfig, formats, "training_rows")
    shown = _shown(questions, exemplars)
    return list(lmsi.mixed_formats(questions, paths, shown, config, seed).rows)


def fine_tune(
    model: Model,
    rows: Sequence[TrainingRow],
    *,
    out: str | Path,
    seed: int = 0,
    **sft: Any,  # noqa: ANN401  as a recipe states them
) -> Model:
    """Fine-tune a model on rows (Sec. 3.3) and return the one in `out`; an interrupted call goes on.

    Args:
        model: to begin with; it stays as it is.
        rows: with the loss on their completions.
        out: the folder that becomes the new model; the same call again returns it.
        seed: of the order of the rows.
        sft: fields of `SftConfig`, e.g. learning_rate=1e-4 or epochs=2.

    Raises:
        ConfigError: no such field, or a value that does not fit.
        DataError: there are no rows.
        StaleStepError: `out` holds a model of other rows, another base or another config.
        TrainingError: nothing fits the model, or the loss is no number.
    """
    if not rows:
        raise DataError("fine_tune: there are no rows to learn from")
    config, folder, layout = load(SftConfig, sft, "fine_tune"), Path(out), model.engine.layout
    model.close()
    with becoming(folder, lambda _line: None) as steps:
        trained = steps.train(
            "training", lmsi.fine_tune, model.ref, list(rows), config, layout, seed
        )
        put_on_top(Path(trained.path), steps)
    return model.beside(folder)


def evaluate(
    model: Model,
    *data: str,
    limit: int | None = None,
    seed: int = 0,
    **how: Any,  # noqa: ANN401  as a recipe states them
) -> list[Score]:
    """Measure a model on questions: greedy and by vote, each score with interval and n.

    Args:
        model: that answers.
        data: as `format:file`.
        limit: first so many questions of each.
        seed: of sampled votes.
        how: fields of `AskConfig`, e.g. votes=16 or modes=["cot"].

    Raises:
        ConfigError: no such field, or a value that does not fit.
        DataError: a file cannot be read.
    """
    from selfimprove.evaluation.single import evaluate_model

    model.close()
    told = {**how, "engine": model.engine.model_dump(exclude_defaults=True)}
    found = evaluate_model(model.ref.path, data, told, limit=limit, seed=seed)
    return [Score.model_validate(score) for score in found["scores"]]


def table(rows: Iterable[Row]) -> pa.Table:
    """Return rows, of one kind, as an Arrow table, with `.to_pandas()` and `.to_pylist()`.

    Raises:
        DataError: there are none, so their columns are not known.
    """
    found = list(rows)
    if not found:
        raise DataError("table: no rows, no columns")
    return arrow_table(found, type(found[0]))


def _shown(
    questions: Sequence[Question], given: Sequence[ExemplarSet] | None
) -> tuple[ExemplarSet, ...]:
    return shipped_sets({q.dataset for q in questions}) if given is None else tuple(given)


def _refuse_repeated(questions: Sequence[Question]) -> None:
    known, count = max(
        Counter(q.id for q in questions).items(), key=lambda c: c[1], default=("", 0)
    )
    if count > 1:
        raise DataError(
            f"{count} questions have the id {known!r}, and their paths could not be told apart: read "
            "them by one call of read_questions, or give them ids of their own"
        )
