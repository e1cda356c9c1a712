"""What the stages of PIT are asked."""

import pytest

from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import Preference
from selfimprove.errors import ConfigError
from selfimprove.methods.pit.tasks import Task, placebo_rejected, placebos, shown, some_hidden
from selfimprove.types import Message


def _task(of: str, number: int) -> Task:
    return Task(f"{of}-{number}", of, (Message("user", of),), f"a response to {of}")


@pytest.mark.parametrize("counts", [(1, 1), (2, 2, 2), (1, 5), (5, 1)])
def test_a_placebo_is_a_response_to_another_prompt(counts):
    tasks = [_task("abc"[of], k) for of, count in enumerate(counts) for k in range(count)]
    blind = placebos(tasks)
    assert [(t.id, t.of, t.prompt) for t in blind] == [(t.id, t.of, t.prompt) for t in tasks]
    assert all(t.reference and t.reference != f"a response to {t.of}" for t in blind)


def test_one_prompt_has_no_placebo():
    with pytest.raises(ConfigError, match="two prompts"):
        placebos([_task("a", 0), _task("a", 1)])


def test_a_preference_gets_the_rejected_response_to_another_prompt_and_keeps_its_own_chosen_one():
    told = [Preference(x, "s", (Message("user", x),), f"good {x}", f"bad {x}") for x in "abc"]
    blind = placebo_rejected(told)
    assert [(p.id, p.prompt, p.chosen) for p in blind] == [(p.id, p.prompt, p.chosen) for p in told]
    assert all(p.rejected in {f"bad {x}" for x in "abc"} - {f"bad {p.id}"} for p in blind)


def test_a_share_of_the_tasks_shows_no_reference_and_all_keep_theirs():
    tasks = [_task("a", k) for k in range(400)]
    some, words = some_hidden(tasks, 0.25, 0), improvement_template("v1")
    assert [t.reference for t in some] == [t.reference for t in tasks]
    hidden = [t for t in some if shown(t, words) == t.prompt]
    assert 70 < len(hidden) < 130
    assert all("a response to a" in shown(t, words)[-1].content for t in some if t not in hidden)
    assert some == some_hidden(tasks, 0.25, 0) != some_hidden(tasks, 0.25, 1)
