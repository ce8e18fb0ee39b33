"""Both feeds take the same steps, however these are grouped into calls."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, train
from etude.tasks import Mean, example_weights


@pytest.fixture(scope="module")
def together(tools):
    @cache
    def together(layout, resident, drop_remainder=True):
        source = tools.make_source()
        return tools.problem(layout).run(source, 14, resident=resident, drop_remainder=drop_remainder)

    return together


@pytest.mark.parametrize("layout", ["jit", "vmap"])
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_how_steps_are_grouped_changes_no_bit(tools, source, together, resident, count, layout):
    grouped = tools.problem(layout).run(source, 14, resident=resident, count=count)
    assert tools.identical(grouped, together(layout, resident))


@pytest.mark.parametrize("drop_remainder", [True, False])
def test_resident_and_streaming_feeds_train_alike(tools, together, drop_remainder):
    resident, _ = together("jit", True, drop_remainder)
    streamed, _ = together("jit", False, drop_remainder)
    assert tools.relative_difference(resident.params, streamed.params) < 1e-5


def watching(state, batch):
    """A step that only tells which examples it saw, and what they weigh."""
    told = {"index": batch["index"].astype(jnp.float32), "weight": example_weights(batch)}
    one = {name: Mean.once(jnp.zeros(())) for name in ("loss", "gradient_norm")}
    return state, one | {name: Mean.once(values) for name, values in told.items()}


@pytest.mark.parametrize("layout", ["jit", "map"])
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("drop_remainder", [True, False])
def test_a_feed_takes_the_batches_of_the_epoch_order(tools, source, resident, drop_remainder, layout):
    # Given a step that only tells which examples it saw, and a seed for each state,
    problem = tools.problem(layout)
    seeds = np.array([7, 11, 7]) if problem.layout.shape else np.array(7)
    feed = train.feed(
        watching,
        source,
        batch_size=16,
        seed=seeds,
        layout=problem.layout,
        resident=resident,
        drop_remainder=drop_remainder,
    )
    assert feed.steps_per_epoch == (6 if drop_remainder else 7)
    # when the second epoch is fed,
    placed = problem.layout.place_state(problem.state)
    rows = feed.advance(placed, feed.steps_per_epoch, feed.steps_per_epoch)[1]()
    # then each saw the order of its own seed, less the ragged last batch or with that filled up by weights of 0.
    seen = feed.steps_per_epoch * 16
    for i in np.ndindex(seeds.shape):
        index, weight = (rows[name].value[:, *i].reshape(-1) for name in ("index", "weight"))
        expected = data.epoch_order(int(seeds[i]), 1, 100)[:seen]
        np.testing.assert_array_equal(index[: len(expected)], expected)
        np.testing.assert_array_equal(weight, np.arange(seen) < 100)


@pytest.mark.parametrize("layout", ["jit", "vmap"])
@pytest.mark.parametrize("resident", [True, False])
def test_metrics_come_one_row_per_step(tools, source, resident, layout):
    problem = tools.problem(layout)
    _, rows = problem.steps(problem.feed(source, resident=resident), 5)
    shape = (5, *problem.layout.shape)
    names = ("loss", "accuracy", "learning_rate", "gradient_norm")
    assert {name: (row.total.shape, row.weight.shape) for name, row in rows.items()} == dict.fromkeys(
        names, (shape, shape)
    )
    assert (rows["loss"].value > 0).all()
    assert (rows["loss"].weight == 16).all()
    assert (rows["learning_rate"].weight == 1).all()
