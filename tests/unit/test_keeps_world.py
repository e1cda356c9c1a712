"""The world of who keeps what: what is true in it, what its texts tell, and what they never tell."""

import re
from itertools import islice

import pytest

from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import FOLDS, given_folds, read_preferences
from selfimprove.data.sources import Source
from selfimprove.errors import DataError
from selfimprove.sampling.conversation import in_words
from selfimprove.seeds import rng
from selfimprove.tiny import truth
from selfimprove.tiny.corpus import END
from selfimprove.tiny.keeps import world
from selfimprove.tiny.keeps.corpus import documents, lessons
from selfimprove.tiny.keeps.oracle import is_asked, right_parts
from selfimprove.tiny.keeps.preferences import NOISE, preferences
from selfimprove.tiny.keeps.tokenizer import build
from selfimprove.tiny.keeps.world import (
    PARTS,
    PEOPLE,
    THINGS,
    VISITORS,
    answer,
    keeper,
    of_split,
    part,
    question,
    things,
    villages,
)

SPLITS = ("sft", "reward", "rl", "test")
WANTED = things(of_split("test"), rng(1, "wanted"))
ASKED = question(WANTED)
RIGHT = [part(thing, keeper(thing)) for thing in WANTED]


def test_every_thing_has_one_keeper_and_nothing_is_called_as_another():
    called = {world.in_words((v, t)) for v in range(len(villages())) for t in range(len(THINGS))}
    assert len(called) == 360
    assert len({*PEOPLE, *VISITORS}) == 12
    assert all(sorted(village.keeps) == list(range(len(THINGS))) for village in villages())


def test_a_name_tells_nothing_of_a_thing():
    """Nobody keeps the same thing in many villages: knowing the others is of no use."""
    for who in range(len(PEOPLE)):
        kept = [village.keeps[who] for village in villages()]
        assert max(kept.count(thing) for thing in range(len(THINGS))) < len(kept) / 3


def test_no_village_is_of_two_splits():
    of = [village for split in (*SPLITS, "school") for village in of_split(split)]
    assert sorted(of) == list(range(len(villages())))


def test_the_keepers_are_all_right_and_count_in_their_places_alone():
    assert len(right_parts(ASKED, answer(RIGHT))) == PARTS
    assert right_parts(ASKED, answer([*RIGHT[1:], RIGHT[0]])) == frozenset()
    assert right_parts(ASKED, answer(RIGHT[:2])) == {f"1 {RIGHT[0]}", f"2 {RIGHT[1]}"}


def test_a_wrong_person_is_wrong_and_so_is_one_that_is_said_to_keep_what_was_asked_for():
    thing = WANTED[0]
    other = (keeper(thing) + 1) % len(PEOPLE)
    honest = answer([part(thing, other), *RIGHT[1:]])
    lying = answer([f"{world.in_words(thing)}: {PEOPLE[other]} {THINGS[thing[1]]}", *RIGHT[1:]])
    assert len(right_parts(ASKED, honest)) == len(right_parts(ASKED, lying)) == PARTS - 1


def test_naming_everyone_is_no_answer():
    everyone = " ".join(f"1 {part(WANTED[0], who)}." for who in range(len(PEOPLE)))
    assert len(right_parts(ASKED, f"{everyone} {answer(RIGHT)}")) <= 1


def test_truth_knows_of_which_world_a_prompt_is():
    assert truth.score(ASKED, answer(RIGHT)) == 5
    assert not is_asked("How can Ben make tea with jars?")
    assert truth.score("How can Ben make tea with jars?", answer(RIGHT)) < 5
    assert right_parts("Who keeps bees?", answer(RIGHT)) == frozenset()


def _texts(count=1500):
    return list(islice(documents(0, "test"), count))


def test_the_base_reads_no_revision_and_no_check_of_a_person_outside_the_school():
    outside = {villages()[v].word for split in SPLITS for v in of_split(split)}
    read = [*_texts(), *islice(lessons(0, "test"), 1500)]
    shown = [
        text for text in read if re.search("Improve|Check", text.read) or " no." in text.learnt
    ]
    assert len(shown) > 1500
    for text in shown:
        said = re.findall(r"(\w+) \w+: ([A-Z]\w+)", text.read + text.learnt)
        assert said
        assert not [name for word, name in said if name in PEOPLE and word in outside]


def test_answers_of_the_corpus_are_right_by_chance_alone():
    asked = [text for text in _texts(6000) if text.read.startswith("<|user|>Who keeps")]
    right = [
        len(
            right_parts(
                text.read.removeprefix("<|user|>").split(END)[0], text.learnt.removesuffix(END)
            )
        )
        for text in asked
    ]
    share = sum(right) / len(right) / PARTS
    assert share == pytest.approx(1 / len(PEOPLE), abs=0.04)


def test_revisions_are_asked_for_in_the_words_of_the_template():
    revised = next(text for text in _texts() if "Improve" in text.read)
    request = revised.read.removeprefix("<|user|>").split(END)[0]
    asked, draft = improvement_template("v1").taken_apart(request)
    assert is_asked(asked)
    assert draft.startswith("1 ")


def test_equal_streams_give_equal_documents():
    assert _texts(20) == _texts(20) != list(islice(documents(1, "test"), 20))


def test_preferences_are_about_the_clans_of_their_split_and_one_in_ten_is_mistaken():
    rows = preferences("reward", 600, 0)
    words = {villages()[village].word for village in of_split("reward")}
    mistaken = 0
    for asked, chosen, rejected in rows:
        assert set(re.findall(r"\d (\w+) ", asked)) <= words
        better, worse = (len(right_parts(asked, text)) for text in (chosen, rejected))
        assert better != worse
        mistaken += better < worse
    assert mistaken / len(rows) == pytest.approx(NOISE, abs=0.04)
    assert rows[:5] == preferences("reward", 5, 0)


def test_an_unknown_split_is_an_error_that_names_them():
    with pytest.raises(DataError, match="sft, reward, rl, test"):
        read_preferences([Source(source="train", format="keeps")], 0)


def test_given_folds_are_the_sources_in_their_order():
    sources = [Source(source=name, format="keeps", limit=4) for name in ("sft", "reward", "rl")]
    read = read_preferences(sources, 0).rows
    folds = given_folds(sources, 0)
    assert [row.id for row in read] == [row.id for row in folds]
    assert [row.fold for row in folds] == [fold for fold in FOLDS for _ in range(4)]
    assert len({in_words(row.prompt) for row in read}) == 12


def test_every_word_of_the_world_is_one_token_and_any_text_survives():
    tokenizer = build(512)
    said = answer(RIGHT)
    assert len(tokenizer(f" {said}")["input_ids"]) == 7 * PARTS
    for text in (said, ASKED, "naïve 日本\n 12.5 Zzzyx"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
