"""What a referee looks for, in figures of few and many epochs, seeds, classes and lines, of short and long ranges."""

import numpy as np
import pytest
from etude import metrics, plots
from etude.plots import style
from matplotlib.colors import to_rgb

RANDOM = np.random.default_rng(0)


def sweep(highest=10.0, seed=0, diverges=True):
    rates = np.geomspace(1e-5, highest, 100)
    blown = np.maximum(0, np.log10(rates)) ** 2 * 50 * diverges
    noise = np.random.default_rng(seed).normal(0, 0.05, 100)
    return metrics.range_test(rates, 0.4 + 1.9 / (1 + (rates / 0.05) ** 1.7) + blown + noise)


def infinite():
    rates = np.geomspace(1e-5, 10, 100)
    return metrics.range_test(rates, np.where(rates < 2, 0.4 + 1.9 / (1 + (rates / 0.05) ** 1.7), np.nan))


def bumpy():
    """Lowest long before it diverges, as the demo's."""
    rates = np.geomspace(1e-5, 10, 180)
    rise = 0.5 * np.exp(-(np.log(rates / 0.7) ** 2)) + 4.0 * (rates > 4)
    return metrics.range_test(rates, 0.6 + 1.8 / (1 + (rates / 0.02) ** 1.5) + rise)


def curve(epochs, low=0.05):
    time = np.arange(1, epochs + 1)
    fall = np.exp(-4 * time / max(epochs, 5))
    return {"epoch": time, "loss": 2 * fall + low, "accuracy": 0.99 - 0.8 * fall}


def flat(epochs):
    time = np.arange(1, epochs + 1)
    return {"epoch": time, "loss": 0.31 + 0.03 / time, "accuracy": 0.9 + 0.01 * time / epochs}


def searched(rates, seeds, diverged=0):
    values = 0.1 + RANDOM.random((rates, seeds))
    values[rates - diverged :, 0] = np.nan
    return 2.0 ** -np.arange(rates)[::-1], values


def entrants(count, epochs, seeds):
    names = [f"entrant_{i}" for i in range(count)]
    curves = {name: (np.arange(1, epochs + 1), 1 + RANDOM.random((epochs, seeds))) for name in names}
    return {name: 3 + RANDOM.random(seeds) for name in names}, dict.fromkeys(names, 0.123), curves


def networks(widths, kinds, seeds):
    grid = [(1.0, width, kind) for kind in kinds for width in widths]
    depth, width, kind = (np.array(column) for column in zip((0.0, 0.0, "linear"), *grid, strict=True))
    means = 1 + RANDOM.random(len(depth))
    return depth, width, kind, {"loss": (means, means * (seeds > 1) / 3)}, seeds


def stages(depths, epochs, seeds):
    one = {depth: (np.arange(1, epochs + 1), 90 * RANDOM.random((epochs, seeds))) for depth in depths}
    return {"plain": one, "residual": one}


def priced(count, costs):
    errors = 1 + 8 * RANDOM.random(count)
    return [f"network_{i}" for i in range(count)], {"FLOPs": costs, "parameters": costs[::-1]}, errors, errors / 9, 3


def bounded(count):
    steps = np.geomspace(1, 16_000, 40)
    return [(f"line {i}", steps, 2 / (1 + steps), 0.1 / steps, 30 / steps) for i in range(count)]


def runs(count, epochs):
    return {name: {f"run {i}": (curve(epochs)["epoch"], curve(epochs)[name]) for i in range(count)} for name in NAMES}


def fits(widths, seeds):
    width, x = np.repeat(widths, seeds), np.linspace(-1, 1, 50)
    errors = {"width": width, "largest_error": 1 / width, "chosen": np.tile(np.arange(seeds) == 0, len(widths))}
    return errors, {
        "width": np.repeat(widths, 50),
        "x": np.tile(x, len(widths)),
        "target": np.tile(x, len(widths)),
        "network": np.concatenate([x + 1 / width for width in widths]),
    }


