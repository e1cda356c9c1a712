"""What a finished run says: figures with intervals, the model it ended with, its rows and its page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

from selfimprove.api.model import Model
from selfimprove.errors import DataError
from selfimprove.evaluation.summary import Arm, Headline
from selfimprove.remote import here, whole
from selfimprove.report.run_folder import RunFolder, read_run

if TYPE_CHECKING:
    import pyarrow as pa

    from selfimprove.methods.pit.improve import Chain
    from selfimprove.methods.table import MethodConfig

__all__ = ["Measured", "Result"]


class Measured(NamedTuple):
    """A measured number."""

    value: float
    """A share, of questions or comparisons, or points of a scale, as `Result.unit` says."""
    interval: tuple[float, float] | None
    """Of 95 %, low and high; None: it was not made."""
    n: int
    """Questions, prompts or comparisons that it is of."""

    def __str__(self) -> str:
        """Return it for a person."""
        within = "" if self.interval is None else " [{:.3g}, {:.3g}]".format(*self.interval)
        return f"{self.value:.3g}{within}, n = {self.n:,}"


@final
@dataclass(frozen=True)
class Result:
    """A finished run, read from its folder."""

    folder: Path
    """Everything the run made."""
    config: MethodConfig
    """The recipe that it ran, every default filled in."""

    @classmethod
    def of(cls, folder: str | Path) -> Result:
        """Read a run folder.

        Raises:
            DataError: it is no run, or one that has not finished.
        """
        from selfimprove.runtime.launch import config_of

        run = read_run(here(folder))
        if run.summary.headline is None or not (run.path / "finished.json").is_file():
            raise DataError(f"{folder} has not finished: run its recipe again with the same `out`")
        return cls(run.path, config_of(run.recipe, str(run.path / "recipe.json")))

    @cached_property
    def _run(self) -> RunFolder:
        return read_run(self.folder)

    @cached_property
    def _headline(self) -> Headline:
        headline = self._run.summary.headline
        if headline is None:
            raise DataError(f"{self.folder} has no summary: run its recipe again")
        return headline

    @property
    def before(self) -> Measured:
        """The start's headline figure."""
        base = (arm for arm in self._run.summary.arms if arm.kind == "base")
        return self._side(self._headline.before, next(base, None))

    @property
    def after(self) -> Measured:
        """That of the newest model that the gate let through."""
        named = (arm for arm in self._run.summary.arms if arm.name == self._headline.arm)
        return self._side(self._headline.after, next(named, None))

    def _side(self, value: float, arm: Arm | None) -> Measured:
        """Return one side of the headline; its interval stands with the arm of which it is a score."""
        same = (s.interval for s in (arm.scores if arm else ()) if s.value == value)
        return Measured(value, next(same, None), self._headline.n)

    @property
    def difference(self) -> Measured:
        """After less before, paired by question or prompt."""
        return Measured(self._headline.difference, self._headline.interval, self._headline.n)

    @property
    def unit(self) -> str:
        """share: fractions of questions; points: of a scale; wins: fractions of comparisons."""
        return self._headline.unit

    @property
    def summary(self) -> dict[str, Any]:
        """Everything measured, as `summary.json` has it."""
        return self._run.summary.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @property
    def model(self) -> Model:
        """The model that the run ended with: the newest that its gate let through."""
        start = Model(self.config.model, **self.config.engine.model_dump(exclude_defaults=True))
        return start.beside(self.folder)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the run's page and return where; by default beside its rows.

        Raises:
            StoreError: the place cannot be written.
        """
        from selfimprove.report.page import write

        return Path(write([self.folder], Path(path or self.folder / "report.html")))

    def steps(self) -> list[str]:
        """Return the names of the steps, in the order in which they finished."""
        return [step.name for step in self._run.steps]

    def table(self, step: str) -> pa.Table:
        """Return the rows of a step as an Arrow table, with `.to_pandas()` and `.to_pylist()`.

        Args:
            step: one of `steps()`; `votes` is enough for `round-1-votes`.

        Raises:
            DataError: no step, or several, are called so, or it has no rows.
        """
        import pyarrow.parquet as pq

        folder = self.folder / self._named(step)
        whole(folder, ("shard-*",))
        shards = sorted(folder.glob("shard-*.parquet"))
        if not shards:
            raise DataError(f"the step {step} of {self.folder} has no rows")
        import pyarrow as pa

        return pa.concat_tables([pq.read_table(shard) for shard in shards])

    def _named(self, step: str) -> str:
        names = self.steps()
        if step in names:
            return step
        found = [name for name in names if name.endswith(f"-{step}")]
        if len(found) == 1:
            return found[0]
        known = ", ".join(found or names)
        raise DataError(f"{self.folder} has no one step {step!r}: name one of {known}")

    def improve(
        self, prompt: str, *, steps: int | None = None, stop: bool = False, seed: int = 0
    ) -> Chain:
        """Respond to a prompt and improve the response step by step (PIT, Algorithm 2).

        Raises:
            ConfigError: the run is none of PIT.
            EngineError: a prompt or response does not fit a model's context.
        """
        return next(self.improvements([prompt], steps=steps, stop=stop, seed=seed))

    def improvements(
        self, prompts: list[str], *, steps: int | None = None, stop: bool = False, seed: int = 0
    ) -> Iterator[Chain]:
        """Yield the chain of each prompt; the models are loaded once for all of them.

        Raises:
            ConfigError: the run is none of PIT.
            EngineError: a prompt or response does not fit a model's context.
        """
        from contextlib import closing

        from selfimprove.methods.pit.improve import Improver, Item

        with closing(Improver.of_run(self.folder, {} if steps is None else {"steps": steps})) as by:
            items = [Item.said(str(n), text) for n, text in enumerate(prompts)]
            yield from by.chains(items, stop=stop, seed=seed)

    def __str__(self) -> str:
        """Return the headline for a person."""
        told = self._headline
        return f"{told.metric}, {told.set}: {self.before} -> {self.after}; {self.difference}"

    def _repr_html_(self) -> str:
        """Return the headline for a notebook."""
        from html import escape

        rows = {"before": self.before, "after": self.after, "difference": self.difference}
        cells = "".join(f"<tr><th>{k}</th><td>{escape(str(v))}</td></tr>" for k, v in rows.items())
        caption = escape(f"{self._headline.metric}, {self._headline.set}")
        return f"<table><caption>{caption}</caption>{cells}</table>"
