"""Code of a user's own: a judge that is a function, and a type of answers that ships with nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

import selfimprove as si
from selfimprove.answer_kinds import as_kept, kind_of
from selfimprove.answers.ballots import VoteConfig, weighted_votes
from selfimprove.answers.equality import matches, same
from selfimprove.answers.extract import extract, read_through
from selfimprove.answers.vote import vote
from selfimprove.config import IDENTITY, load
from selfimprove.data.questions import parse
from selfimprove.data.row import RowError
from selfimprove.errors import ConfigError, OwnCodeError, SelfImproveError
from selfimprove.judges.judge import judge
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.own_code import load_named, pinned
from selfimprove.runtime.launch import launch, plan_recipe
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Served
from selfimprove.types import ModelRef, Question, ReasoningPath, Response

_SQL = '''
class Sql:
    """A query is what follows `SQL:`; case and spaces mean nothing."""

    def read(self, text):
        found = text.rpartition("SQL:")[2].strip()
        return found if "SQL:" in text and found else None

    def key(self, answer):
        return " ".join(answer.rstrip(";").lower().split())
'''
_JUDGE = """
def shortest(prompts, responses):
    return [None if not r else -len(r) for r in responses]

def one(prompts, responses):
    return [1.0]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sql.py").write_text(_SQL)
    (tmp_path / "judges.py").write_text(_JUDGE)
    return tmp_path


NOBODY = Served(ModelRef("", "", ""), EngineConfig())


def test_answers_of_an_own_type_are_read_voted_on_and_compared(own: Path) -> None:
    item = parse(
        {"question": "All of t?", "answer": "select * from t", "answer_type": f"{own}/sql.py:Sql"}
    )
    kind = item.answer_type
    question = Question("q", "questions", item.text, kind)
    assert extract("I think. SQL: SELECT *  FROM t;", question) == "SELECT *  FROM t;"
    assert extract("I do not know.", kind) is None
    assert read_through("Hm. SQL: select 1", question) == ("select 1", "Hm. SQL: select 1")
    assert same("SELECT * FROM t;", "select *  from T", kind)
    assert matches("SELECT * FROM t", item.gold, kind)
    held = vote(["SELECT 1", "select 2", None, "select  1;"], kind)
    assert (held.answer, held.members) == ("SELECT 1", (0, 3))


def test_a_row_keeps_the_digest_of_its_types_file(own: Path) -> None:
    before = as_kept(f"{own}/sql.py:Sql")
    assert before.startswith(f"{own}/sql.py:Sql@")
    (own / "sql.py").write_text(_SQL + "\n# another reading\n")
    assert as_kept(f"{own}/sql.py:Sql") != before
    with pytest.raises(ConfigError, match="no longer what it was"):
        load_named(before)


def test_code_that_changed_is_run_as_it_is_now(own: Path) -> None:
    name = f"{own}/judges.py:one"
    assert load_named(name)([], []) == [1.0]
    (own / "judges.py").write_text(_JUDGE.replace("1.0", "2.0"))
    assert load_named(name)([], []) == [2.0]
    assert load_named(pinned(name))([], []) == [2.0]


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("sequel", "none of number, choice"),
        ("nowhere.py:Sql", "No such file"),
        ("no_such_module:Sql", "cannot be imported"),
        ("sql.py:Other", "holds nothing called 'Other'"),
    ],
)
def test_a_type_that_is_not_there_breaks_its_row(own: Path, named: str, why: str) -> None:
    with pytest.raises(RowError, match=why):
        parse({"question": "q?", "answer": "a", "answer_type": named})
    assert own.is_dir()


def test_a_decorated_class_is_a_type_by_its_short_name() -> None:
    @si.answer_type("colour")
    class Colour:
        def read(self, text: str) -> str | None:
            return next((c for c in ("red", "blue") if c in text.lower()), None)

        def key(self, answer: str) -> str:
            return answer

    assert extract("It is Blue.", "colour") == "blue"
    assert as_kept("colour") == "colour"
    assert isinstance(kind_of("colour"), Colour)
    for taken in ("number", "a:b"):
        with pytest.raises(ConfigError, match="choose another name"):
            si.answer_type(taken)


