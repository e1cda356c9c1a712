"""The nouns that every floor shares: frozen rows, no behaviour beyond what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

AnswerType: TypeAlias = str
"""How answers of a dataset are read and compared: one of `ANSWER_TYPES`, or a type of the user's own
(`answer_kinds`), by the name it was given or as file.py:Class.

number: 1,234 = 1234 = 1234.0, 1/2 = 0.5. choice: a letter of `Question.choices`. yes_no: yes or no.
nli: yes, no or 'it is not possible to tell'. span: free text, compared after normalisation.
"""

ANSWER_TYPES: Final = ("number", "choice", "yes_no", "nli", "span")
"""Those that ship."""

FinishReason: TypeAlias = Literal["stop", "length", "error"]
"""stop: an end-of-sequence token, a stop string, or the author's turn ended; length: `max_tokens` ran
out, or the text ended inside its reasoning; error: a server gave no text after all attempts, and the
text is empty.

Only a text that ends in stop is finished; what the others are worth is said in `unfinished`.
"""

Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question as a method sees it: without its gold answer."""

    id: str
    """Unique within its dataset; stable between readings of the same file."""
    dataset: str
    """The format it was read as, e.g. `gsm8k`."""
    text: str
    """All that the model is shown: passage, question, choices."""
    answer_type: AnswerType
    choices: tuple[str, ...] = ()
    """Letters that may be answered when `answer_type` is choice, e.g. ('A', 'B', 'C')."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question with its gold answers. Only `data`, `tiny` and `evaluation` may read `gold`."""

    question: Question
    gold: tuple[str, ...]
    """Every accepted answer in its own words, e.g. ('18',) or ('B',); any one of them is right."""
    rationale: str | None = None
    """The dataset's own worked solution, where it has one."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an engine is asked to continue."""

    key: str
    """Names the prompt within one call; draws carry it back, and it seeds them."""
    content: str | tuple[Message, ...]
    """Plain text, continued as it stands, or turns, rendered by the model's chat template."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampled continuation of one prompt."""

    key: str
    """The key of its prompt."""
    index: int
    """Which of the prompt's draws it is, from 0."""
    text: str
    """The continuation alone, without stop string and special tokens."""
    finish: FinishReason
    prompt_tokens: int
    new_tokens: int
    """Tokens sampled, the end-of-sequence token included."""
    tokens: tuple[int, ...] = ()
    """Those tokens; empty where a server does not tell them."""
    logprobs: tuple[float, ...] = ()
    """Of each token as a server sampled it, in nats at temperature 1; empty: not told."""
    reasoning: str = ""
    """What the model thought before it responded, without its marks; no part of `text`."""
    thinking: bool = False
    """The prompt had opened a reasoning block: `text`, as an engine gives it, begins inside it."""

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end; see `unfinished` for what follows where it did not."""
        return self.finish == "stop"


@dataclass(frozen=True, slots=True)
class Begun:
    """A draw that is under way."""

    key: str
    """The key of its prompt."""
    index: int
    text: str
    """So far: its last character may be half there, and a stop string may have begun."""
    thinking: bool = False
    """As of a draw."""
    reasoning: str = ""
    """As of a draw; where a server has parted it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One supervised example: the loss is taken on the completion alone."""

    prompt: str | tuple[Message, ...]
    completion: str
    finished: bool = True
    """False: the completion was cut off, and no end token is put behind it."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model pinned by what it is, not by where it happens to lie."""

    name: str
    """What a person calls it: a hub id, a folder, or the base and the step that trained it."""
    path: str
    """The Hugging Face folder on this machine."""
    digest: str
    """SHA-256 over its config and weights."""


@dataclass(frozen=True, slots=True)
class ReasoningPath:
    """One sampled solution of one question, with the answer it states."""

    question_id: str
    index: int
    """Which of the question's paths it is, from 0."""
    text: str
    answer: str | None
    """Normalised; None when the path states no answer."""
    finish: FinishReason
    """stop, too, where the draw was cut off behind the sentence that states the answer."""
    new_tokens: int
    reasoning: str = ""
    """What the model thought before it, between the marks of a reasoning block."""

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end; see `unfinished` for what follows where it did not."""
        return self.finish == "stop"


@dataclass(frozen=True, slots=True)
class UserPrompt:
    """One prompt as a user would write it, without any response."""

    id: str
    """Unique within its source; stable between readings of the same file."""
    source: str
    """Where it came from: a format such as `oasst`, or the step that wrote it."""
    text: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with a response to learn from: a row of supervised seed data."""

    id: str
    source: str
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A prompt with responses that people put in order."""

    id: str
    source: str
    prompt: str
    responses: tuple[str, ...]
    """Best first; at least two."""


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response, with the prompt that it answers."""

    prompt_id: str
    prompt: str
    index: int
    """Which of the prompt's responses it is, from 0."""
    text: str
    """Without reasoning, up to the end of the model's turn."""
    finish: FinishReason
    new_tokens: int
    """Tokens sampled, those of the reasoning included."""
    reasoning: str = ""
    """What the model thought before it, between the marks of a reasoning block."""

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end; see `unfinished` for what follows where it did not."""
        return self.finish == "stop"


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked, so that its reply is a response to somebody's prompt."""

    prompt_id: str
    prompt: str
    """The prompt in words, as people and judges see it."""
    index: int
    """Of the first response that is drawn."""
    turns: tuple[Message, ...]
    """What the model is shown."""


@dataclass(frozen=True, slots=True)
class BothOrders:
    """What a pairwise judge said of a response and its opponent, a text a vote."""

    first: tuple[str, ...]
    """Where the response was shown first."""
    second: tuple[str, ...]
    """Where the opponent was."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said of one response, once."""

    prompt_id: str
    index: int
    """The index of the response."""
    vote: int
    """Which of the judge's votes it is, from 0; a pairwise judge's votes are one verdict."""
    score: float | None
    """None: the judge gave no score that can be read; never 0."""
    unscored: str | None
    """Why there is no score; None where there is one."""
    text: str
    """The judge's own words; empty for a judge that has none, and for a pairwise one."""
    finish: FinishReason = "stop"
    """How those words ended."""
    reasoning: str = ""
    """What it thought before them, between the marks of a reasoning block."""
    opponent: int | None = None
    """The index of the response that a pairwise judge compared it with."""
    said: BothOrders | None = None
    """A pairwise judge's own words."""

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end; see `unfinished` for what follows where it did not."""
        return self.finish == "stop"


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference example, TRL's prompt / chosen / rejected."""

    prompt: str | tuple[Message, ...]
    chosen: str
    rejected: str
    rejected_finished: bool = True
    """False: the rejected response was cut off, and no end token is put behind it."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two systems' responses to one prompt, to be compared."""

    id: str
    """Unique among the matches of a comparison."""
    prompt_id: str
    """Matches of one prompt (several draws) are resampled together."""
    prompt: str
    first: str
    second: str
    first_finish: FinishReason = "stop"
    second_finish: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one match ended."""

    id: str
    prompt_id: str
    preference: float | None
    """Share of the win that goes to the first: 1 win, 0.5 tie, 0 loss; None: not judged."""
    unscored: str | None
    """Why it was not judged; None where it was."""
    first_length: int
    """In characters, as AlpacaEval counts."""
    second_length: int
