"""Dropout and stochastic depth: means, independence and traced rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import Dropout, dropout, stochastic_depth


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_rate(rate):
    y = np.asarray(dropout(jax.random.key(0), jnp.ones((1000, 400)), rate))
    dropped = (y == 0).mean()
    spread = np.sqrt(rate * (1 - rate) / y.size)
    assert abs(dropped - rate) < 5 * spread
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_stochastic_depth_drops_whole_examples():
    y = np.asarray(stochastic_depth(jax.random.key(1), jnp.ones((4000, 3, 2)), 0.25)).reshape(4000, -1)
    assert ((y == 0).all(1) | (y != 0).all(1)).all()
    assert abs((y[:, 0] == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)


def test_a_population_of_rates_equals_each_alone():
    x, rates = jnp.arange(1.0, 13.0).reshape(3, 4), jnp.array([0.0, 0.3, 1.0])
    together = jax.vmap(lambda rate: dropout(jax.random.key(2), x, rate))(rates)
    for i, rate in enumerate([0.0, 0.3, 1.0]):
        np.testing.assert_array_equal(together[i], dropout(jax.random.key(2), x, rate))
    np.testing.assert_array_equal(together[0], x)
    np.testing.assert_array_equal(together[2], 0 * x)


@pytest.mark.parametrize("whole_examples", [False, True])
def test_the_layer_is_off_at_prediction(whole_examples):
    x = jnp.ones((64, 5))
    layer = Dropout(jnp.float32(0.5), whole_examples)
    rngs = {"dropout": jax.random.key(3)}
    np.testing.assert_array_equal(layer.apply({}, x, False), x)
    assert not np.array_equal(layer.apply({}, x, True, rngs=rngs), x)


def test_a_rate_outside_zero_and_one_is_an_error():
    with pytest.raises(ValueError, match=r"rate of dropout is 1\.5"):
        dropout(jax.random.key(0), jnp.ones(3), 1.5)