def _responses() -> list[Response]:
    texts = ("a long answer", "short", "")
    return [Response("p", "Why?", i, text, "stop", 1) for i, text in enumerate(texts)]


def test_a_function_of_ones_own_judges(own: Path) -> None:
    config = load(JudgeConfig, {"kind": "function", "function": "judges.py:shortest"}, "test")
    (batch,) = judge([_responses()], NOBODY, config, 0)
    assert [v.score for v in batch.rows] == [-13, -5, None]
    assert batch.rows[2].unscored == "the function gave none"
    assert own.is_dir()


def test_a_function_that_gives_too_few_scores_is_refused(own: Path) -> None:
    config = load(JudgeConfig, {"kind": "function", "function": f"{own}/judges.py:one"}, "test")
    with pytest.raises(OwnCodeError, match="gave 1 scores for 3 responses"):
        list(judge([_responses()], NOBODY, config, 0))


def always_two(prompts: list[str], responses: list[str]) -> list[float]:
    return [2.0 for _ in zip(prompts, responses, strict=True)]


def test_from_python_the_function_itself_may_be_given() -> None:
    config = load(JudgeConfig, {"kind": "function", "function": always_two}, "test")
    assert load_named(str(config.function)) is always_two
    assert str(config.function).startswith("tests.unit.test_own_code:always_two@")
    (batch,) = judge([_responses()], NOBODY, config, 0)
    assert {v.score for v in batch.rows} == {2.0}


def test_a_judge_belongs_to_the_code_it_was_written_with(own: Path) -> None:
    named = {"kind": "function", "function": f"{own}/judges.py:shortest"}
    config = load(JudgeConfig, named, "test")
    assert load(JudgeConfig, config.model_dump(), "test") == config
    stored = load(JudgeConfig, {**named, "function": f"{named['function']}@{'0' * 12}"}, "test")
    with pytest.raises(
        ConfigError, match="no longer what it was"
    ):  # once it is used; figures can be read
        list(judge([_responses()], NOBODY, stored, 0))


def test_code_without_a_file_is_known_by_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ModuleType("typed")  # as `__main__` is, of a notebook or of what comes by a pipe
    typed.__file__ = "<stdin>"
    monkeypatch.setitem(sys.modules, "typed", typed)
    names = []
    for body in ("return [1.0]", "return [2.0]", "\n    return [1.0]"):
        exec(f"def f(p, r): {body}", typed.__dict__)
        names.append(pinned("typed:f"))
    assert names[0] == names[2] != names[1]


def test_what_has_no_name_is_refused() -> None:
    for nameless in (lambda _prompts, responses: responses, partial(always_two)):
        with pytest.raises(ConfigError, match="no name to be found by again"):
            load(JudgeConfig, {"kind": "function", "function": nameless}, "test")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(own: Path, score: float) -> None:
    (own / "odd.py").write_text(f"def odd(p, r): return [float('{score}')] * len(r)")
    config = load(JudgeConfig, {"kind": "function", "function": "odd.py:odd"}, "test")
    with pytest.raises(OwnCodeError, match=f"odd.py:odd gave {score} for a response"):
        list(judge([_responses()], NOBODY, config, 0))


def test_verdicts_made_before_there_were_functions_stay_good() -> None:
    assert "function" not in JudgeConfig().model_dump(mode="json", context=IDENTITY)


