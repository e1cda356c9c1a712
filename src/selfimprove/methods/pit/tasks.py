"""What the stages of PIT are asked: which preferences fit, the tasks of each RL, the held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selfimprove.data.improvement_prompts import ImprovementTemplate, rendered
from selfimprove.data.preferences import Preference
from selfimprove.errors import ConfigError, EngineError
from selfimprove.methods.pit.inference import Conversation
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.engine import PromptLayout
from selfimprove.seeds import rng
from selfimprove.types import Message, ModelRef, Request, Response

__all__ = ["Task", "asked", "conversations", "fitting", "from_data", "from_policy", "from_prompts",
           "is_hidden", "placebo_rejected", "placebos", "shown", "some_hidden", "split"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to be done in reinforcement learning: respond to a prompt, or improve a response."""

    id: str
    of: str
    """The prompt's own id: tasks on one prompt are never parted between training and validation."""
    prompt: tuple[Message, ...]
    reference: str | None
    """What is to be improved; None: there is nothing yet."""
    hidden: bool = False
    """The model is not shown the reference; its reward is still the gap over it."""


def fitting(
    preferences: Sequence[Preference],
    model: ModelRef,
    layout: PromptLayout,
    max_prompt: int,
    max_response: int,
) -> Filtered[Preference]:
    """Leave out preferences with a prompt or a response above the windows, in tokens of the model.

    Raises:
        EngineError: the model has no tokenizer.
    """
    from selfimprove.sampling.conversation import as_asked
    from selfimprove.sampling.encoder import encoder_of
    from selfimprove.sampling.loading import load_tokenizer
    from selfimprove.sampling.prompts import encode
    from selfimprove.types import Prompt

    tokenizer, variables = load_tokenizer(Path(model.path)), layout.chat_template_kwargs
    asked = [Prompt(p.id, as_asked(p.prompt, chat=layout.chat)) for p in preferences]
    read = [len(e.ids) for e in encode(asked, tokenizer, variables)] if asked else []
    both = [text for p in preferences for text in (p.chosen, p.rejected)]
    # The mark that ends a response is sampled too.
    said = [len(row) + 1 for row in encoder_of(tokenizer, variables).texts(both)]
    kept, long_prompts, long_responses = [], 0, 0
    for number, p in enumerate(preferences):
        longer = max(said[2 * number : 2 * number + 2]) > max_response
        if read[number] > max_prompt:
            long_prompts += 1
        elif longer:
            long_responses += 1
        else:
            kept.append(p)
    drops = (
        Drop(f"prompt of more than {max_prompt} tokens", long_prompts),
        Drop(f"response of more than {max_response} tokens", long_responses),
    )
    found = tuple(drop for drop in drops if drop.count)
    return Filtered(kept, (Funnel("fitting preferences", len(preferences), len(kept), found),))


def from_prompts(preferences: Sequence[Preference]) -> list[Task]:
    """Return the RL of M_P: respond to each prompt, once."""
    return [Task(id, id, prompt, None) for prompt, id in _first_ids(preferences).items()]


def from_data(preferences: Sequence[Preference]) -> list[Task]:
    """Return the first round (Eq. 4): improve y_l and y_w of every triple."""
    first = _first_ids(preferences)
    return [
        Task(f"{p.id}-{name}", first[p.prompt], p.prompt, text)
        for p in preferences
        for name, text in (("rejected", p.rejected), ("chosen", p.chosen))
    ]


