"""Locally connected layers and convolutions, against the slides' sums written out and against their matrices."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import (
    Conv,
    LocallyConnected,
    conv,
    conv1d,
    convolutionalize,
    dense_matrix_of,
    local_grid,
    locally_connected,
)

CASES = [  # grid, window, strides, padding
    ((6,), (2,), (1,), "VALID"),
    ((7,), (3,), (2,), "SAME"),
    ((8,), (3,), (3,), ((2, 0),)),
    ((5, 6), (3, 3), (1, 1), "SAME"),
    ((6, 5), (2, 3), (2, 1), "VALID"),
    ((4, 7), (3, 2), (2, 3), ((0, 1), (2, 1))),
]
# Sums of at most 27 products of order 1, in float32.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def pads_of(grid, window, strides, padding):
    """Zeros before and after each axis: none, or as many as make ceil(n / stride) outputs, the odd one at the end."""
    if padding == "VALID":
        return [(0, 0)] * len(grid)
    if padding == "SAME":
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(grid, window, strides, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return list(padding)


def sparse_matrix(kernel, grid, strides, padding):
    """W of a locally connected layer with weights [*grid', *window, channel, features], entry by entry."""
    axes = len(grid)
    places, window, (channels, features) = kernel.shape[:axes], kernel.shape[axes:-2], kernel.shape[-2:]
    matrix = np.zeros((*places, features, *grid, channels))
    for place in itertools.product(*map(range, places)):
        for offset in itertools.product(*map(range, window)):
            low = [pad[0] for pad in pads_of(grid, window, strides, padding)]
            pixel = tuple(p * s + o - b for p, s, o, b in zip(place, strides, offset, low, strict=True))
            if all(0 <= i < n for i, n in zip(pixel, grid, strict=True)):
                for c, d in itertools.product(range(channels), range(features)):
                    matrix[(*place, d, *pixel, c)] = kernel[(*place, *offset, c, d)]
    return matrix.reshape(math.prod(places) * features, -1)


@pytest.mark.parametrize(("grid", "window", "strides", "padding"), CASES)
def test_a_locally_connected_layer_is_the_dense_layer_of_its_sparse_matrix(grid, window, strides, padding):
    how = {"strides": strides, "padding": padding}
    kernel = normal(*local_grid(grid, window, **how), *window, 2, 3)
    expected = sparse_matrix(np.asarray(kernel), grid, strides, padding)
    x = normal(4, *grid, 2, seed=1)
    y = locally_connected(x, kernel, **how)
    np.testing.assert_allclose(y.reshape(4, -1), np.asarray(x).reshape(4, -1) @ expected.T, **CLOSE)
    np.testing.assert_array_equal(dense_matrix_of(lambda x: locally_connected(x, kernel, **how), (*grid, 2)), expected)


@pytest.mark.parametrize(("grid", "window", "strides", "padding"), CASES)
def test_with_tied_weights_it_is_the_convolution(grid, window, strides, padding):
    kernel, x = normal(*window, 2, 3), normal(4, *grid, 2, seed=1)
    how = {"strides": strides, "padding": padding}
    tied = jnp.broadcast_to(kernel, (*local_grid(grid, window, **how), *kernel.shape))
    if len(grid) == 1:
        pads = padding if isinstance(padding, str) else padding[0]
        y = conv1d(x, kernel, stride=strides[0], padding=pads)
    else:
        y = conv(x, kernel, **how)
    np.testing.assert_allclose(locally_connected(x, tied, **how), y, **CLOSE)


@pytest.mark.parametrize(("grid", "window", "strides", "padding"), [case for case in CASES if len(case[0]) == 2])
def test_the_matrix_of_a_convolution_repeats_its_kernel_in_every_row(grid, window, strides, padding):
    kernel, how = normal(*window, 2, 3), {"strides": strides, "padding": padding}
    tied = np.broadcast_to(kernel, (*local_grid(grid, window, **how), *kernel.shape))
    matrix = dense_matrix_of(lambda x: conv(x, kernel, **how), (*grid, 2))
    np.testing.assert_allclose(matrix, sparse_matrix(tied, grid, strides, padding), rtol=1e-6)


def test_the_slides_local_layer_has_ten_weights_where_the_dense_one_has_thirty():
    layer = LocallyConnected(1, (2,), padding="VALID", use_bias=False)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 6, 1)))
    matrix = dense_matrix_of(lambda x: layer.apply(variables, x), (6, 1))
    assert (matrix.size, np.count_nonzero(matrix)) == (30, 10)
    assert variables["params"]["kernel"].size == 10


@pytest.mark.parametrize("axes", [1, 2])
def test_its_parameters_grow_linearly_with_the_width_and_a_dense_layers_quadratically(axes):
    def parameters(side):
        x = jnp.zeros((1, *(side,) * axes, 2))
        layer = LocallyConnected(3, (3,) * axes)
        params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
        return sum(leaf.size for leaf in jax.tree.leaves(params)), side**axes

    for side in (8, 16, 64):
        count, places = parameters(side)
        assert count == places * (3**axes * 2 * 3 + 3)


