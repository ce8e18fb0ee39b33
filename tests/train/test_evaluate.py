"""Numbers over a split that count every example once, on every layout."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import tasks, train

ONE = ["jit", "data", "fsdp", "pmap"]
MANY = ["map", "devices, with a copy that fills up the last one"]


def predictions(tools, variables, images):
    return tools.SmallNet().apply(variables, (images / 255 - 0.4) / 0.3, train=False)


@pytest.fixture(scope="module")
def predicted(tools):
    @cache
    def predicted(layout="jit"):
        """Logits of all examples, [members, 100, 4], computed at once by one device."""
        problem = tools.problem(layout)
        images = jnp.asarray(tools.make_source().arrays()["image"])
        apply = jax.jit(lambda variables: predictions(tools, variables, images))
        variables = jax.tree.map(np.asarray, problem.state.variables)
        if not problem.layout.shape:
            variables = jax.tree.map(lambda x: x[None], variables)
        members = len(jax.tree.leaves(variables)[0])
        return np.stack([apply(jax.tree.map(lambda x, i=i: x[i], variables)) for i in range(members)])

    return predicted


def measure(problem, make, evaluation, source):
    """What an evaluator tells of the problem's variables, with a leading axis of members; batches of 24 leave 4."""
    evaluate = make(evaluation, source, problem.layout, batch_size=24)
    measured = evaluate(problem.layout.place_variables(problem.state.variables))
    for value in measured.values():
        assert value.shape == problem.layout.shape
        assert value.dtype == np.float64
    return {name: value.reshape(-1) for name, value in measured.items()}


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000])
def test_the_mean_is_that_of_all_examples_whatever_the_batch_size(tools, source, predicted, batch_size, resident):
    logits, labels = np.float64(predicted()[0]), source.arrays()["label"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(100), labels]
    problem = tools.problem()
    measured = problem.evaluate(source, batch_size=batch_size, resident=resident)(problem.state.variables)
    assert measured["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert measured["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean(), rel=1e-6)


@pytest.fixture(scope="module")
def mean_iou(tools):
    def confusion(variables, batch):
        """[4, 4]: how many examples of each label have each prediction."""
        chosen = predictions(tools, variables, batch["image"]).argmax(-1)
        rows, columns = (jax.nn.one_hot(x, 4) for x in (batch["label"], chosen))
        return jnp.einsum("bi,bj,b->ij", rows, columns, tasks.example_weights(batch))

    return tasks.Evaluation(confusion, intersection_over_union)


def intersection_over_union(counts):
    assert counts.dtype == np.float64
    assert counts.sum() == 100
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    return {"mean_iou": float(np.mean(np.diag(counts) / union)), "smallest": float(np.min(np.diag(counts) / union))}


@pytest.mark.parametrize("layout", ONE + MANY)
def test_sums_that_are_no_means_of_examples_are_exact_on_a_ragged_split(tools, source, predicted, mean_iou, layout):
    measured = measure(tools.problem(layout), train.evaluator, mean_iou, source)
    labels = source.arrays()["label"]
    for i, logits in enumerate(predicted("map" if layout in MANY else "jit")):
        counts = np.zeros((4, 4))
        np.add.at(counts, (labels, logits.argmax(1)), 1)
        expected = intersection_over_union(counts)
        assert {name: value[i] for name, value in measured.items()} == pytest.approx(expected, rel=1e-12)


def average_precision(rows):
    """Of the examples of label 2, ranked by their score: no sum over batches can tell it."""
    assert len(rows["score"]) == 100
    found = rows["is_two"][np.argsort(-rows["score"], kind="stable")]
    precision = np.cumsum(found) / np.arange(1, 101)
    return {"average_precision": float(precision[found].mean()), "first": float(rows["index"][0])}


@pytest.fixture(scope="module")
def ranked(tools):
    def rows(variables, batch):
        score = jax.nn.softmax(predictions(tools, variables, batch["image"]))[:, 2]
        return {"score": score, "is_two": batch["label"] == 2, "index": batch["index"]}

    return tasks.RowEvaluation(rows, average_precision)


@pytest.mark.parametrize("layout", ONE + MANY)
def test_reports_of_all_rows_at_once_are_exact_on_a_ragged_split(tools, source, predicted, ranked, layout):
    measured = measure(tools.problem(layout), train.row_evaluator, ranked, source)
    for i, logits in enumerate(predicted("map" if layout in MANY else "jit")):
        rows = {"score": np.asarray(jax.nn.softmax(logits))[:, 2], "is_two": source.arrays()["label"] == 2}
        expected = average_precision(rows | {"index": np.arange(100)})
        assert 0.1 < expected["average_precision"] < 1
        assert {name: value[i] for name, value in measured.items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("layout", ["jit", "pmap", "map"])
@pytest.mark.parametrize("resident", [True, False])
def test_rows_come_in_the_order_of_the_examples(tools, source, layout, resident):
    problem = tools.problem(layout)
    rows_of = train.map_examples(
        lambda variables, batch: {"label": batch["label"], "index": batch["index"], "image": batch["image"]},
        source,
        problem.layout,
        batch_size=32,
        resident=resident,
    )
    rows = rows_of(problem.layout.place_variables({"scale": np.zeros(problem.layout.shape)}))
    for i in np.ndindex(problem.layout.shape):
        np.testing.assert_array_equal(rows["label"][i], source.arrays()["label"])
        np.testing.assert_array_equal(rows["index"][i], np.arange(100))
        np.testing.assert_array_equal(rows["image"][i], source.arrays()["image"])


@pytest.mark.parametrize("layout", ["data", "fsdp", "pmap"])
def test_without_a_layout_variables_may_be_on_many_devices(tools, source, mean_iou, ranked, predicted, layout):
    problem = tools.problem(layout)
    variables = problem.layout.unplace(problem.layout.place_variables(problem.state.variables))
    for make, evaluation in ((train.evaluator, mean_iou), (train.row_evaluator, ranked)):
        expected = measure(tools.problem("jit"), make, evaluation, source)
        told = make(evaluation, source, batch_size=24)(variables)
        assert {name: float(value) for name, value in told.items()} == pytest.approx(
            {name: value[0] for name, value in expected.items()}, rel=1e-6
        )
    rows = train.map_examples(lambda v, batch: {"x": predictions(tools, v, batch["image"])}, source, batch_size=24)
    np.testing.assert_allclose(rows(variables)["x"], predicted()[0], atol=1e-5)


def test_of_every_batch_is_kept_what_was_asked_for_row_by_row(source):
    kept = train.map_examples(
        lambda variables, batch: {"image": batch["image"], "index": batch["index"]},
        source,
        batch_size=24,
        keep=lambda rows: {"sum": rows["image"].sum((1, 2, 3)), "index": rows["index"]},
    )({})
    assert kept.keys() == {"sum", "index"}
    np.testing.assert_array_equal(kept["sum"], source.arrays()["image"].sum((1, 2, 3)))
    np.testing.assert_array_equal(kept["index"], np.arange(100))


def test_a_batch_must_be_positive(source, mean_iou, ranked):
    for make, evaluation in ((train.evaluator, mean_iou), (train.row_evaluator, ranked)):
        with pytest.raises(ValueError, match="batch_size is 0"):
            make(evaluation, source, batch_size=0)


def test_an_empty_split_is_refused(tools, mean_iou):
    with pytest.raises(ValueError, match="no validation examples"):
        train.evaluator(mean_iou, tools.make_source(0, "validation"), batch_size=4)
