"""What is reported of a classifier beside its accuracy."""

import numpy as np
import pytest
from etude import data, lab
from etude.errors import InputError
from etude.lab.reporting import class_scores, draw_predictions, some_of_each
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, f1_score

NAMES = ("a", "b", "c", "never")


def test_scores_of_classes_are_those_of_scikit_learn_averaged_over_seeds():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    seeds = [np.where(random.random(200) < 0.7, labels, random.integers(0, 4, 200)) for _ in range(3)]
    macro, classes = class_scores(labels, seeds, NAMES)
    assert list(classes) == ["a", "b", "c"]
    wanted = np.mean([balanced_accuracy_score(labels, each) for each in seeds])
    assert macro["test_macro_accuracy"] == pytest.approx(wanted)
    f1 = np.mean([f1_score(labels, each, labels=[0, 1, 2], average="macro") for each in seeds])
    assert macro["test_macro_f1"] == pytest.approx(f1)
    assert classes["b"]["accuracy"] == pytest.approx(np.mean([(each == labels)[labels == 1].mean() for each in seeds]))
    assert classes["b"]["images"] == (labels == 1).sum()


def test_each_class_is_shown_as_often_as_the_others():
    labels = np.array([0] * 50 + [1] * 3 + [2] * 50)
    shown = labels[some_of_each(labels, 13)]
    assert np.bincount(shown).tolist() == [5, 3, 5]


def test_the_worst_errors_are_those_of_the_least_likely_true_class():
    source = data.subset(data.load("digits", "test"), 40)
    labels = data.labels(source)
    probabilities = np.full((40, 10), 0.02)
    probabilities[np.arange(40), labels] = 0.82
    for place, probability in ((3, 0.3), (20, 0.01), (31, 0.1)):
        wrong = (labels[place] + 1) % 10
        probabilities[place] = 0.0
        probabilities[place, [labels[place], wrong]] = probability, 1 - probability
    figures = draw_predictions(probabilities, source)
    titles = [axes.get_title() for axes in figures["worst_errors"].axes if axes.get_title()]
    assert [title.splitlines()[1] for title in titles] == [f"✗ is {labels[i]}" for i in (20, 31, 3)]
    assert "worst_errors" not in draw_predictions(np.eye(10)[labels], source)


def test_predictions_show_one_of_each_class_where_there_are_many():
    records = [{"image": np.zeros((8, 8, 1), np.uint8), "label": np.int32(label % 43)} for label in range(90)]
    source = data.Source("signs", "test", records, data.image_spec(8, 8, 1), tuple(f"sign {i}" for i in range(43)))
    figures = draw_predictions(np.eye(43)[data.labels(source)], source)
    titles = [axes.get_title() for axes in figures["predictions"].axes if axes.get_title()]
    assert titles == [f"sign {i} 100%" for i in range(43)]


def test_balanced_weights_let_all_classes_count_alike():
    source = data.load("digits", "train")
    weights, counts = lab.weights_of_classes("balanced", source), np.bincount(data.labels(source))
    assert weights is not None
    np.testing.assert_allclose(np.array(weights) * counts, len(source) / 10, rtol=1e-6)
    assert lab.weights_of_classes("none", source) is None


def test_a_single_class_is_no_classification(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for i in range(20):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "photos" / "cat" / f"{i}.png")
    with pytest.raises(InputError, match="has one class, cat; a classifier tells at least two apart"):
        lab.classification(
            data=lab.DataOptions(f"folder:{tmp_path / 'photos'}"),
            model="mlp",
            batch=lab.BatchOptions(),
            optimizer=lab.OptimizerOptions(),
            update=lab.UpdateOptions(),
        )


@pytest.mark.parametrize("kind", ["digits", "folder"])
def test_labels_are_those_of_the_examples(kind, tmp_path):
    for label in "abc":
        (tmp_path / label).mkdir()
        for i in range(12):
            Image.new("L", (2, 2)).save(tmp_path / label / f"{i}.png")
    source = data.load("digits" if kind == "digits" else f"folder:{tmp_path}", "test")
    assert data.labels(source).tolist() == source.arrays()["label"].tolist()
    part = data.subset(source, 3)
    assert data.labels(part).tolist() == part.arrays()["label"].tolist()
