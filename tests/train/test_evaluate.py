"""Means over a split that count every example once."""

import jax
import numpy as np
import pytest
from etude import train


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000])
def test_the_mean_is_that_of_all_examples_whatever_the_batch_size(tools, source, batch_size, resident):
    problem = tools.Problem()
    variables = problem.state.variables
    arrays = source.arrays() | {"index": np.arange(100)}
    _, aux = problem.task.loss(
        variables["params"], {"batch_stats": variables["batch_stats"]}, arrays, jax.random.key(0), False, {}
    )
    evaluate = train.evaluator(problem.task, source, batch_size=batch_size, resident=resident)
    measured = evaluate(variables)
    assert measured["loss"] == pytest.approx(float(np.mean(aux.metrics["loss"], dtype=np.float64)), rel=1e-5)
    assert measured["accuracy"] == pytest.approx(float(aux.metrics["accuracy"].mean()), rel=1e-6)


@pytest.mark.parametrize("resident", [True, False])
def test_rows_come_in_the_order_of_the_examples(tools, source, resident):
    rows_of = train.map_examples(
        lambda variables, batch: {"label": batch["label"], "index": batch["index"]},
        source,
        batch_size=32,
        resident=resident,
    )
    rows = rows_of({})
    np.testing.assert_array_equal(rows["label"], source.arrays()["label"])
    np.testing.assert_array_equal(rows["index"], np.arange(100))


def test_a_batch_must_be_positive(tools, source):
    with pytest.raises(ValueError, match="batch_size is 0"):
        train.evaluator(tools.Problem().task, source, batch_size=0)


def test_an_empty_split_is_refused(tools):
    with pytest.raises(ValueError, match="no validation examples"):
        train.evaluator(tools.Problem().task, tools.make_source(0, "validation"), batch_size=4)
