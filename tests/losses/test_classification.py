"""Cross-entropy against its definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_equals_its_definition(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (20, 5)), rng.integers(0, 5, 20)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    measured = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), label_smoothing=smoothing)
    np.testing.assert_allclose(measured, -(target * log_p).sum(-1), rtol=1e-5)


def test_extreme_logits_give_finite_losses_and_gradients():
    logits, labels = jnp.array([[1e4, -1e4], [-1e4, 1e4]]), jnp.array([0, 0])
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), [0, 2e4])
    assert jnp.isfinite(jax.grad(lambda x: losses.cross_entropy(x, labels).sum())(logits)).all()


def test_bfloat16_logits_are_summed_in_float32():
    assert losses.cross_entropy(jnp.ones((2, 3), jnp.bfloat16), jnp.array([0, 1])).dtype == jnp.float32


def test_wrong_shapes_and_smoothing_are_refused():
    with pytest.raises(ValueError, match="logits"):
        losses.cross_entropy(jnp.ones((2, 3)), jnp.ones((3,), int))
    with pytest.raises(ValueError, match="label_smoothing is 1"):
        losses.cross_entropy(jnp.ones((2, 3)), jnp.ones((2,), int), label_smoothing=1)