@pytest.mark.parametrize("named", [{"kind": "function"}, {"function": "judges.py:shortest"}])
def test_kind_and_function_belong_together(own: Path, named: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        load(JudgeConfig, named, "test")
    assert own.is_dir()


def by_length(paths: list[ReasoningPath]) -> list[float]:
    return [float(len(path.text)) for path in paths]


def negative(paths: list[ReasoningPath]) -> list[float]:
    return [-1.0 for _ in paths]


_TWO_AGAINST_ONE = [
    ReasoningPath("q", i, text, answer, "stop", 1)
    for i, (text, answer) in enumerate([("xx", "1"), ("xxx", "1"), ("xxxxxx", "2"), ("x", None)])
]
_ASKED = [Question("q", "questions", "1?", "number")]


def test_weights_of_ones_own_decide_a_vote() -> None:
    (even,) = si.vote(_ASKED, _TWO_AGAINST_ONE)
    assert (even.winner, even.confidence, even.agreeing) == ("1", 0.5, (0, 1))
    (weighed,) = si.vote(_ASKED, _TWO_AGAINST_ONE, weights=by_length)
    assert (weighed.winner, weighed.confidence, weighed.agreeing) == ("2", 0.5, (2,))
    assert weighed.classes == even.classes


def test_a_weight_that_is_none_is_refused() -> None:
    for wrong in (negative, lambda paths: [1.0], lambda paths: [float("nan")] * len(paths)):
        with pytest.raises(ConfigError, match="one number from 0 on for each of 4 paths"):
            si.vote(_ASKED, _TWO_AGAINST_ONE, weights=wrong)


def test_a_recipe_names_the_function_of_its_weights(own: Path) -> None:
    (own / "weights.py").write_text("def short(paths): return [1 / len(p.text) for p in paths]")
    config = load(VoteConfig, {"weights": "weights.py:short"}, "test")
    (voted,) = weighted_votes(_ASKED, _TWO_AGAINST_ONE, config)
    assert voted.winner == "1"
    assert voted.confidence == pytest.approx((1 / 2 + 1 / 3) / (1 / 2 + 1 / 3 + 1 / 6 + 1))
    assert VoteConfig() == load(VoteConfig, {}, "test")


def test_the_digest_of_a_notebooks_function_is_the_same_in_every_process() -> None:
    code = (
        "from selfimprove.own_code import pinned\n"
        "def f(x): return x in {'one', 'two', 'three', 'four', 'five'}\n"
        "print(pinned(f))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(told) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return ['a' for _ in responses]", "gave 'a' for a response, which is no finite number"),
        ("return 1.0", "gave 1.0: it must return a list, a number or None a response"),
        ("return [1 / 0]", r"raised ZeroDivisionError: division by zero \(.*judges.py, line 2\)"),
    ],
)
def test_what_goes_wrong_in_own_code_is_told_in_a_line(
    tmp_path: Path, body: str, says: str
) -> None:
    file = tmp_path / "judges.py"
    file.write_text(f"def odd(prompts, responses):\n    {body}\n")
    config = JudgeConfig(kind="function", function=f"{file}:odd")
    with pytest.raises(OwnCodeError, match=says):
        list(judge([_responses()], NOBODY, config, 0))


_METHOD = """
from selfimprove.kit import Filtered, Method, Recipe

def nothing(config, steps):
    pass

def unsaid(rows):
    return Filtered(rows, ())

def untyped(config, steps):
    steps.rows("kept", unsaid, (1, 2))

def unsummed(config, steps):
    return steps.locate(config.model)

NOTHING, UNTYPED, UNSUMMED = (Method(Recipe, run) for run in (nothing, untyped, unsummed))
"""


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("NOTHING", "it must return the model it ends with"),
        ("UNTYPED", "which dataclass its rows are"),
    ],
)
def test_a_method_that_could_not_end_is_told_so_by_its_dry_run(own: Path, named: str, why: str):
    (own / "method.py").write_text(_METHOD)
    with pytest.raises(SelfImproveError, match=why):
        plan_recipe(Path(f"method.py:{named}"), ["model=tiny"], own / "out")


def test_a_method_without_a_summary_is_not_finished(own: Path):
    (own / "method.py").write_text(_METHOD)
    with pytest.raises(OwnCodeError, match="wrote no summary: call `summarise`"):
        launch(Path("method.py:UNSUMMED"), ["model=tiny"], own / "out", print)
    assert not (own / "out" / "finished.json").exists()
