"""Every layout and every population takes the same steps as one device, whatever the examples weigh.

Examples weigh unequally, some nothing; the last batch of an epoch is ragged, and batches are cut into parts. So the
weights of devices and parts differ. Their totals and weights add up to those of the whole batch; a mean of their means
would be another number.
"""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, tasks, train

LENGTH, BATCH, STEPS = 50, 16, 20  # 3 whole batches an epoch, and one of 2 examples
PARTS = 2


class Network(nn.Module):
    """Without BatchNorm, which normalizes by all examples of a batch, whatever they weigh."""

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.tanh(nn.Dense(16, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(4, name="output")(x)


def preprocess(images):
    return images / 127.5 - 1


TASK = tasks.classification(Network(), (4, 4, 1), preprocess=preprocess)


def weighted_source(garbage=None):
    """Examples of unequal weights, a third of which are 0; `garbage` is the seed of what those contain."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, LENGTH)
    arrays = {
        "image": np.clip(rng.normal(60 * labels[:, None, None, None], 40, (LENGTH, 4, 4, 1)), 0, 255).astype(np.uint8),
        "label": labels.astype(np.int32),
        "weight": (rng.uniform(0.1, 3, LENGTH) * (rng.uniform(size=LENGTH) > 1 / 3)).astype(np.float32),
    }
    if garbage is not None:
        nothing, rng = arrays["weight"] == 0, np.random.default_rng(garbage)
        arrays["image"][nothing] = rng.integers(0, 256, (nothing.sum(), 4, 4, 1))
        arrays["label"][nothing] = rng.integers(0, 4, nothing.sum())
    spec = {name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype) for name, array in arrays.items()}
    records = [{name: array[i] for name, array in arrays.items()} for i in range(LENGTH)]
    return data.Source("weighted", "train", records, spec, ("a", "b", "c", "d"))


SOURCE = weighted_source()


OPTIONS = {"batch_size": BATCH, "drop_remainder": False}


@pytest.fixture(scope="module")
def problem(tools):
    return cache(
        lambda layout, parts=PARTS: tools.Problem(layout, task=TASK, augmented=False, accumulate=parts, ema=True)
    )


@pytest.fixture(scope="module")
def reference(problem):
    """The run on one device, each batch as a whole."""
    return problem("jit", 1).run(SOURCE, STEPS, **OPTIONS)


@pytest.fixture(scope="module")
def alone(problem, tools):
    """The run of each member of a population on one device, each batch as a whole."""
    return [problem("jit", 1).alone(SOURCE, STEPS, i, **OPTIONS) for i in range(len(tools.MEMBERS))]


def assert_agree(tools, measured, expected):
    (state, metrics), (other, others) = measured, expected
    assert int(state.step) == int(other.step) == STEPS
    assert tools.relative_difference(state.params, other.params) < 1e-5
    assert tools.relative_difference(state.ema, other.ema) < 1e-5
    assert metrics.keys() == others.keys() == {"loss", "accuracy", "learning_rate", "gradient_norm"}
    for name, values in metrics.items():
        assert values.shape == (STEPS,)
        np.testing.assert_allclose(values, others[name], rtol=1e-5, err_msg=name)


def test_the_examples_are_such_that_means_of_means_would_be_others():
    # Given the batches of the first epoch, on eight devices as `data` and pmap cut them and in parts,
    batches = data.epoch_batches(0, 0, LENGTH, BATCH, drop_remainder=False)
    labels, weights = (SOURCE.arrays()[name] for name in ("label", "weight"))
    for batch in (batches[0], batches[-1]):
        weight, value = np.where(batch < 0, 0, weights[batch]), labels[batch].astype(float)
        for axes in ((8, 2), (2, 8)):
            of_each = weight.reshape(axes).sum(1)
            means = (weight * value).reshape(axes).sum(1) / np.where(of_each == 0, 1, of_each)
            # then the mean of their means is not that of the batch.
            assert abs(means.mean() - np.average(value, weights=weight)) > 0.01


@pytest.mark.parametrize(
    ("layout", "resident"),
    [("jit", True), ("jit", False), ("data", True), ("fsdp", True), ("pmap", True), ("pmap", False)],
)
def test_a_layout_agrees_with_one_device_over_20_steps(tools, problem, reference, layout, resident):
    assert_agree(tools, problem(layout).run(SOURCE, STEPS, resident=resident, **OPTIONS), reference)


@pytest.mark.parametrize(
    ("layout", "resident"), [("map", True), ("devices", True), ("vmap", True), ("vmap on each device", False)]
)
def test_each_member_of_a_population_agrees_with_one_device_over_20_steps(tools, problem, alone, layout, resident):
    state, metrics = problem(layout).run(SOURCE, STEPS, resident=resident, **OPTIONS)
    for i, expected in enumerate(alone):
        mine = {name: values[:, i] for name, values in metrics.items()}
        assert_agree(tools, (train.member(state, i), mine), expected)


def test_an_example_of_weight_0_changes_nothing(tools, problem, reference):
    garbage = weighted_source(garbage=1)
    assert not np.array_equal(garbage.arrays()["image"], SOURCE.arrays()["image"])
    state, metrics = problem("jit", 1).run(garbage, STEPS, **OPTIONS)
    assert tools.identical(state, reference[0])
    assert tools.identical(metrics, reference[1])


def test_a_batch_of_weight_0_moves_nothing_but_the_decay_and_counts_for_nothing(tools, problem):
    one = problem("jit")
    batch = {name: jnp.asarray(x[:BATCH]) for name, x in SOURCE.arrays().items()}
    batch |= {"weight": jnp.zeros(BATCH), "index": jnp.arange(BATCH)}
    state, metrics = jax.jit(one.step)(one.state, batch)
    decayed = one.state.params["output"]["kernel"] * (1 - tools.HYPER["learning_rate"] * tools.HYPER["weight_decay"])
    np.testing.assert_allclose(state.params["output"]["kernel"], decayed, rtol=1e-6)
    np.testing.assert_array_equal(state.params["hidden"]["bias"], one.state.params["hidden"]["bias"])
    assert float(metrics["loss"].total) == float(metrics["loss"].weight) == 0


def exact(params):
    """Loss and accuracy of the split in float64: each example counts as much as it weighs."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    arrays = SOURCE.arrays()
    hidden = preprocess(arrays["image"].reshape(LENGTH, -1).astype(np.float64))
    hidden = np.tanh(hidden @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    chosen = logits[np.arange(LENGTH), arrays["label"]]
    losses = np.log(np.exp(logits).sum(1)) - chosen
    weights = arrays["weight"].astype(np.float64)
    return {
        "loss": np.average(losses, weights=weights),
        "accuracy": np.average(logits.argmax(1) == arrays["label"], weights=weights),
    }


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("layout", ["jit", "data", "fsdp", "pmap", "map", "devices"])
def test_the_evaluation_of_a_ragged_split_is_its_weighted_mean_in_float64(problem, reference, layout, resident):
    one = problem(layout)
    evaluate = one.evaluate(SOURCE, batch_size=BATCH, resident=resident)
    if one.layout.shape:
        measured = evaluate(one.layout.place_variables(one.state.variables))
        expected = [exact(train.member(one.state.params, i)) for i in range(*one.layout.shape)]
        assert measured == {
            name: pytest.approx(np.array([each[name] for each in expected]), rel=1e-6) for name in expected[0]
        }
    else:
        measured = evaluate(one.layout.place_variables({"params": reference[0].params}))
        assert measured == pytest.approx(exact(reference[0].params), rel=1e-6)
