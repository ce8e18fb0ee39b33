"""What the figures show, read back from their axes."""

import matplotlib
import numpy as np
import pytest
from etude import metrics, plots


def sweep():
    rates = np.geomspace(1e-5, 10, 100)
    losses = 0.4 + 1.9 / (1 + (rates / 0.05) ** 1.7) + np.maximum(0, np.log10(rates)) ** 2 * 50
    return metrics.range_test(rates, losses)


def curves(n=5):
    return {
        "epoch": np.arange(1, n + 1),
        "loss": np.linspace(2, 0.1, n),
        "accuracy": np.linspace(0.2, 0.99, n),
    }


def test_the_range_test_has_a_logarithmic_rate_axis_and_marks_the_choice():
    test = sweep()
    axes = plots.range_test(test, chosen=test.suggestion).axes[0]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == (
        "log",
        "learning rate",
        "minibatch loss",
    )
    marked = [line for line in axes.lines if "chosen" in str(line.get_label())]
    assert marked[0].get_xdata()[0] == test.suggestion
    assert {text.get_text() for text in axes.texts} == {"flat", "descent", "divergence"}


def test_the_divergence_does_not_squeeze_the_descent():
    low, high = plots.range_test(sweep()).axes[0].get_ylim()
    assert high - low < 5


def test_learning_curves_show_loss_and_error_of_both_splits_and_the_best_epoch():
    left, right = plots.learning_curves(curves(), curves(), best=3.0).axes
    assert left.get_yscale() == "log"
    assert right.get_ylabel() == "error (%)"
    np.testing.assert_allclose(right.lines[0].get_ydata(), 100 * (1 - curves()["accuracy"]))
    assert right.lines[2].get_xdata()[0] == 3.0


def test_a_wrong_prediction_is_marked_in_words():
    images = np.zeros((3, 8, 8, 1), np.uint8)
    figure = plots.predictions(images, np.array([0, 1, 1]), np.array([0, 1, 0]), np.full(3, 0.9), ("cat", "dog"))
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles[0] == "cat 90%"
    assert "is dog" in titles[2]


def test_a_confusion_matrix_writes_every_count_that_is_not_zero():
    axes = plots.confusion_matrix(np.array([[50, 1], [0, 49]]), ("a", "b")).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "49", "50"]
    assert axes.get_ylabel() == "true class"


def test_a_hundred_classes_are_not_annotated(tmp_path):
    figure = plots.confusion_matrix(np.eye(100, dtype=int), [str(i) for i in range(100)])
    assert not figure.axes[0].texts
    plots.save(figure, tmp_path / "many.png")


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in ("one.png", "two.png", "one.pdf", "two.pdf"):
        plots.save(plots.schedule(np.arange(3), {"linear": np.arange(3.0)}), tmp_path / name)
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_no_global_setting_of_matplotlib_changes(tmp_path):
    before = dict(matplotlib.rcParams)
    plots.save(plots.range_test(sweep()), tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before


def test_wrong_shapes_and_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one length"):
        plots.learning_curves(curves(5) | {"loss": np.ones(4)}, curves(5))
    with pytest.raises(ValueError, match=r"3 classes want \(3, 3\)"):
        plots.confusion_matrix(np.eye(2), "abc")
    with pytest.raises(ValueError, match="height"):
        plots.predictions(np.zeros((2, 8, 8)), np.zeros(2), np.zeros(2), np.zeros(2), "ab")
    with pytest.raises(ValueError, match="linear"):
        plots.schedule(np.arange(3), {"linear": np.arange(4)})
    with pytest.raises(ValueError, match=r"\.png or \.pdf"):
        plots.save(plots.schedule(np.arange(3), {}), tmp_path / "figure.bmp")
