"""Images as numbers about 0, and back."""

import jax.numpy as jnp
import numpy as np
from etude import data


def test_every_gray_level_comes_back():
    levels = jnp.arange(256, dtype=jnp.uint8).reshape(2, 2, 64, 1)
    unit = data.to_signed_unit(levels)
    assert (unit.min(), unit.max(), unit.dtype) == (-1, 1, jnp.float32)
    np.testing.assert_array_equal(data.to_pixels(unit), levels)


def test_what_is_no_gray_level_is_rounded_and_cut_off():
    np.testing.assert_array_equal(data.to_pixels(jnp.array([-1.5, -1.0, 0.002, 0.9999, 7.0])), [0, 0, 128, 255, 255])
