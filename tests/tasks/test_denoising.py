"""The denoising task against a network whose error is known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, diffusion, tasks, train

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
    return tasks.denoising(Guess(), SHAPE, schedule=diffusion.cosine(), **choices)


@pytest.fixture
def run(tools):
    def run(task, batch, *, train=True, key=0, bias=0.0):
        """(the loss, that of each example)"""
        arguments = {"bias": jnp.float32(bias)}, {}, batch, jax.random.key(key), train, {}
        mean, aux = task.loss(*arguments)
        assert aux == ({}, {})
        of_each = tools.per_example(task, *arguments)["loss"]
        assert float(mean.value) == pytest.approx(float(of_each.mean()), rel=1e-5)
        return float(mean.value), of_each

    return run


def test_the_variables_are_those_of_the_network():
    variables = task_of().init(jax.random.key(0))
    assert set(variables) == {"params", "seen"}
    assert set(variables["params"]) == {"bias"}


def test_the_loss_of_predicting_nothing_is_the_mean_square_of_what_was_to_be_predicted(run, batch):
    loss, _ = run(task_of(prediction="epsilon"), batch)
    # Noise has variance 1; five standard errors of the mean.
    assert loss == pytest.approx(1, abs=5 * (2 / (64 * 16)) ** 0.5)
    images = data.to_signed_unit(batch["image"])
    _, of_each = run(task_of(prediction="x0"), batch)
    np.testing.assert_allclose(of_each, (images**2).mean((1, 2, 3)), rtol=1e-5)


def test_a_bias_moves_the_loss_as_its_square(run, batch):
    images = data.to_signed_unit(batch["image"])
    _, of_each = run(task_of(prediction="x0"), batch, bias=0.3)
    np.testing.assert_allclose(of_each, ((images - 0.3) ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_examples_count_by_their_weight(batch):
    weights = np.random.default_rng(1).uniform(0, 2, 64) * (np.arange(64) % 3 > 0)
    weighted = {**batch, "weight": weights.astype(np.float32)}
    mean, _ = task_of(prediction="x0").loss({"bias": 0.0}, {}, weighted, jax.random.key(0), True, {})
    squares = np.float64(data.to_signed_unit(batch["image"]) ** 2).mean((1, 2, 3))
    assert float(mean.value) == pytest.approx(np.average(squares, weights=weights), rel=1e-5)


def test_each_examples_draw_is_a_function_of_its_index_alone(run, batch):
    for mode in (True, False):
        task = task_of(prediction="v")
        _, together = run(task, batch, train=mode)
        half = {name: values[1::2] for name, values in batch.items()}
        _, apart = run(task, half, train=mode)
        np.testing.assert_allclose(together[1::2], apart, rtol=1e-6)


def test_training_draws_anew_with_each_key_and_prediction_never_does(run, batch):
    task = task_of(prediction="v")
    draws = [run(task, batch, key=key)[0] for key in (0, 1)]
    assert draws[0] != draws[1]
    fixed = [tasks.evaluation(task).statistics({"params": {"bias": 0.0}}, batch)["loss"].value for _ in range(2)]
    assert fixed[0] == fixed[1]


class Seen(Guess):
    """Answers with what it was told, so that the loss shows it."""

    what: str = "time"

    @nn.compact
    def __call__(self, x, time, labels=None, *, train=False):
        self.param("bias", nn.initializers.zeros, ())
        told = time if self.what == "time" else labels
        return jnp.zeros_like(x) + told.astype(jnp.float32)[:, None, None, None]


def told(what, *, train_mode, count=4096, **choices):
    """What the network was told of each of many black images, by its error: the target is −1 everywhere.

    Each image is a batch of its own, so that the loss of each is known.
    """
    many = {"image": jnp.zeros((count, *SHAPE), jnp.uint8), "label": jnp.arange(count) % 3, "index": jnp.arange(count)}
    task = tasks.denoising(Seen(what=what), SHAPE, schedule=diffusion.cosine(), prediction="x0", **choices)

    def of_one(example):
        batch = jax.tree.map(lambda x: x[None], example)
        return task.loss({"bias": 0.0}, {}, batch, jax.random.key(0), train_mode, {})[0].value

    return np.sqrt(jax.jit(jax.vmap(of_one))(many)) - 1, np.asarray(many["label"])


@pytest.mark.parametrize("mode", [True, False])
def test_times_fill_the_interval_evenly(mode):
    times, _ = told("time", train_mode=mode)
    assert 0 < times.min() < 0.01
    assert 0.99 < times.max() <= 1 + 1e-6
    counts = np.histogram(times, 16, (0, 1 + 1e-6))[0] / len(times)
    np.testing.assert_allclose(counts, 1 / 16, atol=5 * (1 / 16 / len(times)) ** 0.5 if mode else 2e-3)


def test_some_labels_are_dropped_in_training_and_none_at_prediction():
    labels, given = told("labels", train_mode=True, num_classes=3, label_dropout=0.25)
    dropped = np.round(labels) == 3
    np.testing.assert_allclose(labels[~dropped], given[~dropped], atol=1e-4)
    assert dropped.mean() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / len(given)) ** 0.5)
    labels, given = told("labels", train_mode=False, num_classes=3, label_dropout=0.25)
    np.testing.assert_allclose(labels, given, atol=1e-4)


def test_a_weighting_multiplies_the_error(run, batch):
    _, plain = run(task_of(prediction="v"), batch)
    _, weighted = run(task_of(prediction="v", weighting=lambda kind, level: 2 * jnp.ones_like(level.alpha)), batch)
    np.testing.assert_allclose(weighted, 2 * plain, rtol=1e-6)


def test_a_network_learns_where_the_answer_can_be_known(batch):
    """All images are one: the best x0-prediction is it, and Guess can say its gray."""
    gray = {**batch, "image": jnp.full_like(batch["image"], 200)}
    task = task_of(prediction="x0")

    def make_optimizer(rate, hyper):
        return train.adam(rate)

    step = jax.jit(train.make_step(task, make_optimizer, lambda hyper: lambda step: 0.05))
    state = train.create_state(without_sown(task), make_optimizer, jax.random.key(0), {})
    for _ in range(100):
        state, metrics = step(state, gray)
    assert metrics["loss"].value < 1e-3
    assert state.params["bias"] == pytest.approx(200 / 127.5 - 1, abs=0.02)


def without_sown(task):
    """The task without what Guess sows."""
    return tasks.Task(lambda key: {"params": task.init(key)["params"]}, task.loss)


@pytest.mark.parametrize(
    ("choices", "message"),
    [({"prediction": "eps"}, "no prediction 'eps'"), ({"label_dropout": 1.5}, "label_dropout is 1.5")],
)
def test_what_is_not_valid_is_told(choices, message):
    with pytest.raises(ValueError, match=message):
        task_of(**choices)


def test_a_network_with_the_channels_of_a_learned_variance_is_refused(batch):
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, time, labels=None, *, train=False):
            return jnp.concatenate([x, x], -1) + self.param("bias", nn.initializers.zeros, ())

    task = tasks.denoising(Twice(), SHAPE, schedule=diffusion.cosine())
    with pytest.raises(ValueError, match=r"learned variance.*give the first half"):
        task.loss({"bias": 0.0}, {}, batch, jax.random.key(0), True, {})


def test_a_predictor_calls_the_network_as_it_predicts():
    predict = tasks.predictor(Seen(what="labels"), {"params": {"bias": 0.0}})
    x = jnp.ones((2, *SHAPE))
    np.testing.assert_array_equal(predict(x, jnp.ones(2), jnp.array([1, 2]))[:, 0, 0, 0], [1, 2])
