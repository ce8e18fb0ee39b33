"""The squared loss against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses


def test_squared_loss_has_no_half_and_slope_twice_the_residual():
    predictions, targets = jnp.array([[1.0, -2], [0, 5]]), jnp.array([[3, -2], [0, 1]])
    np.testing.assert_array_equal(losses.squared_loss(predictions, targets), [[4, 0], [0, 16]])
    slopes = jax.grad(lambda f: losses.squared_loss(f, targets).sum())(predictions)
    np.testing.assert_array_equal(slopes, [[-4, 0], [0, 8]])


def test_small_floats_are_squared_in_float32():
    loss = losses.squared_loss(jnp.array([300.0], jnp.float16), jnp.array([-300.0]))
    assert loss.dtype == jnp.float32
    np.testing.assert_array_equal(loss, [360000.0])  # more than float16 holds


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        losses.squared_loss(jnp.ones((4, 1)), jnp.ones(4))
