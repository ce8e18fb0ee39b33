"""Unpooling, bed of nails, pixel shuffle and bilinear kernels, against loops, adjoints and each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import (
    ConvTranspose,
    average_pool,
    bed_of_nails,
    bilinear_kernel,
    conv,
    conv_transpose,
    max_pool,
    max_pool_with_places,
    max_unpool,
    pixel_shuffle,
    upscale_bilinear,
    upscale_nearest,
)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def by_loops(x, window):
    """(maxima, places, unpooled maxima) of an array of numpy."""
    batch, height, width, channels = x.shape
    k, l = window  # noqa: E741 - the letters of the docstring
    grid = (batch, -(-height // k), -(-width // l), channels)
    maxima, places, unpooled = np.zeros(grid, x.dtype), np.zeros(grid, np.int32), np.zeros_like(x)
    for b, i, j, c in np.ndindex(grid):
        part = x[b, k * i : k * (i + 1), l * j : l * (j + 1), c]
        row, column = np.unravel_index(part.argmax(), part.shape)
        maxima[b, i, j, c], places[b, i, j, c] = part[row, column], row * l + column
        unpooled[b, k * i + row, l * j + column, c] = part[row, column]
    return maxima, places, unpooled


@pytest.mark.parametrize(
    ("shape", "window"),
    [((2, 6, 8, 3), (2, 2)), ((2, 7, 5, 3), (2, 2)), ((1, 7, 8, 2), (3, 2)), ((1, 1, 3, 2), (2, 2))],
)
def test_pooling_and_unpooling_are_exact_for_even_and_odd_sizes_and_ties(shape, window):
    x = jnp.round(2 * normal(*shape)) - 9  # all negative: the zeros of a padding would win
    pool = jax.jit(lambda x: max_pool_with_places(x, window))
    unpool = jax.jit(lambda y, places: max_unpool(y, places, shape[1:3], window))
    maxima, places = pool(x)
    for ours, wanted in zip((maxima, places, unpool(maxima, places)), by_loops(np.asarray(x), window), strict=True):
        np.testing.assert_array_equal(ours, wanted)
    # Unpooling is the adjoint of pooling: what pulls gradients back.
    g = normal(*maxima.shape, seed=1)
    pulled_back = jax.vjp(lambda x: max_pool_with_places(x, window)[0], x)[1](g)[0]
    np.testing.assert_array_equal(unpool(g, places), pulled_back)


def test_on_even_sizes_it_is_max_pooling_and_pooling_undoes_unpooling():
    x = jnp.abs(normal(2, 4, 6, 3))
    maxima, places = max_pool_with_places(x)
    np.testing.assert_array_equal(maxima, max_pool(x, (2, 2)))
    again, same = max_pool_with_places(max_unpool(maxima, places, (4, 6)))
    np.testing.assert_array_equal(again, maxima)
    np.testing.assert_array_equal(same, places)


def test_the_answers_are_those_in_pytorchs_documentation():
    # torch.nn.MaxUnpool2d, https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxUnpool2d.html
    image = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    maxima, places = max_pool_with_places(image)
    i, j = np.arange(2)[:, None], np.arange(2)
    p = np.asarray(places)[0, ..., 0]
    np.testing.assert_array_equal((2 * i + p // 2) * 4 + 2 * j + p % 2, [[5, 7], [13, 15]])
    unpooled = max_unpool(maxima, places, (4, 4))[0, ..., 0]
    np.testing.assert_array_equal(unpooled, [[0, 0, 0, 0], [0, 6, 0, 8], [0, 0, 0, 0], [0, 14, 0, 16]])


def test_nails_stand_in_the_corners_and_nearest_neighbors_are_nails_with_a_flat_kernel():
    x = normal(2, 3, 4, 2)
    nails = bed_of_nails(x, 3)
    assert nails.shape == (2, 9, 12, 2)
    np.testing.assert_array_equal(nails[:, ::3, ::3], x)
    assert np.count_nonzero(nails) == x.size
    flat = jnp.broadcast_to(jnp.eye(2), (3, 3, 2, 2))
    spread = conv(nails, flat, padding=((2, 0), (2, 0)))
    np.testing.assert_allclose(spread, upscale_nearest(x, 3), rtol=1e-6)
    np.testing.assert_allclose(spread, conv_transpose(x, flat, strides=(3, 3), padding="VALID"), rtol=1e-6)


def test_pixels_are_shuffled_as_in_pytorch():
    x = normal(2, 3, 4, 2 * 9)
    shuffled = np.asarray(pixel_shuffle(x, 3))
    for c, i, j in itertools.product(range(2), range(3), range(3)):
        np.testing.assert_array_equal(shuffled[:, i::3, j::3, c], x[..., c * 9 + i * 3 + j])
    # A mean of each square is a mean of its channels, so nothing is lost and nothing moves to another place.
    means = average_pool(jnp.asarray(shuffled), (3, 3))
    np.testing.assert_allclose(means, x.reshape(2, 3, 4, 2, 9).mean(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_transposed_convolution_begins_as_bilinear_upscaling(stride):
    x, border = normal(2, 3, 5, 3), stride // 2
    layer = ConvTranspose(3, 2 * stride, stride, stride // 2, kernel_init=bilinear_kernel)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    inside = (slice(None), slice(border, -border), slice(border, -border))
    expected = upscale_bilinear(x, (3 * stride, 5 * stride))
    np.testing.assert_allclose(y[inside], expected[inside], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variables["params"]["kernel"][..., 0, 0].sum(), stride**2, rtol=1e-6)


def test_a_dilated_convolution_is_one_with_zeros_between_the_entries_of_its_kernel():
    x, kernel = normal(2, 9, 8, 3), normal(3, 3, 3, 4, seed=1)
    spread = jnp.zeros((5, 5, 3, 4)).at[::2, ::2].set(kernel)
    for padding, strides in (("SAME", (1, 1)), ("VALID", (2, 1)), (((2, 1), (0, 3)), (1, 2))):
        dilated = conv(x, kernel, strides=strides, padding=padding, dilation=2)
        np.testing.assert_allclose(dilated, conv(x, spread, strides=strides, padding=padding), rtol=1e-4, atol=1e-5)
    loss = lambda kernel: (conv(x, kernel, dilation=2) ** 2).sum()
    gradient = jax.grad(lambda spread: (conv(x, spread) ** 2).sum())(spread)[::2, ::2]
    np.testing.assert_allclose(jax.grad(loss)(kernel), gradient, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: max_pool_with_places(normal(4, 4, 1)), "two positive numbers"),
        (lambda: max_pool_with_places(normal(1, 4, 4, 1), (0, 2)), "two positive numbers"),
        (lambda: max_unpool(normal(1, 2, 2, 1), jnp.zeros((1, 2, 2, 1), int), (5, 4)), r"has a grid of \(3, 2\)"),
        (lambda: max_unpool(normal(1, 2, 2, 1), jnp.zeros((1, 2, 2, 2), int), (4, 4)), "places"),
        (lambda: bed_of_nails(normal(1, 4, 4, 1), 0), "factor 0"),
        (lambda: pixel_shuffle(normal(1, 4, 4, 6), 2), "6 channels; pixel_shuffle by 2 needs a multiple of 4"),
        (lambda: bilinear_kernel(None, (4, 4, 2, 3)), "as many features as channels"),
        (lambda: conv(normal(1, 4, 4, 1), normal(3, 3, 1, 1), dilation=0), "dilation is 0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
