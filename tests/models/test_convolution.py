"""The one convolution, against sums written out and against XLA's own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.convolution import conv

SHAPES = [  # height, width, kernel, stride, padding
    (8, 8, 3, 1, ((1, 1), (1, 1))),
    (7, 9, 3, 2, ((1, 1), (1, 1))),
    (8, 8, 1, 2, ((0, 0), (0, 0))),
    (11, 10, 7, 2, ((3, 3), (3, 3))),
    (9, 9, 3, 2, "VALID"),
    (10, 7, 3, 3, "SAME"),
    (6, 6, 3, 1, ((0, 2), (2, 0))),
    (9, 7, 1, 2, ((1, 1), (0, 1))),
    (12, 11, 5, 4, ((2, 2), (2, 2))),
    (9, 8, 3, 2, ((-1, 2), (1, -2))),
    (2, 6, 3, 2, "VALID"),
]


def arrays(height, width, size):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, height, width, 3)), jnp.float32), jnp.asarray(
        rng.normal(size=(size, size, 3, 4)), jnp.float32
    )


def reference(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_conv_is_the_sum_of_products_over_the_kernels_window():
    x, kernel = arrays(5, 5, 3)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 3, 3, 4))
    for i in range(3):
        for j in range(3):
            window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            expected[:, i, j] = np.einsum("bklc,klcd->bd", window, np.asarray(kernel))
    measured = conv(x, kernel, strides=(2, 2), padding=((1, 1), (1, 1)))
    np.testing.assert_allclose(measured, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "size", "stride", "padding"), SHAPES)
def test_its_derivatives_are_those_of_lax_in_and_out_of_loops(height, width, size, stride, padding):
    x, kernel = arrays(height, width, size)
    g = jnp.cos(jnp.arange(reference(x, kernel, stride, padding).size)).reshape(
        reference(x, kernel, stride, padding).shape
    )
    loss = lambda x, k: (conv(x, k, strides=(stride, stride), padding=padding) * g).sum()  # noqa: E731
    expected = jax.grad(lambda x, k: (reference(x, k, stride, padding) * g).sum(), (0, 1))(x, kernel)
    looped = lambda x, k: jax.lax.map(lambda _: jax.grad(loss, (0, 1))(x, k), jnp.arange(2))  # noqa: E731
    for measured in (
        jax.grad(loss, (0, 1))(x, kernel),
        jax.tree.map(lambda y: y[1], jax.jit(looped)(x, kernel)),
    ):
        for one, other in zip(measured, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


def curved(convolve, stride):
    """A loss whose second derivatives meet a convolution everywhere."""
    padding = ((1, 1), (1, 1))
    if convolve is reference:
        return lambda x, k: jnp.sum(jnp.tanh(reference(x, k, stride, padding)) ** 2)
    return lambda x, k: jnp.sum(jnp.tanh(conv(x, k, strides=(stride, stride), padding=padding)) ** 2)


def directional(f, way):
    """x, k -> the derivatives of f along (cos x, sin k)."""
    if way == "forward":
        return lambda x, k: jax.jvp(f, (x, k), (jnp.cos(x), jnp.sin(k)))[1]
    return lambda x, k: sum(map(jnp.vdot, jax.grad(f, (0, 1))(x, k), (jnp.cos(x), jnp.sin(k))))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inner", ["forward", "reverse"])
@pytest.mark.parametrize("outer", ["forward", "reverse"])
def test_derivatives_of_derivatives_are_those_of_lax_in_every_mode(stride, inner, outer):
    x, kernel = arrays(6, 6, 3)
    ours, theirs = (directional(directional(curved(f, stride), inner), outer) for f in (conv, reference))
    np.testing.assert_allclose(jax.jit(ours)(x, kernel), theirs(x, kernel), rtol=1e-4)


@pytest.mark.parametrize(
    ("batch", "height", "width", "channels", "features", "size", "stride", "padding"),
    [
        (2, 8, 7, 2, 64, 2, 1, ((1, 1), (1, 1))),  # few taps
        (2, 7, 8, 66, 3, 2, 2, ((0, 1), (-1, 2))),
        (64, 32, 32, 2, 32, 3, 1, ((1, 1), (1, 1))),  # a large result
    ],
)
def test_kernel_gradients_by_products_are_those_of_lax(batch, height, width, channels, features, size, stride, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, channels, features)), jnp.float32)
    ours = lambda k: jnp.sin(conv(x, k, strides=(stride, stride), padding=padding)).sum()  # noqa: E731
    theirs = lambda k: jnp.sin(reference(x, k, stride, padding)).sum()  # noqa: E731
    expected = jax.grad(theirs)(kernel)
    assert "dot_general" in str(jax.make_jaxpr(jax.grad(ours))(kernel))
    np.testing.assert_allclose(jax.grad(ours)(kernel), expected, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 3)])
def test_many_images_or_kernels_at_once_have_the_derivatives_of_lax(axes):
    x, kernel = arrays(6, 6, 3)
    many = [v if axis is None else jnp.stack([v, 2 * v], axis) for v, axis in zip((x, kernel), axes, strict=True)]
    alone = lambda f: jax.vmap(jax.grad(curved(f, 2), (0, 1)), axes)(*many)  # noqa: E731
    together = lambda f: jax.grad(lambda x, k: jax.vmap(curved(f, 2), axes)(x, k).sum(), (0, 1))(*many)  # noqa: E731
    for how in (alone, together):
        for one, other in zip(how(conv), how(reference), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [2, 8])
def test_groups_have_the_derivatives_of_lax(groups):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 7, 7, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 8 // groups, 16)), jnp.float32)
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
    theirs = lambda x, k: jnp.sin(jax.lax.conv_general_dilated(x, k, (2, 2), "SAME", **options)).sum()  # noqa: E731
    ours = lambda x, k: jnp.sin(conv(x, k, strides=(2, 2), groups=groups)).sum()  # noqa: E731
    for one, other in zip(jax.grad(ours, (0, 1))(x, kernel), jax.grad(theirs, (0, 1))(x, kernel), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_groups_and_wrong_shapes():
    x, kernel = arrays(6, 6, 3)
    depthwise = conv(x, kernel[:, :, :1, :3], groups=3)
    alone = conv(x[..., 1:2], kernel[:, :, :1, 1:2])
    np.testing.assert_allclose(depthwise[..., 1:2], alone, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="3 channels"):
        conv(x, kernel[:, :, :2])
    with pytest.raises(ValueError, match="rank 4"):
        conv(x[0], kernel)
    with pytest.raises(ValueError, match="must divide the 4 features"):
        conv(x, kernel[:, :, :1], groups=3)
