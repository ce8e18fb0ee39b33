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


@pytest.mark.parametrize("start", [(-10.0, 1.0), (10.0, -1.0), (0.0, 3.0), (-3.0, 0.0)])
def test_paths_are_seen_from_wherever_they_begin(start):
    path = np.array(start) * 0.5 ** np.arange(9)[:, None]
    axes = plots.paths({"descent": path}, 20.0).axes[1]
    for points, ends in zip(path.T, (axes.get_xlim(), axes.get_ylim()), strict=True):
        assert ends[0] < min(points.min(), 0)
        assert max(points.max(), 0) < ends[1]


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
    assert [region.get_label() for region in axes.patches] == ["flat", "descent and basin", "divergence"]


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


def test_networks_of_each_depth_have_a_panel_and_of_each_activation_a_line_over_their_widths():
    # Given a linear model and networks of 2 depths × 2 activations × 3 widths, one with a spread as large as its mean,
    depth, width = np.array([0.0] + [1.0] * 6 + [3.0] * 6), np.array([0.0] + [4.0, 16.0, 64.0] * 4)
    kind = np.array(["linear"] + (["relu"] * 3 + ["leaky_relu"] * 3) * 2)
    means = np.arange(1.0, 14.0)
    stds = np.where(means == 7, 7.0, 0.1)
    figure = plots.widths(depth, width, kind, {"loss": (means, stds), "error": (means[::-1], stds)}, 2)
    # then there are a row for each measure and a column for each depth,
    assert [axes.get_title() for axes in figure.axes] == ["1 hidden layer", "3 hidden layers", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "", "error", ""]
    # each with the linear model and its own networks, and nothing reaches to minus infinity.
    panel = figure.axes[1]
    means_of = {container.get_label(): container[0].get_ydata() for container in panel.containers}
    np.testing.assert_array_equal(means_of["relu"], [8, 9, 10])
    np.testing.assert_array_equal(means_of["leaky relu"], [11, 12, 13])
    assert list(panel.lines[0].get_ydata()) == [1, 1]
    assert figure.axes[0].get_ylim()[0] == 0.5
    assert [tick.get_text() for tick in figure.axes[2].get_xticklabels()] == ["4", "16", "64"]


def test_networks_are_drawn_at_their_costs_and_named_in_the_order_of_their_errors():
    costs = {"FLOPs": np.array([1e3, 1e6, 1e7]), "parameters": np.array([1e2, 1e5, 1e4])}
    errors, spreads = np.array([4.0, 1.0, 1.01]), np.array([0.2, 1.5, 0.1])
    figure = plots.comparison(["linear", "net_8", "net_9"], costs, errors, spreads, 3)
    for axes, (label, cost) in zip(figure.axes, costs.items(), strict=True):
        assert (axes.get_xlabel(), axes.get_xscale(), axes.get_yscale()) == (label, "log", "log")
        points = {str(bars.get_label()): bars[0].get_xydata().tolist() for bars in axes.containers}
        assert points == {"linear": [[cost[0], 4.0]], "net_8": [[cost[1], 1.0]], "net_9": [[cost[2], 1.01]]}
        assert axes.get_ylim()[0] > 0.5  # no error bar reaches to minus infinity
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["linear", "net_9", "net_8"]
    assert plots.comparison(["a"], {"cost": np.ones(1)}, np.zeros(1), np.zeros(1), 1).axes[0].get_ylim()[0] > 0


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


def pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_image_in_its_place_under_its_names(channels):
    images = pictures(2, 3, 8, 4, channels)
    axes = plots.image_grid(images, ["a", "b"], ["x", "y", "z"], xlabel="time", ylabel="class").axes[0]
    canvas = np.asarray(axes.images[0].get_array()).reshape(17, 14, channels)
    for i in range(2):
        for j in range(3):
            shown = canvas[9 * i : 9 * i + 8, 5 * j : 5 * j + 4]
            # As they are: of a photograph, the other way round is a negative.
            np.testing.assert_array_equal(shown, images[i, j])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["x", "y", "z"]
    assert axes.get_yticks()[1] == 9 + 3.5
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time", "class")


def test_a_grid_without_names_has_no_ticks():
    axes = plots.image_grid(pictures(2, 3, 8, 8, 1)).axes[0]
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


def test_a_latent_map_writes_each_label_at_its_point():
    points, labels = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]), np.array([3, 1, 3])
    axes = plots.latent_map(points, labels, [f"class {i}" for i in range(4)], "principal component").axes[0]
    assert [(text.get_text(), *text.get_position()) for text in axes.texts] == [
        ("3", 0.0, 1.0),
        ("1", 2.0, -1.0),
        ("3", 0.5, 0.5),
    ]
    assert axes.texts[0].get_color() == axes.texts[2].get_color() != axes.texts[1].get_color()
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == [f"class {i}" for i in range(4)]
    assert axes.get_xlabel() == "principal component 1"


