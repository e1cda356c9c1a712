"""The tiny world: instructions, responses and the oracle that judges them."""

from itertools import product

import pytest

from selfimprove.seeds import rng
from selfimprove.tiny.instructions import (
    CRITERIA,
    Instruction,
    InstructionSplit,
    instruction_split,
    instructions,
    parse,
    respond,
)
from selfimprove.tiny.oracle import noisy, review, review_request, score, verdicts

_ASKED = "Write about a owl in the park with kites."


def test_parse_reads_back_what_was_asked():
    assert parse(_ASKED) == Instruction(_ASKED, "animal", "owl", "park", "kites")
    assert parse("Write about a dragon in the park with kites.") is None


@pytest.mark.parametrize(
    ("response", "missed"),
    [
        ("The owl hunts at night. In the park it plays with kites. That is all.", set()),
        ("The owl hunts at night. In the park it plays with kites.", {"ending"}),
        ("The owl eats grass. In the park it plays with kites. That is all.", {"facts"}),
        ("The owl hunts at night. In the park it plays with lamps. That is all.", {"item"}),
        ("The owl hunts at night. In the park it plays. That is all.", {"item"}),
        ("The owl hunts at night. In the park it it plays with kites. That is all.", {"clear"}),
        ("The cow eats grass. In the park it plays with kites. That is all.", {"topic"}),
        ("", {"topic", "item", "facts", "ending"}),
    ],
)
def test_the_oracle_misses_exactly_what_is_missing(response, missed):
    found = verdicts(_ASKED, response)
    assert {name for name, met in found.items() if not met} == missed
    assert score(_ASKED, response) == 5 - len(missed)


def test_the_oracle_finds_again_what_a_response_was_written_to_meet():
    random = rng(0, "test")
    for asked, bits in product(instructions("train", 60), product((True, False), repeat=5)):
        met = dict(zip(CRITERIA, bits, strict=True))
        assert verdicts(asked.text, respond(asked, met, random)) == met


def test_an_unknown_instruction_scores_nothing():
    assert score("Sing.", "La la. That is all.") == 0


def test_splits_of_instructions_are_disjoint_and_large_enough():
    counts: dict[InstructionSplit, int] = {"corpus": 3000, "train": 1500, "dev": 200, "test": 400}
    texts = [{one.text for one in instructions(split, count)} for split, count in counts.items()]
    assert [len(split) for split in texts] == [3000, 1500, 200, 400]
    assert len(set.union(*texts)) == 5100
    assert {instruction_split(text) for text in texts[3]} == {"test"}


def test_a_review_quotes_what_it_compares_states_every_verdict_and_counts_them():
    response = "The owl hunts at night."
    said = "topic owl owl yes, item kites none no, facts yes, clear yes, ending no.\nScore: 3"
    assert review(verdicts(_ASKED, response), _ASKED, response) == said
    assert review_request("Ask.", "Say.") == (
        "Review the response.\nInstruction: Ask.\nResponse: Say."
    )


def test_a_review_of_an_unknown_instruction_quotes_nothing():
    assert review(verdicts("Sing.", "La."), "Sing.", "La.").startswith("topic no, item no,")


def test_a_careless_reviewer_turns_over_the_stated_share_of_verdicts():
    random = rng(0, "test")
    sound = dict.fromkeys(CRITERIA, True)
    turned = sum(5 - sum(noisy(sound, random, 0.2).values()) for _ in range(1000)) / 5000
    # 5,000 draws: a standard error of .0057.
    assert turned == pytest.approx(0.2, abs=0.03)
