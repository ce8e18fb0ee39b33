"""The U-Net: the paper's sizes and parameters, what skips are worth in parameters, and what each pixel sees."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models.dense import UNet, center_crop, output_size

KEY = jax.random.key(7, impl="unsafe_rbg")


def shape_of(model, *shape):
    def answer(x):
        return model.apply(model.init(KEY, x), x)

    return jax.eval_shape(answer, jax.ShapeDtypeStruct(shape, jnp.float32))


def written_out(channels, classes, *, width=64, depth=4, skips=True, norm=False):
    """Parameters: 3×3 convolutions in pairs, 2×2 transposed convolutions, 1×1 at the end, each with its bias."""

    def pair(before, after):
        return 9 * before * after + 9 * after * after + 2 * after * (3 if norm else 1)

    widths = [width * 2**level for level in range(depth + 1)]
    down = sum(pair(before, after) for before, after in zip([channels, *widths], widths, strict=False))
    up = sum(
        4 * coarse * fine + fine + pair((2 if skips else 1) * fine, fine) for fine, coarse in itertools.pairwise(widths)
    )
    return down + up + width * classes + classes


def test_the_network_of_the_paper_has_the_published_31_million_parameters():
    # One channel (its images are gray), two classes, a bias in each layer and no normalization: 31,030,658. A third
    # class would add 65; color images 2 · 9 · 64; BatchNorm a scale and a shift for each of its channels.
    assert models.count_parameters(UNet(padding="VALID"), (572, 572, 1)) == written_out(1, 2) == 31_030_658
    assert models.count_parameters(models.create("unet"), (64, 64, 1)) == 31_030_658
    assert models.count_parameters(models.create("unet"), (64, 64, 3)) == 31_030_658 + 2 * 9 * 64
    assert models.count_parameters(UNet(num_classes=3), (64, 64, 1)) == 31_030_658 + 65
    normed = models.count_parameters(UNet(batch_norm=True), (64, 64, 1))
    assert normed == written_out(1, 2, norm=True) == 31_030_658 + 2 * 2 * (2 * 64 * 15 + 1024)


def test_without_skips_a_level_on_the_way_up_reads_half_the_channels():
    fewer = sum(9 * 64 * 2**level * 64 * 2**level for level in range(4))
    plain = models.count_parameters(UNet(skips=False), (64, 64, 1))
    assert plain == written_out(1, 2, skips=False) == 31_030_658 - fewer == 27_897_218


def test_without_padding_the_answer_has_the_papers_size():
    assert output_size(572, padding="VALID") == 388
    answer = shape_of(models.create("unet_valid"), 1, 572, 572, 1)
    assert answer.shape == (1, 388, 388, 2)
    assert shape_of(UNet(width=4, padding="VALID"), 2, 188, 204, 1).shape == (2, 4, 20, 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_with_padding_every_pixel_has_an_answer_of_float32(dtype):
    answer = shape_of(UNet(num_classes=5, width=4, dtype=dtype, batch_norm=True), 2, 32, 48, 3)
    assert (answer.shape, answer.dtype) == ((2, 32, 48, 5), jnp.float32)
    assert shape_of(UNet(width=4, depth=0), 1, 7, 5, 1).shape == (1, 7, 5, 2)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_the_sizes_that_are_named_are_the_nearest_that_the_network_takes(padding):
    taken = [n for n in range(1, 300) if not refused(n, padding)]
    assert taken[:2] == ([16, 32] if padding == "SAME" else [188, 204])
    for size in range(1, 280):
        if size not in taken:
            below = [str(n) for n in taken if n < size][-1:]
            above = [str(n) for n in taken if n > size][:1]
            assert refused(size, padding).endswith(f"The nearest that it takes: {' and '.join(below + above)}.")


def refused(size, padding):
    try:
        output_size(size, 4, padding)
    except ValueError as error:
        return str(error)
    return ""


def test_without_skips_only_the_coarsest_grid_reaches_the_answer():
    # With a coarsest grid that is silenced, only the skips can tell one image from another.
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)), jnp.float32)

    @partial(jax.jit, static_argnums=0)
    def answers(model):
        variables = model.init(KEY, x)
        params = variables["params"] | {
            "bottom_conv2": jax.tree.map(jnp.zeros_like, variables["params"]["bottom_conv2"])
        }
        return model.apply(variables | {"params": params}, x)

    with_skips, without = (answers(UNet(width=4, depth=2, skips=skips)) for skips in (True, False))
    assert np.abs(with_skips[0] - with_skips[1]).max() > 1e-3
    np.testing.assert_array_equal(without[0], without[1])


def test_the_network_without_padding_answers_like_its_twin_far_from_the_border():
    # With a second pooling its windows would lie between those of the twin: three pixels are lost above the first one.
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 20, 20, 1)), jnp.float32)
    model = UNet(width=2, depth=1)
    variables = jax.jit(model.init)(KEY, x)
    valid = jax.jit(model.clone(padding="VALID").apply)(variables, x)
    assert valid.shape[1] == output_size(20, 1, "VALID") == 4
    same = center_crop(jax.jit(model.apply)(variables, x), valid.shape[1:3])
    np.testing.assert_allclose(valid, same, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shape_of(UNet(), 1, 70, 64, 3), "height of the images is 70.*nearest that it takes: 64 and 80"),
        (lambda: shape_of(UNet(), 1, 64, 9, 3), "width of the images is 9.*nearest that it takes: 16"),
        (lambda: shape_of(UNet(padding="VALID"), 1, 572, 512, 3), "is 512.*nearest that it takes: 508 and 524"),
        (lambda: shape_of(UNet(), 64, 64, 3), "height, width, channel"),
        (lambda: shape_of(UNet(padding="same"), 1, 64, 64, 3), "padding is 'same'; valid are SAME, VALID"),
        (lambda: shape_of(UNet(depth=-1), 1, 64, 64, 3), "depth is -1"),
        (lambda: shape_of(UNet(num_classes=0), 1, 64, 64, 3), "num_classes of at least 1"),
        (lambda: center_crop(jnp.zeros((1, 4, 4, 1)), (6, 4)), "Nothing of"),
    ],
)
def test_sizes_and_fields_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