def test_loss_curves_show_each_metric_that_there_is():
    names = {"loss": "squared error", "accuracy": "accuracy", "none": "nothing"}
    fig = plots.loss_curves(curves(), {"epoch": np.arange(1, 6), "loss": np.ones(5)}, names, best=3)
    assert [axes.get_ylabel() for axes in fig.axes] == ["squared error", "accuracy"]
    assert len(fig.axes[0].lines) == 3  # training, validation, best epoch
    np.testing.assert_array_equal(fig.axes[0].lines[1].get_ydata(), 1)
    legend = {text.get_text() for text in fig.legends[0].get_texts()}
    assert legend == {"training", "validation", "best epoch: 3"}


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.image_grid(pictures(2, 8, 8, 1)), "rows, columns, height"),
        (lambda: plots.image_grid(pictures(2, 3, 8, 8, 1), ["a"]), "a name for each row"),
        (lambda: plots.latent_map(np.ones((3, 3)), np.ones(3), ["a"]), "points"),
    ],
)
def test_images_and_points_of_the_wrong_shape_are_told(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def objects(n=2):
    boxes = np.array([[[1, 1, 5, 4], [2, 9, 9, 12], [0, 0, 0, 0]]] * n, np.float32)
    return {"boxes": boxes, "labels": np.array([[0, 2, -1]] * n), "scores": np.array([[0.9, 0.2, 0.0]] * n)}


def test_found_objects_are_drawn_beside_the_true_ones_with_names_and_scores():
    images = np.zeros((2, 12, 10, 3), np.uint8)
    truth = {name: objects()[name] for name in ("boxes", "labels")}
    fig = plots.detections(images, truth, objects(), ["cat", "dog", "$owl"], source="of nobody")
    true, found = fig.axes[:2]
    assert [text.get_text() for text in true.texts] == ["cat", r"\$owl"]
    assert [text.get_text() for text in found.texts] == ["cat 0.90"]  # the other's score is below 0.3
    (box,) = found.patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (0.5, 0.5, 4, 3)  # pixel 0 is drawn around 0
    assert true.get_xlim() == (-0.5, 9.5)
    assert fig.get_supxlabel() == "of nobody"
    alone = plots.objects_in(images[0], {name: each[0] for name, each in objects().items()}, ["cat", "dog", "owl"])
    assert [text.get_text() for text in alone.axes[0].texts] == ["cat 0.90", "owl 0.20"]


def test_lines_separate_pixels_of_different_ids():
    images, classes = np.zeros((1, 3, 4, 1), np.uint8), np.zeros((1, 3, 4), int)
    ids = np.zeros((1, 3, 4), int)
    ids[0, 1, 1:3] = 1  # six sides
    fig = plots.segmentations(images, classes, classes, ["ground"], ids=(ids, np.zeros_like(ids)))
    truth, predicted = fig.axes[1:3]
    assert [len(each.collections[0].get_segments()) for each in (truth, predicted)] == [6, 0]
    xs = np.array(truth.collections[0].get_segments())[..., 0]
    assert (xs.min(), xs.max()) == (0.5, 2.5)


def test_pixels_without_a_class_are_white_and_stand_in_the_legend():
    images, classes = np.zeros((1, 3, 4, 3), np.uint8), np.full((1, 3, 4), -1)
    classes[0, 0] = 1
    fig = plots.segmentations(images, classes, np.zeros_like(classes), ["a", "b"])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b", "no class"]
    shown = fig.axes[1].images[0].get_array()
    assert (np.asarray(shown[1:]) == 1).all()
    assert len({tuple(color) for color in plots.class_colors(60).round(3)}) == 60


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="classes \\[n, height, width\\]"):
        plots.segmentations(np.zeros((1, 3, 4, 3), np.uint8), np.zeros((1, 4, 4)), np.zeros((1, 3, 4)), ["a"])
    truth = {name: objects()[name] for name in ("boxes", "labels")}
    with pytest.raises(ValueError, match="as many images as annotations"):
        plots.detections(np.zeros((1, 3, 4, 3), np.uint8), truth, objects(), ["a", "b", "c"])


def test_attention_as_a_look_up_writes_every_weight_and_marks_its_scale():
    weights, scales = np.array([[0.75, 0.25], [0.5, 0.5]]), np.geomspace(0.1, 10, 5)
    answers = {"one": np.geomspace(2, 1, 5), "both": np.full(5, 2.0)}
    left, right = plots.lookup(weights, {"a": 1.0, "b": 3.0}, scales, answers, 1.5).axes
    assert [text.get_text() for text in left.texts] == ["0.750", "0.250", "0.500", "0.500"]
    assert [text.get_text() for text in left.get_yticklabels()] == ["one", "both"]
    assert right.get_xlim() == (pytest.approx(0.1), pytest.approx(10))
    assert right.lines[-1].get_xdata()[0] == 1.5


def test_norms_of_gradients_have_a_panel_each_and_a_norm_of_0_has_no_place():
    norms = {"rnn": np.exp(-np.arange(6.0)) * [[1], [4]], "lstm": np.ones((2, 6))}
    norms["rnn"][:, 5] = 0
    figure = plots.gradient_decay({"before": norms, "after": norms})
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [*2 * np.exp(-np.arange(5.0)), np.nan])
    assert figure.axes[0].get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rnn", "lstm"]


def test_accuracies_by_distance_have_the_line_of_a_guess():
    accuracies = {"rnn": {2: np.array([1.0, 0.8]), 40: np.array([0.2, 0.3])}}
    axes = plots.remembered(accuracies, 0.125).axes[0]
    mean, *seeds, _, guess = axes.lines
    np.testing.assert_allclose(mean.get_ydata(), [90, 25])
    np.testing.assert_allclose([seed.get_ydata() for seed in seeds], [[100, 20], [80, 30]])
    assert list(guess.get_ydata()) == [12.5, 12.5]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "40"]
