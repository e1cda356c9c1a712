"""The 25 kinds of instructions of IFEval, each a function of the response and its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from selfimprove.evaluation.ifeval.language import is_language
from selfimprove.evaluation.ifeval.sentences import count_sentences, count_words, tokens

__all__ = ["KINDS", "RELATIONS", "Kind"]

Arguments: TypeAlias = Mapping[str, Any]

RELATIONS: Final = ("less than", "at least")
_OPTIONS: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES: Final = ("```json", "```Json", "```JSON", "```")
_QUOTES_AND_MARKS: Final = "[.,?!'\"]"


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is checked."""

    follows: Callable[[str, Arguments], bool]
    needs: tuple[str, ...] = ()
    """Arguments that a row must give."""


def _holds(count: int, relation: str, limit: int) -> bool:
    return count < limit if relation == "less than" else count >= limit


# ---- keywords


def _keywords(text: str, given: Arguments) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in given["keywords"])


def _keyword_frequency(text: str, given: Arguments) -> bool:
    found = re.findall(given["keyword"].strip(), text, re.IGNORECASE)
    return _holds(len(found), given["relation"], given["frequency"])


def _forbidden_words(text: str, given: Arguments) -> bool:
    return not any(
        re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in given["forbidden_words"]
    )


def _letter_frequency(text: str, given: Arguments) -> bool:
    found = text.lower().count(given["letter"].strip().lower())
    return _holds(found, given["let_relation"], given["let_frequency"])


# ---- lengths


def _number_sentences(text: str, given: Arguments) -> bool:
    return _holds(count_sentences(text), given["relation"], given["num_sentences"])


def _number_words(text: str, given: Arguments) -> bool:
    return _holds(count_words(text), given["relation"], given["num_words"])


def _number_paragraphs(text: str, given: Arguments) -> bool:
    """Paragraphs lie between ***, of which the first and the last may have nothing on the far side."""
    found = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(found[1:-1]) and sum(map(bool, found)) == int(given["num_paragraphs"])


def _nth_paragraph_first_word(text: str, given: Arguments) -> bool:
    """Paragraphs lie between empty lines; the place counts empty ones, the number does not."""
    found = [part.strip() for part in text.split("\n\n")]
    count, place = sum(map(bool, found)), int(given["nth_paragraph"])
    if place > count or not found[place - 1]:
        return False
    word = found[place - 1].split()[0].lstrip("'").lstrip('"')
    first = re.split(_QUOTES_AND_MARKS, word)[0].lower()
    return count == int(given["num_paragraphs"]) and first == str(given["first_word"]).lower()


# ---- format


def _number_placeholders(text: str, given: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= int(given["num_placeholders"])


def _postscript(text: str, given: Arguments) -> bool:
    marker = given["postscript_marker"].strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(patterns.get(marker, marker.lower()), text.lower()) is not None


def _number_bullets(text: str, given: Arguments) -> bool:
    lines = re.findall(r"^\s*(?:\*[^*].*|-.*)$", text, re.MULTILINE)
    return len(lines) == int(given["num_bullets"])


def _constrained(text: str, _: Arguments) -> bool:
    return any(option in text for option in _OPTIONS)


def _highlights(text: str, given: Arguments) -> bool:
    once = (found.strip("*") for found in re.findall(r"\*[^\n*]*\*", text))
    twice = re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(part.strip()) for part in (*once, *twice)) >= int(given["num_highlights"])


def _sections(text: str, given: Arguments) -> bool:
    found = re.findall(given["section_spliter"].strip() + r"\s?\d+", text)
    return len(found) >= int(given["num_sections"])


def _json(text: str, _: Arguments) -> bool:
    inner = text.strip()
    for fence in _FENCES:
        inner = inner.removeprefix(fence)
    try:
        json.loads(inner.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _: Arguments) -> bool:
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


# ---- the whole response


def _two_responses(text: str, _: Arguments) -> bool:
    found = [part.strip() for part in text.split("******")]
    said = [part for part in found if part]
    return all(found[1:-1]) and len(said) == 2 and said[0] != said[1]


def _repeats_prompt(text: str, given: Arguments) -> bool:
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _ends_with(text: str, given: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _quoted(text: str, _: Arguments) -> bool:
    inner = text.strip()
    return len(inner) > 1 and inner[0] == inner[-1] == '"'


def _language(text: str, given: Arguments) -> bool:
    return is_language(text, given["language"])


def _capital(text: str, _: Arguments) -> bool:
    return text.isupper() and is_language(text, "en")


def _lowercase(text: str, _: Arguments) -> bool:
    return text.islower() and is_language(text, "en")


def _capital_words(text: str, given: Arguments) -> bool:
    found = sum(token.isupper() for token in tokens(text))
    return _holds(found, given["capital_relation"], given["capital_frequency"])


def _no_comma(text: str, _: Arguments) -> bool:
    return "," not in text


KINDS: Final[Mapping[str, Kind]] = {
    "keywords:existence": Kind(_keywords, ("keywords",)),
    "keywords:frequency": Kind(_keyword_frequency, ("keyword", "relation", "frequency")),
    "keywords:forbidden_words": Kind(_forbidden_words, ("forbidden_words",)),
    "keywords:letter_frequency": Kind(
        _letter_frequency, ("letter", "let_relation", "let_frequency")
    ),
    "language:response_language": Kind(_language, ("language",)),
    "length_constraints:number_sentences": Kind(_number_sentences, ("relation", "num_sentences")),
    "length_constraints:number_paragraphs": Kind(_number_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": Kind(_number_words, ("relation", "num_words")),
    "length_constraints:nth_paragraph_first_word": Kind(
        _nth_paragraph_first_word, ("num_paragraphs", "nth_paragraph", "first_word")
    ),
    "detectable_content:number_placeholders": Kind(_number_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": Kind(_postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": Kind(_number_bullets, ("num_bullets",)),
    "detectable_format:constrained_response": Kind(_constrained),
    "detectable_format:number_highlighted_sections": Kind(_highlights, ("num_highlights",)),
    "detectable_format:multiple_sections": Kind(_sections, ("section_spliter", "num_sections")),
    "detectable_format:json_format": Kind(_json),
    "detectable_format:title": Kind(_title),
    "combination:two_responses": Kind(_two_responses),
    "combination:repeat_prompt": Kind(_repeats_prompt, ("prompt_to_repeat",)),
    "startend:end_checker": Kind(_ends_with, ("end_phrase",)),
    "startend:quotation": Kind(_quoted),
    "change_case:capital_word_frequency": Kind(
        _capital_words, ("capital_relation", "capital_frequency")
    ),
    "change_case:english_capital": Kind(_capital),
    "change_case:english_lowercase": Kind(_lowercase),
    "punctuation:no_comma": Kind(_no_comma),
}
