"""Losses of classifiers against their definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses
from scipy.special import softmax


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_equals_its_definition(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (20, 5)), rng.integers(0, 5, 20)
    target = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    expected = -(target * np.log(softmax(logits, -1))).sum(-1)
    for given in (jnp.asarray(labels), jax.nn.one_hot(labels, 5)):
        measured = losses.cross_entropy(jnp.asarray(logits), given, label_smoothing=smoothing)
        np.testing.assert_allclose(measured, expected, rtol=1e-5)


def test_cross_entropy_of_a_mixed_label_is_the_mixed_cross_entropy():
    logits = jnp.array([[1.0, -2, 0.5], [0, 3, 1]])
    first, second = jnp.array([0, 1]), jnp.array([2, 0])
    mixed = 0.3 * jax.nn.one_hot(first, 3) + 0.7 * jax.nn.one_hot(second, 3)
    expected = 0.3 * losses.cross_entropy(logits, first) + 0.7 * losses.cross_entropy(logits, second)
    np.testing.assert_allclose(losses.cross_entropy(logits, mixed), expected, rtol=1e-6)


def test_cross_entropy_is_least_where_the_prediction_is_the_smoothed_label():
    label = jnp.array([[0.2, 0.5, 0.3]])
    best = jnp.log(0.9 * label + 0.1 / 3)
    gradient = jax.grad(lambda logits: losses.cross_entropy(logits, label, label_smoothing=0.1).sum())
    np.testing.assert_allclose(gradient(best), 0, atol=1e-6)
    assert jnp.abs(gradient(jnp.log(label))).max() > 0.01


def test_label_smoothing_may_be_traced():
    logits, labels = jnp.array([[1.0, 2, 4], [0, 0, 1]]), jnp.array([0, 2])
    strengths = [0.0, 0.1, 0.4]
    traced = jax.jit(jax.vmap(lambda s: losses.cross_entropy(logits, labels, label_smoothing=s)))(jnp.array(strengths))
    alone = [losses.cross_entropy(logits, labels, label_smoothing=s) for s in strengths]
    np.testing.assert_allclose(traced, jnp.stack(alone), rtol=1e-6)


@pytest.mark.parametrize("labels", [jnp.array([0, 0]), jnp.array([[1.0, 0], [1, 0]])])
def test_extreme_logits_give_finite_losses_and_gradients(labels):
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), [0, 2e4])
    assert jnp.isfinite(jax.grad(lambda x: losses.cross_entropy(x, labels).sum())(logits)).all()


def test_bfloat16_logits_are_summed_in_float32():
    assert losses.cross_entropy(jnp.ones((2, 3), jnp.bfloat16), jnp.array([0, 1])).dtype == jnp.float32
    assert losses.cross_entropy(jnp.ones((2, 3), jnp.bfloat16), jnp.eye(3)[:2]).dtype == jnp.float32


@pytest.mark.parametrize(
    "labels", [jnp.ones((3,), int), jnp.ones((2, 4)), jnp.ones((2, 3), int), jnp.ones((2,)), jnp.ones((1, 3))]
)
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match="cross_entropy expects logits"):
        losses.cross_entropy(jnp.ones((2, 3)), labels)


@pytest.mark.parametrize("smoothing", [1, -0.1, float("nan")])
def test_smoothing_out_of_range_is_refused(smoothing):
    with pytest.raises(ValueError, match=f"label_smoothing is {smoothing}"):
        losses.cross_entropy(jnp.ones((2, 3)), jnp.ones((2,), int), label_smoothing=smoothing)


def test_log_loss_equals_its_definition():
    scores = np.linspace(-20, 20, 41)
    for sign in (-1, 1):
        measured = losses.log_loss(jnp.asarray(scores), jnp.full(41, sign))
        np.testing.assert_allclose(measured, np.log1p(np.exp(-sign * scores)), rtol=1e-5)


def test_log_loss_is_the_cross_entropy_of_two_classes():
    scores, classes = jnp.array([-3.0, -0.1, 0, 2, 50]), jnp.array([0, 1, 1, 0, 1])
    logits = jnp.stack([jnp.zeros(5), scores], -1)
    expected = losses.cross_entropy(logits, classes)
    np.testing.assert_allclose(losses.log_loss(scores, 2 * classes - 1), expected, rtol=1e-5, atol=1e-7)


def test_log_loss_is_stable_at_extreme_scores():
    scores, signs = jnp.array([1e4, -1e4, 1e4, -1e4]), jnp.array([1, 1, -1, -1])
    np.testing.assert_allclose(losses.log_loss(scores, signs), [0, 1e4, 1e4, 0])
    slopes = jax.grad(lambda f: losses.log_loss(f, signs).sum())(scores)
    np.testing.assert_allclose(slopes, [0, -1, 1, 0])


def test_scores_and_signs_of_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        losses.log_loss(jnp.ones((4, 1)), jnp.ones(4))
