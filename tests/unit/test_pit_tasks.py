"""What the stages of PIT are asked."""

import pytest

from selfimprove.errors import ConfigError
from selfimprove.methods.pit.tasks import Task, placebos
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
