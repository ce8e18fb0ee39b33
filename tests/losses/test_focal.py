"""Focal losses against torchvision's answers, and against their definition in float64."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses
from scipy.special import softmax

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "torchvision_boxes.npz")
sigmoid = jax.jit(losses.sigmoid_focal_loss)
sigmoid_gradient = jax.jit(jax.grad(lambda x, y, **focus: losses.sigmoid_focal_loss(x, y, **focus).sum()))
softmax_form = jax.jit(losses.softmax_focal_loss)
softmax_gradient = jax.jit(jax.grad(lambda x, y, **focus: losses.softmax_focal_loss(x, y, **focus).sum()))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.5), (-1.0, 2.0)])
def test_the_sigmoid_form_and_its_gradient_equal_torchvision_s(alpha, gamma):
    logits, targets = jnp.asarray(GOLDEN["focal_logits"]), jnp.asarray(GOLDEN["focal_targets"])
    focus = {"alpha": None if alpha < 0 else alpha, "gamma": gamma}  # torchvision: negative for no weights
    np.testing.assert_allclose(
        sigmoid(logits, targets, **focus), GOLDEN[f"focal_{alpha}_{gamma}"], rtol=1e-5, atol=1e-7
    )
    gradient = sigmoid_gradient(logits, targets, **focus)
    np.testing.assert_allclose(gradient, GOLDEN[f"focal_gradient_{alpha}_{gamma}"], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_softmax_form_equals_its_definition(gamma):
    rng = np.random.default_rng(0)
    logits, labels, alpha = rng.normal(0, 3, (4, 5, 3)), rng.integers(0, 3, (4, 5)), rng.uniform(0, 1, 3)
    p = np.take_along_axis(softmax(logits, -1), labels[..., None], -1)[..., 0]
    expected = -alpha[labels] * (1 - p) ** gamma * np.log(p)
    measured = softmax_form(logits, labels, alpha=jnp.asarray(alpha), gamma=gamma)
    np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-6)


def test_both_forms_agree_on_two_classes():
    rng = np.random.default_rng(1)
    scores, targets = rng.normal(0, 3, 40), rng.integers(0, 2, 40)
    expected = sigmoid(jnp.asarray(scores), jnp.asarray(targets), alpha=0.3, gamma=1.5)
    logits = jnp.stack([jnp.zeros(40), jnp.asarray(scores)], -1)
    measured = softmax_form(logits, jnp.asarray(targets), alpha=jnp.array([0.7, 0.3]), gamma=1.5)
    np.testing.assert_allclose(measured, expected, rtol=1e-5, atol=1e-7)


def test_without_focus_they_are_the_cross_entropies():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 3, (6, 4)).astype(np.float32), rng.integers(0, 4, 6)
    np.testing.assert_allclose(
        softmax_form(logits, labels, gamma=0.0), losses.cross_entropy(logits, labels), rtol=1e-5, atol=1e-6
    )
    signs = rng.choice([-1, 1], (6, 4))
    measured = sigmoid(logits, (signs + 1) // 2, alpha=None, gamma=0.0)
    np.testing.assert_allclose(measured, losses.log_loss(logits, signs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extreme_logits_have_finite_losses_and_gradients(gamma):
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0], [200.0, 100.0]])
    targets, labels = jnp.array([[1, 0], [1, 0], [0, 1], [0, 1]]), jnp.array([0, 0, 1, 1])
    for loss, gradient, truth in (
        (sigmoid, sigmoid_gradient, targets),
        (softmax_form, softmax_gradient, labels),
    ):
        assert np.isfinite(loss(logits, truth, gamma=gamma)).all()
        assert np.isfinite(gradient(logits, truth, gamma=gamma)).all()
    np.testing.assert_allclose(softmax_form(logits, labels, gamma=gamma)[:2], [0, 2e4], atol=1e-6)


def test_ignored_pixels_have_neither_loss_nor_gradient():
    logits, labels = jnp.array([[3.0, 1], [jnp.nan, 9], [2, 4]]), jnp.array([0, -1, 1])
    assert softmax_form(logits, labels)[1] == 0
    gradient = softmax_gradient(logits, labels)
    assert not gradient[1].any()
    assert gradient[0].any()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (partial(losses.sigmoid_focal_loss, jnp.zeros(2), jnp.zeros(3)), "one shape"),
        (partial(losses.sigmoid_focal_loss, jnp.zeros(2), jnp.zeros(2), alpha=1.5), "1.5"),
        (partial(losses.sigmoid_focal_loss, jnp.zeros(2), jnp.zeros(2), gamma=-1), "-1"),
        (partial(losses.softmax_focal_loss, jnp.zeros((2, 3)), jnp.zeros(2)), "integer labels"),
        (partial(losses.softmax_focal_loss, jnp.zeros((2, 1)), jnp.zeros(2, int)), "classes ≥ 2"),
        (partial(losses.softmax_focal_loss, jnp.zeros((2, 3)), jnp.zeros(2, int), alpha=jnp.ones(2)), "3 classes"),
    ],
)
def test_wrong_arguments_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        loss()