def test_its_outputs_begin_with_variance_one_and_its_gradient_is_that_of_the_sum():
    layer = LocallyConnected(16, (3, 3), padding="VALID")
    x = normal(8, 10, 10, 4)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert 0.9 < y.var() < 1.1
    kernel = variables["params"]["kernel"]
    gradient = jax.grad(lambda kernel: locally_connected(x, kernel, padding="VALID")[0, 2, 5, 3])(kernel)
    expected = np.zeros(kernel.shape)
    expected[2, 5, :, :, :, 3] = x[0, 2:5, 5:8]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_every_place_has_a_bias_of_its_own():
    layer = LocallyConnected(2, (3,), strides=(2,))
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 9, 1)))
    bias = normal(5, 2)
    answer = layer.apply({"params": {**variables["params"], "bias": bias}}, jnp.zeros((1, 9, 1)))
    np.testing.assert_array_equal(answer[0], bias)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_multi_channel_convolution_is_the_slides_sum_with_its_kernel_flipped(padding):
    # The slides: y[i, j; d] = Σ_k Σ_l Σ_c w[k, l; c, d] a[i − k, j − l; c] with k, l from −K to K: a true convolution.
    reach, a, w = 1, np.asarray(normal(5, 6, 2)), np.asarray(normal(3, 3, 2, 4, seed=1))
    expected = np.zeros((5, 6, 4))
    for i, j, k, m in itertools.product(range(5), range(6), (-1, 0, 1), (-1, 0, 1)):
        if 0 <= i - k < 5 and 0 <= j - m < 6:
            for c, d in itertools.product(range(2), range(4)):
                expected[i, j, d] += w[k + reach, m + reach, c, d] * a[i - k, j - m, c]
    if padding == "VALID":
        expected = expected[1:-1, 1:-1]
    flipped = conv(jnp.asarray(a)[None], jnp.asarray(w[::-1, ::-1]), padding=padding)[0]
    np.testing.assert_allclose(flipped, expected, **CLOSE)
    assert not np.allclose(conv(jnp.asarray(a)[None], jnp.asarray(w), padding=padding)[0], expected, atol=0.1)


def test_as_printed_the_slides_sum_has_the_kernels_axes_swapped_besides():
    # a[i − l, j − k] pairs k, the first axis of w, with the second axis of a.
    a, w = np.asarray(normal(5, 6)), np.asarray(normal(3, 3, seed=1))
    expected = np.zeros((5, 6))
    for i, j, k, m in itertools.product(range(5), range(6), (-1, 0, 1), (-1, 0, 1)):
        if 0 <= i - m < 5 and 0 <= j - k < 6:
            expected[i, j] += w[k + 1, m + 1] * a[i - m, j - k]
    kernel = jnp.asarray(w[::-1, ::-1].T)[..., None, None]
    np.testing.assert_allclose(conv(jnp.asarray(a)[None, ..., None], kernel)[0, ..., 0], expected, **CLOSE)


@pytest.mark.parametrize(("stride", "padding", "before"), [(1, "SAME", 1), (1, "VALID", 0), (2, "VALID", 0)])
def test_a_1d_convolution_is_the_sum_written_out(stride, padding, before):
    x, kernel = np.asarray(normal(2, 7, 2)), np.asarray(normal(3, 2, 4, seed=1))
    y = conv1d(jnp.asarray(x), jnp.asarray(kernel), stride=stride, padding=padding)
    expected = np.zeros(y.shape)
    for i, k in itertools.product(range(y.shape[1]), range(3)):
        if 0 <= i * stride + k - before < 7:
            expected[:, i] += x[:, i * stride + k - before] @ kernel[k]
    np.testing.assert_allclose(y, expected, **CLOSE)


def test_the_parameters_of_a_convolution_do_not_depend_on_the_size_of_its_input():
    for side in (1, 5, 224):
        x = jnp.zeros((1, side, side, 3))
        y, variables = jax.eval_shape(lambda x: Conv(4, 3, use_bias=True).init_with_output(jax.random.key(0), x), x)
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 3 * 3 * 3 * 4 + 4
        assert y.shape == (1, side, side, 4)


def test_a_1x1_convolution_is_a_dense_layer_at_each_position():
    x, weights = normal(2, 5, 6, 3), normal(3, 4, seed=1)
    y = conv(x, convolutionalize(weights, (1, 1)))
    np.testing.assert_allclose(y, np.einsum("bijc,cd->bijd", x, weights), **CLOSE)


def test_a_convolutionalized_head_gives_its_answer_at_its_own_size_and_a_map_at_a_larger_one():
    head = normal(3 * 4 * 2, 5)
    kernel = convolutionalize(head, (3, 4))
    own, larger = normal(2, 3, 4, 2, seed=1), normal(2, 6, 9, 2, seed=2)
    np.testing.assert_allclose(conv(own, kernel, padding="VALID")[:, 0, 0], own.reshape(2, -1) @ head, **CLOSE)
    answers = conv(larger, kernel, padding="VALID")
    assert answers.shape == (2, 4, 6, 5)
    for i, j in itertools.product(range(4), range(6)):
        window = larger[:, i : i + 3, j : j + 4].reshape(2, -1)
        np.testing.assert_allclose(answers[:, i, j], window @ head, **CLOSE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: locally_connected(normal(1, 5, 2), normal(5, 3, 3, 4)), "needs"),
        (lambda: locally_connected(normal(1, 5, 2), normal(4, 3, 2, 4)), r"needs \(5, 3, 2"),
        (lambda: locally_connected(normal(1, 5, 2), normal(5, 5, 3, 3, 2, 4)), "do not fit"),
        (lambda: local_grid((3, 3), (4, 2), padding="VALID"), r"No window of \(4, 2\) fits"),
        (lambda: local_grid((3, 3), (2,)), "as many positive sizes"),
        (lambda: local_grid((3,), (2,), strides=(0,)), "as many positive sizes"),
        (lambda: LocallyConnected(2, (3,)).init(jax.random.key(0), normal(1, 4, 4, 2)), "needs rank 3"),
        (lambda: conv1d(normal(1, 4, 4, 2), normal(3, 2, 1)), "rank 3"),
        (lambda: dense_matrix_of(lambda x: x + 1, (3,)), "does not map 0 to 0"),
        (lambda: convolutionalize(normal(7, 2), (2, 3)), "7 rows"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
