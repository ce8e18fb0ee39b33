"""Colors against the standard library's and Pillow's."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.data.augment import color
from PIL import Image, ImageEnhance

RGB = jax.random.bits(jax.random.key(0), (9, 11, 3), jnp.uint8)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 1e-3, 1 / 3, 0.45])
def test_hue_turns_as_in_colorsys(turn):
    def turned(pixel):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        return np.multiply(colorsys.hsv_to_rgb((h + turn) % 1, s, v), 255)

    expected = np.apply_along_axis(turned, -1, np.asarray(RGB, np.float64))
    np.testing.assert_allclose(color.hue(RGB.astype(jnp.float32), turn), expected, atol=1e-3)


def test_a_third_of_a_turn_takes_red_to_green_and_leaves_gray():
    image = jnp.array([[[200, 0, 0], [90, 90, 90], [0, 0, 0]]], jnp.uint8)
    np.testing.assert_array_equal(color.hue(image, 1 / 3), [[[0, 200, 0], [90, 90, 90], [0, 0, 0]]])


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (color.brightness, ImageEnhance.Brightness),
        (color.contrast, ImageEnhance.Contrast),
        (color.saturation, ImageEnhance.Color),
    ],
)
def test_factors_mean_the_same_as_in_pillow(ours, pillows, factor):
    expected = np.asarray(pillows(Image.fromarray(np.asarray(RGB))).enhance(factor), int)
    # Pillow rounds the gray image, and its mean, to integers, and cuts off the results' fractions.
    assert np.abs(np.asarray(ours(RGB, factor), int) - expected).max() <= 2


def test_contrast_keeps_the_mean_and_brightness_the_ratios():
    gray = jnp.array([[[100.0], [110.0], [150.0]]])
    np.testing.assert_allclose(color.contrast(gray, 1.5).ravel(), [90, 105, 165], rtol=1e-6)
    np.testing.assert_allclose(color.brightness(gray, 1.5).ravel(), [150, 165, 225], rtol=1e-6)


def test_what_leaves_the_range_is_cut_and_integers_are_rounded():
    image = jnp.array([[[3], [200]]], jnp.uint8)
    np.testing.assert_array_equal(color.brightness(image, 1.55).ravel(), [5, 255])
    np.testing.assert_allclose(color.brightness(image.astype(jnp.float32), 1.55).ravel(), [4.65, 255], rtol=1e-6)