NAMES = ("loss", "accuracy")
STEPS = np.arange(1000)
PATH = np.stack([-10 * 0.9 ** np.arange(60), 0.8 ** np.arange(60)], 1)
CURVES = {
    "a range test": lambda: plots.range_test(sweep(), sweep().suggestion),
    "an open range test": lambda: plots.range_test(sweep(0.3, diverges=False)),
    "a range test of a decade": lambda: plots.range_test(
        metrics.range_test(np.geomspace(2e-5, 1e-4, 30), 2 + 0.01 * RANDOM.random(30))
    ),
    "range tests": lambda: plots.range_tests([sweep(seed=i) for i in range(4)]),
    "range tests, one infinite": lambda: plots.range_tests([sweep(), infinite()]),
    "a grid of 15": lambda: plots.grid_search(*searched(15, 4), 0.01, ylabel="loss"),
    "a grid of 2": lambda: plots.grid_search(*searched(2, 1), 0.5, ylabel="loss"),
    "a grid where some diverge": lambda: plots.grid_search(*searched(8, 3, 2), 0.1, ylabel="loss", log=False),
    "a grid where all diverge": lambda: plots.grid_search(*searched(3, 2, 3), np.nan, ylabel="loss"),
    "a schedule": lambda: plots.schedule(STEPS, {"one": 1 - STEPS / 1000}),
    "a step": lambda: plots.schedule(STEPS[:1], {"one": np.ones(1)}),
    "12 schedules": lambda: plots.schedule(STEPS, {f"{i}": (1 - STEPS / 1000) / (i + 1) for i in range(12)}),
    "a gallery": lambda: plots.gallery(STEPS, {f"{i}": (1 - STEPS / 1000) / (i + 1) for i in range(5)}),
    "an epoch": lambda: plots.learning_curves(curve(1), curve(1), best=1),
    "2 epochs": lambda: plots.learning_curves(curve(2), curve(2), best=2),
    "100 epochs": lambda: plots.learning_curves(curve(100), curve(100, 0.3), best=50),
    "epochs that change little": lambda: plots.learning_curves(flat(4), flat(4)),
    "a game": lambda: plots.loss_curves(curve(40), curve(40), {"loss": "loss (nats)", "accuracy": "score"}, 37),
    "a game of an epoch": lambda: plots.loss_curves(curve(1), curve(1), {"loss": "loss (nats)"}, None),
    "2 runs": lambda: plots.compared_curves(runs(2, 1)),
    "6 runs": lambda: plots.compared_curves(runs(6, 60)),
    "the theorem": lambda: plots.convergence([("no noise", bounded(1)), ("noise", bounded(5))], num_columns=2, seeds=9),
    "a race of 13": lambda: plots.race(*entrants(13, 30, 5)),
    "a race of 2": lambda: plots.race(*entrants(2, 1, 1)),
    "4 activations": lambda: plots.widths(*networks([4, 16, 64], ["a", "b", "c", "d"], 4)),
    "a width": lambda: plots.widths(*networks([4], ["a"], 1)),
    "12 widths": lambda: plots.widths(*networks(2.0 ** np.arange(12), ["a", "b"], 2)),
    "techniques": lambda: plots.gaps({f"{i}": {"training": RANDOM.random(5), "test": RANDOM.random(5)} for i in "abc"}),
    "7 depths": lambda: plots.depths(stages(range(7), 100, 5)),
    "depths of an epoch": lambda: plots.depths(stages((8, 20), 1, 1)),
    "14 networks": lambda: plots.comparison(*priced(14, np.geomspace(1e3, 1e9, 14))),
    "networks of like costs": lambda: plots.comparison(*priced(5, np.geomspace(1.6e4, 4e4, 5))),
    "paths": lambda: plots.paths({"one": PATH, "other": PATH / 2}, 20.0),
    "widths of a function": lambda: plots.approximation(*fits(np.array([1, 2, 4, 8, 16, 32, 64]), 4)),
    "two widths of a function": lambda: plots.approximation(*fits(np.array([1, 3]), 1)),
    "a latent space": lambda: plots.latent_map(RANDOM.random((30, 2)), np.arange(30), [f"name {i}" for i in range(43)]),
    "2 classes": lambda: plots.confusion_matrix(np.array([[50, 1], [0, 49]]), ["cat", "dog"]),
    "43 classes": lambda: plots.confusion_matrix(np.eye(43, dtype=int), [f"speed limit {i}" for i in range(43)]),
}