def from_policy(prompts: Sequence[Task], drawn: Sequence[Response]) -> Filtered[Task]:
    """Return the second round (Eq. 5): improve what M_P responds; what did not end is no response.

    Of prompts that were responded to more than once, the responses follow each other.

    Raises:
        EngineError: fewer than two responses came to their end: one to learn on, one to try.
    """
    texts: dict[str, list[str]] = {task.id: [] for task in prompts}
    for r in drawn:
        if r.is_finished and r.text:
            texts[r.prompt_id].append(r.text)
    each = 1 + max((r.index for r in drawn), default=0)
    # References whose draws are compared are all there, or none is.
    texts = {id: found for id, found in texts.items() if len(found) == each}
    if len(texts) < 2:
        raise EngineError(
            f"{len(texts)} of the {len(drawn)} responses that are to be improved came to their end, and "
            "two are needed: raise max_response_tokens, or train M_P longer"
        )
    tasks = [
        Task(t.id if each == 1 else f"{t.id}-{number}", t.of, t.prompt, text)
        for t in prompts
        for number, text in enumerate(texts.get(t.id, ()))
    ]
    drop = Drop("M_P's response did not end", len(prompts) - len(texts))
    found = (drop,) if drop.count else ()
    return Filtered(tasks, (Funnel("responses to improve", len(prompts), len(texts), found),))


def placebos(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks, each with the reference of a task on another prompt, far from it in their order.

    Raises:
        ConfigError: all tasks are on one prompt.
    """
    if len({task.of for task in tasks}) < 2:
        raise ConfigError("ablations: placebo_reference needs two prompts to be trained on")
    others = [*tasks, *tasks, *tasks]
    return [
        replace(task, reference=next(t.reference for t in others[k + len(tasks) // 2 :] if t.of != task.of))
        for k, task in enumerate(tasks)
    ]  # fmt: skip


def placebo_rejected(preferences: Sequence[Preference]) -> list[Preference]:
    """Return the preferences, each with y_l of another prompt, as `placebos` does for tasks."""
    tasks = placebos([Task(p.id, p.id, p.prompt, p.rejected) for p in preferences])
    return [replace(p, rejected=t.reference or "") for p, t in zip(preferences, tasks, strict=True)]


def some_hidden(tasks: Sequence[Task], share: float, seed: int) -> list[Task]:
    """Return the tasks, a share of them with a reference that the model is not shown."""
    return [replace(task, hidden=is_hidden(task.id, share, seed)) for task in tasks]


def is_hidden(id: str, share: float, seed: int) -> bool:
    """Return whether what is called so is one of the share that is shown without a reference."""
    return rng(seed, "reference dropout", id).random() < share


def asked(tasks: Sequence[Task]) -> list[Request]:
    """Return the prompts of tasks as they stand."""
    return [Request(t.id, in_words(t.prompt), 0, t.prompt) for t in tasks]


def shown(task: Task, template: ImprovementTemplate) -> tuple[Message, ...]:
    """Return what the model of a task reads."""
    if task.reference is None or task.hidden:
        return task.prompt
    return rendered(template, task.prompt, task.reference)


def split(tasks: Sequence[Task], validation: int) -> tuple[list[Task], list[Task]]:
    """Set the tasks on the first `validation` prompts apart: at most a third of all, at least one.

    Of the tasks on one prompt two are tried: y_l and y_w of one triple, in the first round.
    """
    prompts = list(dict.fromkeys(t.of for t in tasks))
    most = max(len(prompts) // 3, 1)
    apart: dict[str, list[Task]] = {p: [] for p in prompts[: min(validation, most)]}
    learned: list[Task] = []
    for task in tasks:
        apart.get(task.of, learned).append(task)
    return learned, [task for found in apart.values() for task in found[:2]]


def conversations(
    preferences: Sequence[Preference], most: int | None, seed: int
) -> list[Conversation]:
    """Return the prompts of held-out preferences, each once: all of them, or a seeded choice."""
    found = [Conversation(id, prompt) for prompt, id in _first_ids(preferences).items()]
    if most is not None and most < len(found):
        chosen = set(rng(seed, "held-out prompts").sample(range(len(found)), most))
        found = [c for number, c in enumerate(found) if number in chosen]
    return found


def _first_ids(preferences: Sequence[Preference]) -> dict[tuple[Message, ...], str]:
    """Return every prompt with the id of its first preference, in order."""
    found: dict[tuple[Message, ...], str] = {}
    for p in preferences:
        found.setdefault(p.prompt, p.id)
    return found
