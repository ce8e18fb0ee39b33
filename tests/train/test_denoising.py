"""The denoising task against a network whose error is known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, diffusion, train

SHAPE = (4, 4, 1)


class Guess(nn.Module):
    """Predicts one number everywhere, for each label and time; keeps what it was called with."""

    @nn.compact
    def __call__(self, x, time, labels=None, *, train=False):
        bias = self.param("bias", nn.initializers.zeros, ())
        self.sow("seen", "time", time)
        self.sow("seen", "labels", labels)
        self.sow("seen", "x", x)
        return jnp.zeros_like(x) + bias


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (64, *SHAPE)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 3, 64), jnp.int32),
        "index": jnp.arange(64),
    }


def task_of(**choices):
    return train.denoising(Guess(), SHAPE, schedule=diffusion.cosine(), **choices)


def run(task, batch, *, train=True, key=0, bias=0.0):
    variables = task.init(jax.random.key(0))
    assert set(variables) == {"params", "seen"} or set(variables) == {"params"}
    return task.loss({"bias": jnp.float32(bias)}, {}, batch, jax.random.key(key), train, {})


def test_the_loss_of_predicting_nothing_is_the_mean_square_of_what_was_to_be_predicted(batch):
    loss, aux = run(task_of(prediction="epsilon"), batch)
    assert loss == pytest.approx(
        1, abs=5 * (2 / (64 * 16)) ** 0.5
    )  # noise of variance 1, and the mean's standard error
    images = data.to_unit(batch["image"])
    _, aux = run(task_of(prediction="x0"), batch)
    np.testing.assert_allclose(aux.metrics["loss"], (images**2).mean((1, 2, 3)), rtol=1e-5)


def test_a_bias_moves_the_loss_as_its_square(batch):
    images = data.to_unit(batch["image"])
    _, aux = run(task_of(prediction="x0"), batch, bias=0.3)
    np.testing.assert_allclose(aux.metrics["loss"], ((images - 0.3) ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_each_examples_draw_is_a_function_of_its_index_alone(batch):
    for mode in (True, False):
        task = task_of(prediction="v")
        _, together = run(task, batch, train=mode)
        half = {name: values[1::2] for name, values in batch.items()}
        _, apart = run(task, half, train=mode)
        np.testing.assert_allclose(together.metrics["loss"][1::2], apart.metrics["loss"], rtol=1e-6)


def test_training_draws_anew_with_each_key_and_prediction_never_does(batch):
    task = task_of(prediction="v")
    draws = [run(task, batch, key=key)[0] for key in (0, 1)]
    assert draws[0] != draws[1]
    fixed = [task.loss({"bias": 0.0}, {}, batch, jax.random.key(0), False, {})[0] for _ in range(2)]
    assert fixed[0] == fixed[1]


class Seen(Guess):
    """Answers with what it was told, so that the loss shows it."""

    what: str = "time"

    @nn.compact
    def __call__(self, x, time, labels=None, *, train=False):
        self.param("bias", nn.initializers.zeros, ())
        told = time if self.what == "time" else labels
        return jnp.zeros_like(x) + told.astype(jnp.float32)[:, None, None, None]


def told(batch, what, *, train_mode, count=4096, **choices):
    """What the network was told of each of many black images, by its error: the target is −1 everywhere."""
    many = {"image": jnp.zeros((count, *SHAPE), jnp.uint8), "label": jnp.arange(count) % 3, "index": jnp.arange(count)}
    task = train.denoising(Seen(what=what), SHAPE, schedule=diffusion.cosine(), prediction="x0", **choices)
    _, aux = task.loss({"bias": 0.0}, {}, many, jax.random.key(0), train_mode, {})
    return np.sqrt(aux.metrics["loss"]) - 1, np.asarray(many["label"])


@pytest.mark.parametrize("mode", [True, False])
def test_times_fill_the_interval_evenly(batch, mode):
    times, _ = told(batch, "time", train_mode=mode)
    assert 0 < times.min() < 0.01
    assert 0.99 < times.max() <= 1 + 1e-6
    counts = np.histogram(times, 16, (0, 1 + 1e-6))[0] / len(times)
    np.testing.assert_allclose(counts, 1 / 16, atol=5 * (1 / 16 / len(times)) ** 0.5 if mode else 2e-3)


def test_some_labels_are_dropped_in_training_and_none_at_prediction(batch):
    labels, given = told(batch, "labels", train_mode=True, num_classes=3, label_dropout=0.25)
    dropped = np.round(labels) == 3
    np.testing.assert_allclose(labels[~dropped], given[~dropped], atol=1e-4)
    assert dropped.mean() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / len(given)) ** 0.5)
    labels, given = told(batch, "labels", train_mode=False, num_classes=3, label_dropout=0.25)
    np.testing.assert_allclose(labels, given, atol=1e-4)


def test_a_weighting_multiplies_the_error(batch):
    _, plain = run(task_of(prediction="v"), batch)
    _, weighted = run(task_of(prediction="v", weighting=lambda kind, level: 2 * jnp.ones_like(level.alpha)), batch)
    np.testing.assert_allclose(weighted.metrics["loss"], 2 * plain.metrics["loss"], rtol=1e-6)


def test_a_network_learns_where_the_answer_can_be_known(batch):
    """All images are one: the best x0-prediction is it, and Guess can say its grey."""
    grey = {**batch, "image": jnp.full_like(batch["image"], 200)}
    task = task_of(prediction="x0")
    make_optimizer = lambda rate, hyper: train.adam(rate)  # noqa: E731
    step = jax.jit(train.make_step(task, make_optimizer, lambda hyper: lambda step: 0.05))
    state = train.create_state(Params(task), make_optimizer, jax.random.key(0), {})
    for _ in range(100):
        state, metrics = step(state, grey)
    assert metrics["loss"] < 1e-3
    assert state.params["bias"] == pytest.approx(200 / 127.5 - 1, abs=0.02)


def Params(task):
    """The task without what Guess sows."""
    return train.Task(lambda key: {"params": task.init(key)["params"]}, task.loss)


@pytest.mark.parametrize(
    ("choices", "message"),
    [({"prediction": "eps"}, "no prediction 'eps'"), ({"label_dropout": 1.5}, "label_dropout is 1.5")],
)
def test_what_is_not_valid_is_told(choices, message):
    with pytest.raises(ValueError, match=message):
        task_of(**choices)


def test_a_predictor_calls_the_network_as_it_predicts(batch):
    predict = train.predictor(Seen(what="labels"), {"params": {"bias": 0.0}})
    x = jnp.ones((2, *SHAPE))
    np.testing.assert_array_equal(predict(x, jnp.ones(2), jnp.array([1, 2]))[:, 0, 0, 0], [1, 2])
