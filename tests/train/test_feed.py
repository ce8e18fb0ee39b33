"""Both feeds take the same steps, however these are grouped into calls."""

import numpy as np
import pytest
from etude import data


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_how_steps_are_grouped_changes_no_bit(tools, source, resident, count):
    together = tools.Problem().run(source, 14, resident=resident)
    grouped = tools.Problem().run(source, 14, resident=resident, count=count)
    assert tools.identical(grouped, together)


def test_resident_and_streaming_feeds_train_alike(tools, source):
    resident = tools.Problem().run(source, 14, resident=True)
    streamed = tools.Problem().run(source, 14, resident=False)
    assert tools.relative_difference(resident.params, streamed.params) < 1e-5


def test_a_feed_takes_the_batches_of_the_epoch_order(tools, source):
    # Given a step that only counts which examples it saw, and the state that counts them,
    problem = tools.Problem(augmented=False)
    seen = []
    for resident in (True, False):
        problem.step = lambda state, batch: (state, {"loss": batch["index"].astype(np.float32)})
        feed = problem.feed(source, resident=resident, seed=7)
        # when the second epoch is fed,
        rows = feed.advance(problem.where.place_state(problem.state), feed.steps_per_epoch, 6)[1]()["loss"]
        seen.append(rows.reshape(-1).astype(int))
    # then both saw its order, less the ragged last batch.
    expected = data.epoch_order(7, 1, 100)[:96]
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(seen[1], expected)


@pytest.mark.parametrize("resident", [True, False])
def test_metrics_come_one_row_per_step(tools, source, resident):
    problem = tools.Problem()
    feed = problem.feed(source, resident=resident)
    _, read = feed.advance(problem.where.place_state(problem.state), 0, 5)
    rows = read()
    assert {name: row.shape for name, row in rows.items()} == dict.fromkeys(
        ("loss", "accuracy", "learning_rate", "gradient_norm"), (5,)
    )
    assert (rows["loss"] > 0).all()