def readable(axis):
    """Boxes of the numbers or names along an axis, by text."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    axis.get_majorticklabels()  # brings the ticks up to date
    ticks = [tick for tick in axis.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2) if label.get_visible()]
    return {label.get_text(): label.get_window_extent() for label in labels if label.get_text()}


def meet(one, other):
    return one.x0 < other.x1 - 1 and other.x0 < one.x1 - 1 and one.y0 < other.y1 - 1 and other.y0 < one.y1 - 1


@pytest.mark.parametrize("name", CURVES)
def test_axes_have_numbers_apart_and_legends_lie_where_nothing_is_drawn(name):
    figure = CURVES[name]()
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = readable(axis)
            if axis.get_label().get_text():
                assert len(labels) >= 2, (axis.get_label().get_text(), list(labels))
            if axis.get_label().get_text() in ("epoch", "step"):
                assert all(label.lstrip("−").isdigit() for label in labels), list(labels)
            boxes = list(labels.values())
            assert not any(meet(one, other) for i, one in enumerate(boxes) for other in boxes[:i]), list(labels)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(meet(box, axes.get_tightbbox()) for axes in figure.axes)
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
    for axes in figure.axes:
        if axes.get_legend() is not None:
            box = axes.get_legend().get_window_extent()
            for line in axes.lines:
                points = axes.transData.transform(np.stack(line.get_data(), 1)) if len(line.get_xdata()) else []
                assert not any(box.contains(x, y) for x, y in points), line.get_label()


@pytest.mark.parametrize("name", ["12 schedules", "a race of 13", "7 depths", "6 runs", "4 activations", "the theorem"])
def test_lines_differ_without_their_colors(name):
    for axes in CURVES[name]().axes:
        lines = [line for line in axes.lines if line.get_label()[0] != "_" and len(line.get_xdata()) > 1]
        lines += [container[0] for container in axes.containers if len(container[0].get_xdata()) > 1]
        looks = {(line.get_linestyle(), str(vars(line)["_dash_pattern"]), line.get_marker(), line.get_linewidth())
                 for line in lines}  # fmt: skip
        assert len(looks) == len(lines)


def test_the_first_six_lines_differ_in_their_dashes_and_42_in_dashes_or_markers():
    assert len({str(style.line(i, 100)["linestyle"]) for i in range(6)}) == 6
    looks = {(str(of["linestyle"]), of["marker"]) for of in (style.line(i, 100) for i in range(42))}
    assert len(looks) == 42


@pytest.mark.parametrize("decades", [0.003, 0.03, 0.2, 0.5, 0.9, 1.5, 3, 8, 14])
def test_a_logarithmic_axis_has_at_least_two_numbers_wherever_it_lies(decades):
    for low in (1.9e-7, 0.0095, 0.7, 1.9, 3.1, 990):
        with style.figure(2.2, 1.8) as figure:
            axes = figure.add_subplot()
            axes.plot([low, low * 10**decades], [low, low * 10**decades])
            for axis in (axes.xaxis, axes.yaxis):
                style.logarithmic(axis)
        assert len(readable(axes.xaxis)) >= 2 <= len(readable(axes.yaxis)), (low, decades)


@pytest.mark.parametrize("test", [sweep(), sweep(3.0), infinite(), bumpy()], ids=["smooth", "short", "NaN", "bumpy"])
def test_the_chosen_rate_lies_within_the_descent_and_divergence_is_shaded_from_where_the_loss_is_high(test):
    axes = plots.range_test(test, test.suggestion).axes[0]
    to_data = axes.transData.inverted()
    regions = {region.get_label(): region.get_extents().transformed(to_data).intervalx for region in axes.patches}
    assert regions["flat"][1] == pytest.approx(regions["descent and basin"][0])
    chosen, descent = np.log(test.suggestion), np.log(regions["descent and basin"])
    # at least a tenth of the region from its edges,
    assert descent[0] + np.ptp(descent) / 10 < chosen < descent[1] - np.ptp(descent) / 10
    # and the loss is at most a fifth of its fall above its lowest there, and more than a third where it has blown up.
    start = regions["divergence"][0]
    fall = test.smoothed[0] - np.nanmin(test.smoothed)
    above = (test.losses - np.nanmin(test.smoothed)) / fall
    assert above[np.argmin(abs(test.rates - test.suggestion))] < 0.2
    assert not (above[test.rates >= 0.999 * start] < 1 / 3).any()
    assert start > test.suggestion


def test_seeds_and_their_spread_are_stated():
    assert plots.race(*entrants(3, 2, 5)).axes[0].get_xlabel() == "test error (%), mean ± std of 5 seeds"
    assert plots.race(*entrants(3, 2, 1)).axes[0].get_xlabel() == "test error (%), one seed"
    for name, stated in (
        ("techniques", "mean ± std of 5 seeds"),
        ("4 activations", "mean ± std of 4 seeds"),
        ("7 depths", "mean and range of 5 seeds"),
        ("100 epochs", "one seed"),
    ):
        assert CURVES[name]().legends[0].get_title().get_text() == stated
    bands = CURVES["the theorem"]().axes[1].collections
    low, high = bands[0].get_datalim(CURVES["the theorem"]().axes[1].transData).intervaly
    assert low < high


def test_error_bars_of_one_training_do_not_lie_on_each_other():
    errors = {"none": {"training": np.array([1.0, 3.0]), "test": np.array([1.0, 3.0])}}
    one, other = plots.gaps(errors).axes[0].containers
    assert abs(one[0].get_ydata()[0] - other[0].get_ydata()[0]) > 0.1


def test_the_matrix_has_a_bar_that_names_its_colors():
    matrix, bar = plots.confusion_matrix(np.array([[50, 1], [0, 49]]), ["cat", "dog"]).axes
    assert bar.get_ylabel() == "number of images"
    assert matrix.images[0].norm.vmax == 50
    assert np.ma.is_masked(matrix.images[0].get_array()[1, 0])  # no image is white, not the color of one


def test_names_above_predictions_keep_to_their_image():
    classes = [f"speed limit of {i} kilometers" for i in range(9)]
    figure = plots.predictions(
        np.zeros((9, 4, 4, 3), np.uint8), np.arange(9), (np.arange(9) + 1) % 9, np.full(9, 0.5), classes
    )
    figure.draw_without_rendering()
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    boxes = [title.get_window_extent() for title in titles]
    assert not any(meet(one, other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all("✗ is" in title.get_text() and title.get_color() == style.RED for title in titles)
    assert to_rgb(figure.axes[0].spines["top"].get_edgecolor()) == to_rgb(style.RED)
