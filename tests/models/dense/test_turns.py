"""The mean over flips and turns of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.dense import over_turns


@pytest.mark.parametrize(("shape", "views"), [((6, 6), 8), ((4, 6), 4)])
def test_what_does_not_depend_on_direction_stays_and_what_does_is_made_even(shape, views):
    images = jax.random.normal(jax.random.key(0), (2, *shape, 3))
    calls = []

    def edges(x):
        calls.append(x.shape)
        return jnp.maximum(x[:, :, 1:, :1] - x[:, :, :-1, :1], 0)

    def padded(x):
        return jnp.pad(edges(x), ((0, 0), (0, 0), (0, 1), (0, 0)))

    np.testing.assert_allclose(over_turns(lambda x: x**2, images), images**2, rtol=1e-6)
    mean = over_turns(padded, images)
    assert len(calls) == views
    np.testing.assert_allclose(over_turns(padded, images[:, ::-1]), mean[:, ::-1], rtol=1e-5, atol=1e-6)
    if shape[0] == shape[1]:
        turned = over_turns(padded, jnp.rot90(images, 1, (1, 2)))
        np.testing.assert_allclose(turned, jnp.rot90(mean, 1, (1, 2)), rtol=1e-5, atol=1e-6)
