"""Yes, no, or that one cannot tell, from the words of a statement."""

from __future__ import annotations

import re

__all__ = ["CANNOT_TELL", "read_nli", "read_yes_no"]

CANNOT_TELL = "it is not possible to tell"

_LEAD = re.compile(
    r"(?:[\s*_`\"'“”‘’:>(\[]|(?:therefore|thus|then|hence|so|clearly|definitely|most likely|probably|likely|"
    r"that|simply|just|indeed|actually|still|now|is|be|will be|an?|(?:resounding|emphatic|definite|clear|firm)(?= )|the hypothesis is|the statement is)\b(?!['’]))*",
    re.IGNORECASE,
)
_YES = re.compile(r"(?:yes|yeah|yep|true)\b", re.IGNORECASE)
_NO = re.compile(
    r"(?:no|nope|false)\b(?!\s+(?:one|longer|doubt|idea|way|information|evidence|more|less|matter|"
    r"conclusion|answer|mention|definite))",
    re.IGNORECASE,
)
_TELL = re.compile(
    r"(?:(?:it(?:['’]s|\s+is)?\s+)?(?:not\s+(?:possible|clear|known|certain|enough|determinable|stated|given|sufficient)\b|"
    r"impossible|unclear|unknown|uncertain|undetermined|indeterminate|inconclusive|insufficient|"
    r"can(?:not|['’]t|\s+not)\s+be\s+(?:told|determined|known|said|concluded|decided)|"
    r"(?:we|you|one|i)\s+can(?:not|['’]t|\s+not)\s+(?:tell|say|know|determine|conclude|be sure)|"
    r"no\s+way\s+to\s+(?:tell|know)|there\s+is\s+(?:no|not enough|insufficient))|"
    r"neutral|maybe|neither|can(?:not|['’]t)\s+(?:tell|say|be))\b",
    re.IGNORECASE,
)
_ENTAILED = re.compile(r"(?:entail(?:ment|ed|s)|(?:definitely |certainly )?true)\b", re.IGNORECASE)
_CONTRADICTED = re.compile(
    r"(?:contradict(?:ion|ed|s|ory)|(?:definitely |certainly )?false)\b",
    re.IGNORECASE,
)
_EITHER = re.compile(
    r"\s*[,/]?\s*(?:or|and|/)\s+(?:yes|no|true|false|it|maybe|neutral)\b", re.IGNORECASE
)


def read_yes_no(said: str) -> str | None:
    """Return 'yes' or 'no' where a statement starts with one of them (or with true, false).

    >>> read_yes_no("no, since it sinks."), read_yes_no("no longer known")
    ('no', None)
    """
    said = said[_LEAD.match(said).end() :]  # type: ignore[union-attr]  # it may match nothing
    for pattern, answer in ((_YES, "yes"), (_NO, "no")):
        found = pattern.match(said)
        if found is not None:
            return None if _EITHER.match(said, found.end()) else answer
    return None


def read_nli(said: str) -> str | None:
    """Return yes, no or 'it is not possible to tell' from any usual wording of the verdict.

    >>> read_nli("contradiction."), read_nli("that we cannot tell")
    ('no', 'it is not possible to tell')
    """
    said = said[_LEAD.match(said).end() :]  # type: ignore[union-attr]  # it may match nothing
    for pattern, answer in ((_TELL, CANNOT_TELL), (_ENTAILED, "yes"), (_CONTRADICTED, "no")):
        found = pattern.match(said)
        if found is not None:
            return None if _EITHER.match(said, found.end()) else answer
    return read_yes_no(said)
