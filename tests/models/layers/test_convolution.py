"""The one convolution, against sums written out and against XLA's own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import conv
from jax.sharding import AxisType, NamedSharding, PartitionSpec

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
    (2, 6, 5, 1, ((2, 2), (2, 2))),  # kernels larger than their images
    (1, 1, 3, 1, "SAME"),
    (3, 4, 5, 2, ((3, -1), (2, 2))),
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
    shape = jax.eval_shape(lambda x, k: reference(x, k, stride, padding), x, kernel).shape
    g = jnp.cos(jnp.arange(np.prod(shape, dtype=int))).reshape(shape)

    @jax.jit
    def gradients(x, k):
        """By lax, by ours, and by ours in a loop, as one program."""
        ours = jax.grad(lambda x, k: (conv(x, k, strides=(stride, stride), padding=padding) * g).sum(), (0, 1))
        theirs = jax.grad(lambda x, k: (reference(x, k, stride, padding) * g).sum(), (0, 1))
        return theirs(x, k), ours(x, k), jax.lax.map(lambda _: ours(x, k), jnp.arange(2))

    expected, direct, looped = gradients(x, kernel)
    for measured in (direct, jax.tree.map(lambda y: y[1], looped)):
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
    np.testing.assert_allclose(*jax.jit(lambda x, k: (ours(x, k), theirs(x, k)))(x, kernel), rtol=1e-4)


PARTS = [  # batch, height, width, channels, features, kernel, stride, padding
    (32, 8, 7, 2, 12, 2, 1, ((1, 1), (1, 1))),
    (21, 7, 8, 66, 3, 2, 2, ((0, 1), (-1, 2))),  # parts and a rest
    (21, 7, 9, 12, 5, 3, 1, ((2, 0), (-1, 2))),  # fewer features than channels
    (16, 64, 32, 70, 2, 3, 1, ((1, 1), (1, 1))),  # images that fill a part
    (16, 4, 4, 16, 40, 3, 1, ((1, 1), (1, 1))),  # a kernel larger than the images
]


def kernel_gradients(batch, height, width, channels, features, size, stride, padding):
    """(ours, by lax), of a function that is not linear, and the images and kernel to take them at."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, channels, features)), jnp.float32)
    ours = lambda x, k: jnp.sin(conv(x, k, strides=(stride, stride), padding=padding)).sum()
    theirs = lambda x, k: jnp.sin(reference(x, k, stride, padding)).sum()
    return jax.jit(jax.grad(ours, 1)), jax.jit(jax.grad(theirs, 1)), x, kernel


@pytest.mark.parametrize("shape", PARTS)
def test_kernel_gradients_of_large_batches_are_those_of_lax(shape):
    ours, theirs, x, kernel = kernel_gradients(*shape)
    expected = theirs(x, kernel)
    np.testing.assert_allclose(ours(x, kernel), expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_they_are_added_up_in_single_precision_at_least():
    x = jnp.ones((4096, 4, 4, 2), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 2, 4), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda k: conv(x, k, padding="VALID").astype(jnp.float32).sum()))(kernel)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, np.full(kernel.shape, 4 * 4096, np.float32))


def mesh_of(*names, kind=AxisType.Auto):
    devices = len(jax.devices())
    shape = (devices,) if len(names) == 1 else (2, devices // 2)
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names))


def assert_close(measured, expected):
    np.testing.assert_allclose(measured, expected, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(
    ("mesh", "spread", "batch"),
    [
        (mesh_of("batch"), "batch", 64),
        (mesh_of("batch"), None, 60),
        (mesh_of("a", "batch"), "batch", 64),
        (mesh_of("devices", kind=AxisType.Explicit), "devices", 64),
    ],
)
def test_kernel_gradients_of_a_batch_spread_over_a_mesh_are_those_of_lax(mesh, spread, batch):
    ours, theirs, x, kernel = kernel_gradients(batch, 8, 8, 4, 6, 3, 1, ((1, 1), (1, 1)))
    expected = theirs(x, kernel)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec(spread)))
        kernel = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
        assert_close(jax.jit(ours)(sharded, kernel), expected)
        if spread != "devices":  # where jnp.sum(ours ** 2) would have to be told its sharding too
            twice = jax.jit(jax.grad(lambda k: jnp.sum(ours(sharded, k) ** 2)))(kernel)
            assert_close(twice, jax.jit(jax.grad(lambda k: jnp.sum(theirs(x, k) ** 2)))(kernel))


def test_members_spread_over_a_mesh_have_the_gradients_of_lax():
    ours, theirs, x, kernel = kernel_gradients(16, 8, 8, 4, 6, 3, 1, ((1, 1), (1, 1)))
    images, kernels = jnp.stack([x, 2 * x]), jnp.stack([kernel, kernel])
    with jax.set_mesh(mesh_of("members", "b")):
        measured = jax.jit(jax.vmap(ours, spmd_axis_name="members"))(images, kernels)
    assert_close(measured[1], theirs(2 * x, kernel))


@pytest.mark.parametrize("names", [("devices",), ("devices", "rest")])
def test_within_shard_map_it_has_the_derivatives_of_lax(names):
    _, theirs, x, kernel = kernel_gradients(64, 8, 8, 4, 6, 3, 1, ((1, 1), (1, 1)))
    mesh = mesh_of(*names)

    def loss(x, kernel):
        return jax.lax.psum(jnp.sin(conv(x, kernel)).sum(), "devices")

    specs = PartitionSpec("devices"), PartitionSpec()
    sharded = jax.shard_map(loss, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), axis_names={"devices"})
    with jax.set_mesh(mesh):
        of_x, of_kernel = jax.jit(jax.grad(sharded, (0, 1)))(x, kernel)
    assert_close(of_kernel, theirs(x, kernel))
    assert_close(of_x, jax.grad(lambda x: jnp.sin(reference(x, kernel, 1, "SAME")).sum())(x))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 3)])
def test_many_images_or_kernels_at_once_have_the_derivatives_of_lax(axes):
    x, kernel = arrays(6, 6, 3)
    many = [v if axis is None else jnp.stack([v, 2 * v], axis) for v, axis in zip((x, kernel), axes, strict=True)]
    alone = lambda f: jax.vmap(jax.grad(curved(f, 2), (0, 1)), axes)(*many)
    together = lambda f: jax.grad(lambda x, k: jax.vmap(curved(f, 2), axes)(x, k).sum(), (0, 1))(*many)
    for how in (alone, together):
        for one, other in zip(*jax.jit(lambda how=how: (how(conv), how(reference)))(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [2, 8])
def test_groups_have_the_derivatives_of_lax(groups):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 7, 7, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 8 // groups, 16)), jnp.float32)
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
    theirs = lambda x, k: jnp.sin(jax.lax.conv_general_dilated(x, k, (2, 2), "SAME", **options)).sum()
    ours = lambda x, k: jnp.sin(conv(x, k, strides=(2, 2), groups=groups)).sum()
    both = jax.jit(lambda x, k: (jax.grad(ours, (0, 1))(x, k), jax.grad(theirs, (0, 1))(x, k)))
    for one, other in zip(*both(x, kernel), strict=True):
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
