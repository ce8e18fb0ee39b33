"""dates_en_cs: what is held out is held out, everything is seen in training, and pairs say the same."""

import re

import pytest
from etude.data.text import Texts, dates

SPLITS = {split: dates.load(split) for split in ("train", "validation", "test")}


def phrases(split, language="source"):
    return [each for text in SPLITS[split].columns[language] for each in text.split(dates.BETWEEN)]


def test_no_phrase_of_one_split_occurs_in_another():
    train, validation, test = (set(phrases(split)) for split in SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_every_word_that_is_held_out_is_seen_in_training():
    for language in ("source", "target"):
        words = {
            split: {word for text in phrases(split, language) for word in re.findall(r"[^\W\d]+", text)}
            for split in SPLITS
        }
        assert words["test"] | words["validation"] <= words["train"]


def test_both_sides_have_as_many_phrases_and_the_same_digits_in_plain_numbers():
    for split, texts in SPLITS.items():
        for english, czech in zip(phrases(split), phrases(split, "target"), strict=True):
            if re.fullmatch(r"-?[\d,]+", english):
                assert re.sub(r"\D", "", english) == re.sub(r"\D", "", czech)
        assert len(texts) == dates.LENGTHS[split]


def test_splits_are_the_same_for_ever():
    assert SPLITS["train"].columns["target"][2] == "11:57; 7 331 minut; 5 797,53 týdne; 22:36:22"


def test_what_is_not_valid_is_named():
    with pytest.raises(ValueError, match="validation"):
        dates.load("valid")
    with pytest.raises(ValueError, match="differ in number"):
        Texts("mine", "train", {"source": ("a",), "target": ()})


def test_a_phrase_has_one_translation():
    told = {}
    for split in SPLITS:
        for phrase, translation in zip(phrases(split), phrases(split, "target"), strict=True):
            told.setdefault(phrase, set()).add(translation)
    assert {phrase: each for phrase, each in told.items() if len(each) > 1} == {}
