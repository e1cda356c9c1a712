"""GSM8K: grade-school word problems whose worked answer ends in '#### n' (Cobbe et al. 2021)."""

from __future__ import annotations

import re

from selfimprove.data.row import Fields, Item, RowError, optional, text

__all__ = ["parse"]

_FINAL = re.compile(r"(?:####|^A:)\s*([^\n]+?)\s*\Z", re.MULTILINE)
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def parse(fields: Fields) -> Item:
    """Read `question` and `answer` (or `ground_truth`, in OpenAI's file of model solutions).

    The calculator notes such as <<48/2=24>> are taken out of the rationale: a language model
    without that calculator should not be shown them.
    """
    question = text(fields, "question")
    answer = optional(fields, "answer", "ground_truth")
    if answer is None:
        return Item(question, "number", ())
    final = _FINAL.search(answer)
    if final is None:
        raise RowError("its answer does not end in '#### n'")
    rationale = _CALCULATOR.sub("", answer[: final.start()]).strip()
    return Item(question, "number", (final.group(1).replace(",", ""),), rationale=rationale)
