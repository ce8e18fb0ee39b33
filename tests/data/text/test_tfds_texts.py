"""Prepared sets of TensorFlow Datasets that hold texts, read without TensorFlow, which is not installed."""

import importlib
from typing import Any

import numpy as np
import pytest
from etude.data import text
from etude.errors import InputError

tfds: Any = importlib.import_module("tensorflow_datasets")  # its types are of little use
REVIEWS = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["neg", "pos"])}
CZECH = tfds.features.Translation(languages=["cs", "en"])


def reviews(word, number, label=None):
    return [{"text": f"{word} {i}", "label": i % 2 if label is None else label} for i in range(number)]


def pairs(word, number):
    return [{"en": f"{word} {i} 🙂", "cs": f"česky {word} {i}"} for i in range(number)]


def test_reviews_have_labels_and_validation_is_carved_from_train(write_set):
    stored = {"train": reviews("a", 100), "test": reviews("b", 20), "unsupervised": reviews("c", 9, -1)}
    path = write_set("imdb_reviews/plain_text", REVIEWS, stored)
    parts = {split: text.load("tfds:imdb_reviews", split, data_dir=path) for split in text.SPLITS}
    assert {each.classes for each in parts.values()} == {("neg", "pos")}
    assert sorted(parts["train"].columns["text"] + parts["validation"].columns["text"]) == sorted(
        each["text"] for each in stored["train"]
    )
    assert parts["test"].columns["text"] == tuple(each["text"] for each in stored["test"])
    assert parts["test"].labels == (0, 1) * 10
    assert list(parts["test"].contents) == [f"imdb_reviews/plain_text/1.0.0 {part}" for part in stored]


def test_equal_reviews_are_not_carved_into_two_splits(write_set):
    path = write_set("imdb_reviews/plain_text", REVIEWS, {"train": reviews("a", 30) * 5, "test": reviews("a", 3)})
    train, validation = (text.load("tfds:imdb_reviews", part, data_dir=path) for part in ("train", "validation"))
    assert not set(train.columns["text"]) & set(validation.columns["text"])
    assert "Texts that are in train and in test: 3." in train.notes


def test_a_translation_is_from_english_unless_a_direction_is_chosen(write_set):
    path = write_set(
        "wmt16_translate/cs-en", CZECH, {"train": pairs("a", 5), "validation": pairs("b", 2), "test": pairs("c", 2)}
    )
    texts = text.load("tfds:wmt16_translate/cs-en", "test", data_dir=path, wanted="pairs")
    assert texts.columns == {"source": ("c 0 🙂", "c 1 🙂"), "target": ("česky c 0", "česky c 1")}
    back = text.load("tfds:wmt16_translate/cs-en#cs-en", "test", data_dir=path)
    assert (back.columns["source"], back.columns["target"]) == (texts.columns["target"], texts.columns["source"])
    assert back.name == "tfds:wmt16_translate/cs-en#cs-en"


def test_without_english_a_translation_is_from_the_first_language(write_set):
    features = tfds.features.Translation(languages=["fr", "de"])
    path = write_set("mine", features, {"train": [{"fr": f"oui {i}", "de": f"ja {i}"} for i in range(30)]})
    assert text.load("tfds:mine", "train", data_dir=path).columns["source"][0].startswith("ja")


def test_of_three_languages_two_must_be_chosen(write_set):
    features = tfds.features.Translation(languages=["en", "cs", "pt-br"])
    example = [{"en": f"yes {i}", "cs": f"ano {i}", "pt-br": f"sim {i}"} for i in range(30)]
    path = write_set("mine", features, {"train": example})
    with pytest.raises(InputError, match="The languages of tfds:mine are chosen as tfds:mine#en-cs, en-pt-br, cs-en"):
        text.load("tfds:mine", "train", data_dir=path)
    assert text.load("tfds:mine#pt-br-cs", "train", data_dir=path).columns["source"][0].startswith("sim")


@pytest.mark.parametrize("direction", ["", "de-en", "en-en", "cs", "csen"])
def test_other_directions_are_refused_with_the_valid_ones(write_set, direction):
    path = write_set("wmt16_translate/cs-en", CZECH, {"train": pairs("a", 30)})
    with pytest.raises(InputError, match="wmt16_translate/cs-en#en-cs, cs-en"):
        text.load(f"tfds:wmt16_translate/cs-en#{direction}", "train", data_dir=path)


def test_a_direction_of_what_is_no_translation_is_refused(write_set):
    path = write_set("imdb_reviews/plain_text", REVIEWS, {"train": reviews("a", 30)})
    with pytest.raises(InputError, match="imdb_reviews#en-cs is not a translation"):
        text.load("tfds:imdb_reviews#en-cs", "train", data_dir=path)


def test_sentences_without_labels_are_plain_text_and_empty_ones_are_counted(write_set):
    path = write_set(
        "lm1b", {"text": tfds.features.Text()}, {"train": [{"text": f"a {i}"} for i in range(30)] + [{"text": " "}] * 2}
    )
    texts = text.load("tfds:lm1b", "train", data_dir=path)
    assert (texts.kind, texts.notes) == ("text", ("Left out of train, examples without a text or label: 2.",))


def test_secret_test_labels_make_the_validation_split_the_test_split(write_set):
    features = {"sentence": tfds.features.Text(), "label": REVIEWS["label"]}
    stored = {"train": reviews("a", 50), "validation": reviews("b", 8), "test": reviews("c", 8, -1)}
    renamed = {part: [{"sentence": e["text"], "label": e["label"]} for e in each] for part, each in stored.items()}
    path = write_set("glue/sst2", features, renamed)
    texts = text.load("tfds:glue/sst2", "test", data_dir=path)
    assert texts.columns["text"] == tuple(f"b {i}" for i in range(8))
    assert "Left out of test, examples without a text or label: 8." in texts.notes


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image": tfds.features.Image(shape=(4, 4, 3))}, r"no set of texts.*it has image \(Image\)"),
        (
            {"text": tfds.features.Tensor(shape=(), dtype=np.int64)},
            r"no set of texts.*it has text \(Tensor\)",
        ),
        ({"text": tfds.features.Sequence(tfds.features.Text())}, r"no set of texts.*it has text \(Sequence\)"),
    ],
)
def test_a_set_that_has_no_texts_is_refused_by_its_features(write_set, features, message):
    path = write_set("mine", features, {"train": []})
    with pytest.raises(InputError, match=message):
        text.load("tfds:mine", "train", data_dir=path)


def test_a_set_of_texts_that_is_not_prepared_is_known_and_has_its_command(tmp_path):
    for name in ("imdb_reviews", "wmt16_translate/cs-en", "glue/sst2"):
        with pytest.raises(FileNotFoundError, match=rf"etude prepare tfds:{name} .*pip install 'etude\[prepare\]'"):
            text.load(f"tfds:{name}", "train", data_dir=tmp_path)
    with pytest.raises(InputError, match=r"no set 'wmt61_translate'\. Similar names are wmt1"):
        text.load("tfds:wmt61_translate", "train", data_dir=tmp_path)
