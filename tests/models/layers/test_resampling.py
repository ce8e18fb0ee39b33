"""Pooling, upscaling and transposed convolution, against sums written out, PyTorch's answers and matrices."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import (
    average_pool,
    conv,
    conv_transpose,
    dense_matrix_of,
    max_pool,
    upscale_bilinear,
    upscale_bilinear_corners,
    upscale_nearest,
)
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = [  # window, strides, padding
    ((2, 2), None, "VALID"),
    ((3, 2), (2, 1), "VALID"),
    ((3, 3), (2, 2), ((1, 1), (1, 1))),
    ((3, 2), (1, 3), ((2, 0), (0, 1))),
]


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def windows(x, window, strides, padding, fill):
    """[batch, height', width', window..., channel] of a padded image, by loops."""
    pads = ((0, 0), (0, 0)) if padding == "VALID" else padding
    x = np.pad(np.asarray(x), ((0, 0), *pads, (0, 0)), constant_values=fill)
    (k, l), (s, t) = window, strides or window  # noqa: E741 - the letters of the lecture
    rows, columns = (x.shape[1] - k) // s + 1, (x.shape[2] - l) // t + 1
    return np.stack(
        [np.stack([x[:, i * s : i * s + k, j * t : j * t + l] for j in range(columns)], 1) for i in range(rows)], 1
    )


@pytest.mark.parametrize(("window", "strides", "padding"), CASES)
def test_pooling_takes_the_maximum_or_the_mean_of_every_window(window, strides, padding):
    x = normal(2, 7, 8, 3) - 5  # so that a padding of zeros would win every maximum
    how = {"strides": strides, "padding": padding}
    largest = windows(x, window, strides, padding, -np.inf).max((3, 4))
    means = windows(x, window, strides, padding, 0).mean((3, 4))
    np.testing.assert_array_equal(max_pool(x, window, **how), largest)
    np.testing.assert_allclose(average_pool(x, window, **how), means, rtol=1e-6)


def test_pooling_works_along_one_axis_as_on_the_slide():
    x = jnp.asarray([3.0, 1.0, 2.0, 5.0, 4.0])[None, :, None]
    np.testing.assert_array_equal(max_pool(x, (3,), strides=(1,))[0, :, 0], [3, 5, 5])
    np.testing.assert_allclose(average_pool(x, (3,), strides=(1,))[0, :, 0], [2, 8 / 3, 11 / 3], rtol=1e-6)


def test_same_padding_gives_every_stride_an_output():
    assert max_pool(normal(1, 7, 8, 3), (2, 2), padding="SAME").shape == (1, 4, 4, 3)
    assert average_pool(normal(1, 7, 8, 3), (3, 3), strides=(1, 1), padding="SAME").shape == (1, 7, 8, 3)


def test_average_pooling_is_linear_and_max_pooling_is_not():
    x, y = normal(2, 6, 6, 3), normal(2, 6, 6, 3, seed=1)
    for pool, linear in ((average_pool, True), (max_pool, False)):
        together, apart = pool(2 * x - 3 * y, (2, 2)), 2 * pool(x, (2, 2)) - 3 * pool(y, (2, 2))
        assert np.allclose(together, apart, atol=1e-5) == linear
    # Average pooling is the matrix with 1/4 wherever a pixel lies in a window.
    matrix = dense_matrix_of(lambda x: average_pool(x, (2, 2)), (4, 4, 1))
    np.testing.assert_array_equal(np.sort(matrix, axis=1), [[0] * 12 + [0.25] * 4] * 4)
    np.testing.assert_array_equal(np.nonzero(matrix[1])[0], [2, 3, 6, 7])


def test_the_gradient_of_max_pooling_is_sparse():
    x = normal(1, 6, 6, 1)
    gradient = jax.grad(lambda x: max_pool(x, (3, 3)).sum())(x)
    assert np.count_nonzero(gradient) == 4
    np.testing.assert_array_equal(gradient[0, :3, :3, 0] == 1, x[0, :3, :3, 0] == x[0, :3, :3, 0].max())
    ties = jax.grad(lambda x: max_pool(x, (2, 2)).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(ties[0, ..., 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize(("strides", "shape"), [((1, 1), (5, 6)), ((2, 2), (3, 3)), ((3, 2), (2, 3))])
def test_a_strided_convolution_is_every_stride_th_output_of_the_ordinary_one(strides, shape):
    x, kernel = normal(2, 7, 8, 3), normal(3, 3, 3, 4, seed=1)
    strided = conv(x, kernel, strides=strides, padding="VALID")
    assert strided.shape == (2, *shape, 4)
    ordinary = conv(x, kernel, padding="VALID")[:, :: strides[0], :: strides[1]]
    np.testing.assert_allclose(strided, ordinary, rtol=1e-5, atol=1e-5)


def test_nearest_upscaling_repeats_every_pixel():
    image = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])[None, ..., None]
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(upscale_nearest(image, 2)[0, ..., 0], expected)
    x = normal(2, 3, 5, 4)
    np.testing.assert_array_equal(upscale_nearest(x, 3)[:, 1::3, 2::3], x)
    np.testing.assert_allclose(average_pool(upscale_nearest(x, 3), (3, 3)), x, rtol=1e-5)


def test_bilinear_upscaling_gives_the_answers_in_pytorchs_documentation():
    # torch.nn.Upsample, https://docs.pytorch.org/docs/stable/generated/torch.nn.Upsample.html
    image = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])[None, ..., None]
    halves = [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]]
    np.testing.assert_allclose(upscale_bilinear(image, (4, 4))[0, ..., 0], halves, rtol=1e-6)
    corners = [[1, 4 / 3, 5 / 3, 2], [5 / 3, 2, 7 / 3, 8 / 3], [7 / 3, 8 / 3, 3, 10 / 3], [3, 10 / 3, 11 / 3, 4]]
    np.testing.assert_allclose(upscale_bilinear_corners(image, (4, 4))[0, ..., 0], corners, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (10, 14), (13, 8), (40, 21)])
def test_bilinear_upscaling_is_that_of_jax_image(shape):
    x = normal(2, 5, 7, 3)
    np.testing.assert_allclose(
        upscale_bilinear(x, shape), jax.image.resize(x, (2, *shape, 3), "bilinear"), rtol=1e-5, atol=1e-5
    )


def affine(rows, columns):
    return 2.0 * np.asarray(rows)[:, None] - 0.5 * np.asarray(columns) + 3


@pytest.mark.parametrize("shape", [(5, 7), (10, 21), (13, 8)])
def test_bilinear_upscaling_reproduces_affine_images(shape):
    image = jnp.asarray(affine(np.arange(5), np.arange(7)), jnp.float32)[None, ..., None]
    # With the corners kept, everywhere,
    points = (np.linspace(0, 4, shape[0]), np.linspace(0, 6, shape[1]))
    y = upscale_bilinear_corners(image, shape)[0, ..., 0]
    np.testing.assert_allclose(y, affine(*points), rtol=1e-5)
    # and with the area kept, between the outermost of the old centers; farther out the border is repeated.
    centers = [(np.arange(new) + 0.5) * old / new - 0.5 for new, old in zip(shape, (5, 7), strict=True)]
    y = upscale_bilinear(image, shape)[0, ..., 0]
    np.testing.assert_allclose(y, affine(np.clip(centers[0], 0, 4), np.clip(centers[1], 0, 6)), rtol=1e-5)


def test_bilinear_upscaling_of_a_constant_is_constant_and_of_its_own_size_nothing():
    x = normal(2, 4, 5, 3)
    for upscale in (upscale_bilinear, upscale_bilinear_corners):
        np.testing.assert_allclose(upscale(jnp.full((1, 3, 3, 1), 7.0), (11, 4)), 7.0, rtol=1e-6)
        np.testing.assert_allclose(upscale(x, (4, 5)), x, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(upscale(x[:, :1, :1], (3, 2)), np.broadcast_to(x[:, :1, :1], (2, 3, 2, 3)))


CONVOLUTIONS = st.fixed_dictionaries(
    {
        "shape": st.tuples(st.integers(4, 9), st.integers(4, 9)),
        "size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "strides": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "padding": st.one_of(
            st.sampled_from(["SAME", "VALID"]),
            st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
        ),
    }
)


@settings(max_examples=30)
@given(CONVOLUTIONS, st.integers(0, 2**16))
def test_the_transposed_convolution_is_the_adjoint_of_the_convolution(case, seed):
    how = {"strides": case["strides"], "padding": case["padding"]}
    x, kernel = normal(2, *case["shape"], 3, seed=seed), normal(*case["size"], 3, 2, seed=seed + 1)
    y = normal(*jax.eval_shape(lambda x: conv(x, kernel, **how), x).shape, seed=seed + 2)
    back = partial(conv_transpose, **how, output_shape=case["shape"])
    convolved, transposed = map(np.asarray, jax.jit(lambda x, y, k: (conv(x, k, **how), back(y, k)))(x, y, kernel))
    assert transposed.shape == x.shape
    # ⟨conv x, y⟩ = ⟨x, convᵀ y⟩, up to rounding of the sums.
    scale = float(np.linalg.norm(convolved) * np.linalg.norm(y)) + 1
    assert abs(float(np.vdot(convolved, y) - np.vdot(x, transposed))) < 1e-5 * scale


@pytest.mark.parametrize(
    ("shape", "size", "strides", "padding"),
    [
        ((5, 6), 3, (1, 1), "SAME"),
        ((6, 5), 3, (2, 2), ((1, 1), (1, 1))),
        ((5, 7), 2, (2, 3), "VALID"),
        ((6, 6), 4, (2, 2), "SAME"),
        ((5, 5), 1, (3, 2), "SAME"),
    ],
)
def test_the_transposed_convolution_multiplies_by_the_transposed_matrix_of_the_convolution(
    shape, size, strides, padding
):
    how, kernel = {"strides": strides, "padding": padding}, normal(size, size, 2, 3)
    matrix = dense_matrix_of(lambda x: conv(x, kernel, **how), (*shape, 2))
    y = normal(4, *jax.eval_shape(partial(conv, **how), jnp.zeros((1, *shape, 2)), kernel).shape[1:], seed=1)
    transposed = conv_transpose(y, kernel, **how, output_shape=shape)
    np.testing.assert_allclose(transposed.reshape(4, -1), y.reshape(4, -1) @ matrix, rtol=1e-5, atol=1e-5)


def test_every_input_adds_its_multiple_of_the_kernel():
    x, kernel = np.asarray(normal(3, 4)), np.asarray(normal(3, 2, seed=1))
    expected = np.zeros((2 * 2 + 3, 3 * 3 + 2))
    for i, j in itertools.product(range(3), range(4)):
        expected[2 * i : 2 * i + 3, 3 * j : 3 * j + 2] += x[i, j] * kernel
    y = conv_transpose(
        jnp.asarray(x)[None, ..., None], jnp.asarray(kernel)[..., None, None], strides=(2, 3), padding="VALID"
    )
    np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1))])
def test_every_output_shape_that_leads_to_the_grid_is_allowed_and_no_other(padding):
    how, kernel, y = {"strides": (3, 3), "padding": padding}, normal(3, 3, 2, 4), normal(1, 3, 3, 4, seed=1)
    for side in range(5, 14):
        back = partial(conv_transpose, **how, output_shape=(side, side))
        grid = jax.eval_shape(partial(conv, **how), jnp.zeros((1, side, side, 2)), kernel).shape[1:3]
        if grid == (3, 3):
            assert jax.eval_shape(back, y, kernel).shape == (1, side, side, 2)
        else:
            with pytest.raises(ValueError, match="output_shape is"):
                jax.eval_shape(back, y, kernel)


def test_by_default_same_padding_multiplies_the_size_and_others_give_pytorchs():
    kernel, y = normal(4, 4, 2, 3), normal(1, 5, 6, 3)
    shape = lambda **how: jax.eval_shape(partial(conv_transpose, strides=(2, 2), **how), y, kernel).shape
    assert shape() == (1, 10, 12, 2)
    # ConvTranspose2d(kernel_size=4, stride=2, padding=1): (n − 1) · 2 − 2 · 1 + 4.
    assert shape(padding=((1, 1), (1, 1))) == (1, 10, 12, 2)
    assert shape(padding="VALID") == (1, 12, 14, 2)


def test_its_derivatives_are_convolutions():
    how = {"strides": (2, 1), "padding": ((1, 0), (1, 1))}
    x, kernel = normal(2, 7, 6, 3), normal(3, 3, 3, 2, seed=1)
    y = normal(*conv(x, kernel, **how).shape, seed=2)
    loss = lambda y, kernel: jnp.vdot(x, conv_transpose(y, kernel, **how, output_shape=(7, 6)))
    for_y, for_kernel = jax.jit(jax.grad(loss, (0, 1)))(y, kernel)
    np.testing.assert_allclose(for_y, conv(x, kernel, **how), rtol=1e-4, atol=1e-4)
    expected = jax.jit(jax.grad(lambda kernel: jnp.vdot(y, conv(x, kernel, **how))))(kernel)
    np.testing.assert_allclose(for_kernel, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: max_pool(normal(1, 4, 4, 1), (2,)), "a window for each axis"),
        (lambda: average_pool(normal(1, 4, 4, 1), (2, 0)), "a window for each axis"),
        (lambda: max_pool(normal(1, 4, 4, 1), (2, 2), padding=((2, 0), (0, 0))), "in the padding"),
        (lambda: upscale_nearest(normal(4, 4, 1), 2), r"\[batch, height, width, channel\]"),
        (lambda: upscale_nearest(normal(1, 4, 4, 1), 0), "factor is 0"),
        (lambda: upscale_bilinear(normal(1, 4, 4, 1), (8, 3)), r"at least \(4, 4\)"),
        (lambda: upscale_bilinear_corners(normal(4, 4, 1), (8, 8)), r"\[batch, height, width, channel\]"),
        (lambda: conv_transpose(normal(4, 4, 1), normal(3, 3, 1, 1)), "rank 4"),
        (lambda: conv_transpose(normal(1, 4, 4, 2), normal(3, 3, 2, 1)), "2 channels"),
        (lambda: conv_transpose(normal(1, 4, 4, 1), normal(3, 3, 2, 1), padding="same"), "padding is 'same'"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("shape", "window", "padding"),
    [
        ((2, 7, 9, 3), (2, 2), "VALID"),
        ((2, 7, 9, 3), (2, 3), "SAME"),
        ((2, 7, 9, 3), (3, 2), ((1, 1), (0, 1))),
        ((2, 9, 3), (2,), "VALID"),
        ((1, 4, 4, 4, 2), (2, 2, 2), "VALID"),
    ],
)
def test_max_pooling_of_tiles_is_that_of_lax_even_where_entries_tie(shape, window, padding):
    x = jnp.asarray(np.round(np.random.default_rng(0).normal(size=shape)), jnp.float32)
    g = jnp.cos(jnp.arange(x.size, dtype=jnp.float32))

    def pulled_back(pool):
        y, back = jax.vjp(pool, x)
        return y, back(g[: y.size].reshape(y.shape))[0]

    pulled_back = jax.jit(pulled_back, static_argnums=0)

    ours = pulled_back(lambda x: max_pool(x, window, padding=padding))
    theirs = pulled_back(lambda x: nn.max_pool(x, window, window, padding))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert jnp.isnan(max_pool(x.at[..., 1].set(jnp.nan), window, padding=padding)[..., 1]).all()
