"""Augmentations: what they may do to an image, and what they may not depend on."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.data import augment, geometry
from etude.data.augment import color
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

IMAGE = jnp.arange(1, 6 * 5 * 2 + 1, dtype=jnp.uint8).reshape(6, 5, 2)  # no pixel is 0, none twice
# Compiling is what takes time here: the optimizer of machine code is off; the program that it gets is the same.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
BOTH = augment.chain(partial(augment.random_shift, padding=2), augment.random_flip)
KEYS = jax.random.split(jax.random.key(1), 400)
keys = st.integers(0, 2**32 - 1).map(jax.random.key)


# Every augmentation with a strength: strength -> augmentation, a great strength, channels of an image for it.
STRENGTHS = {
    "flip": (lambda s: partial(augment.random_flip, probability=s), 1, 2),
    "rotation": (lambda s: partial(augment.random_affine, degrees=s), 30, 2),
    "scale": (lambda s: partial(augment.random_affine, scale=s), 0.5, 1),
    "translate": (lambda s: partial(augment.random_affine, translate=s), 0.5, 3),
    "shear": (lambda s: partial(augment.random_affine, shear=s), 20, 1),
    "brightness": (lambda s: partial(augment.color_jitter, brightness=s), 1, 1),
    "contrast": (lambda s: partial(augment.color_jitter, contrast=s), 1, 3),
    "saturation": (lambda s: partial(augment.color_jitter, saturation=s), 1, 3),
    "hue": (lambda s: partial(augment.color_jitter, hue=s), 0.5, 3),
    "noise": (lambda s: partial(augment.random_noise, std=s), 0.3, 2),
    "cutout": (lambda s: partial(augment.random_cutout, size=s), 4, 2),
    "erase": (lambda s: partial(augment.random_erase, probability=s), 1, 2),
    "augment_gray": (lambda s: partial(augment.rand_augment, num_operations=2, magnitude=s), 1, 1),
    "augment_color": (lambda s: partial(augment.rand_augment, num_operations=3, magnitude=s), 1, 3),
}


def at(name, part):
    """An augmentation at a part of the strength that the table has for it."""
    make, most, _ = STRENGTHS[name]
    return make(part * most)


def image_of(channels, dtype=jnp.uint8, shape=(7, 6)):
    return jax.random.bits(jax.random.key(4), (*shape, channels), jnp.uint8).astype(dtype)


def batch_of(n, channels=2):
    images = jax.random.bits(jax.random.key(3), (n, 6, 5, channels), jnp.uint8)
    return {"image": images, "label": jnp.arange(n) % 3, "index": 7 * jnp.arange(n, dtype=jnp.int32) + 1}


@given(key=keys, padding=st.integers(0, 3))
def test_a_shift_is_one_of_the_crops_of_the_padded_image(key, padding):
    shifted = np.asarray(augment.random_shift(key, IMAGE, padding=padding))
    padded = np.pad(IMAGE, ((padding, padding), (padding, padding), (0, 0)))
    crops = [padded[i : i + 6, j : j + 5] for i in range(2 * padding + 1) for j in range(2 * padding + 1)]
    assert any(np.array_equal(shifted, crop) for crop in crops)


def test_all_shifts_are_equally_likely():
    shifted = np.asarray(quick_jit(jax.vmap(lambda k: augment.random_shift(k, IMAGE, padding=1)))(KEYS))
    _, counts = np.unique(shifted.reshape(len(KEYS), -1), axis=0, return_counts=True)
    assert len(counts) == 9
    assert np.abs(counts - len(KEYS) / 9).max() < 5 * np.sqrt(len(KEYS) * 8 / 81)  # 5 standard deviations


def test_a_flip_mirrors_left_to_right_half_of_the_time():
    flipped = np.asarray(quick_jit(jax.vmap(lambda k: augment.random_flip(k, IMAGE)))(KEYS))
    mirrored = (flipped == np.asarray(IMAGE)[:, ::-1]).all((1, 2, 3))
    same = (flipped == np.asarray(IMAGE)).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(KEYS))  # 5 standard errors


@cache
def outputs(name, dtype):
    """(image, the image at traced strengths, at strength 0, at 1) of one program: compiling is what costs time here.

    The traced strengths are 0 and 1 with the key of seed 0, then 0.6 with 50 keys.
    """
    image = image_of(STRENGTHS[name][2], dtype)

    @quick_jit
    def run(key, keys, parts):
        varied = jax.vmap(lambda key, part: at(name, part)(key, image))(keys, parts)
        return varied, at(name, 0.0)(key, image), at(name, 1.0)(key, image)

    key = jax.random.key(0)
    parts = np.array([0.0, 1.0, *[0.6] * 50], np.float32)
    return jax.device_get((image, *run(key, jnp.concatenate([jnp.stack([key, key]), KEYS[:50]]), parts)))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
@pytest.mark.parametrize("name", STRENGTHS)
def test_a_strength_may_be_traced_and_nothing_changes_at_zero(name, dtype):
    image, varied, unchanged, most = outputs(name, dtype)
    assert (varied.dtype, varied.shape) == (dtype, (52, *image.shape))
    np.testing.assert_array_equal(varied[0], image)
    np.testing.assert_array_equal(unchanged, image)
    # Compiled with the strength known, values may be rounded the other way.
    np.testing.assert_allclose(varied[1].astype(float), most.astype(float), atol=1)


@pytest.mark.parametrize("name", STRENGTHS)
def test_an_augmentation_differs_between_keys_and_stays_within_the_range_of_pixels(name):
    images = outputs(name, jnp.float32)[1][2:]
    assert (images != images[0]).any()
    assert 0 <= images.min() <= images.max() <= 255.01  # the four weights of a pixel may add up to a little over 1


@pytest.mark.parametrize("strength", [-0.5, float("nan"), 1e9])
@pytest.mark.parametrize("name", [name for name in STRENGTHS if name not in ("scale", "cutout")])
def test_a_strength_out_of_range_is_refused(name, strength, key):
    with pytest.raises(ValueError, match=r"between 0 and .*, got"):
        at(name, strength)(key, image_of(STRENGTHS[name][2]))


@pytest.mark.parametrize("name", ["scale", "cutout"])
def test_a_negative_size_is_refused(name, key):
    with pytest.raises(ValueError, match=r"between 0 and .*, got -2"):
        STRENGTHS[name][0](-2)(key, image_of(2))


def test_a_flip_is_as_frequent_as_its_probability():
    flipped = np.asarray(quick_jit(jax.vmap(lambda k: augment.random_flip(k, IMAGE, probability=0.1)))(KEYS))
    often = (flipped[:, 0, 0] != np.asarray(IMAGE)[0, 0]).any(-1).mean()
    assert abs(often - 0.1) < 5 * np.sqrt(0.09 / len(KEYS))  # 5 standard errors


def test_a_random_affine_map_applies_what_draw_affine_draws(key):
    strengths = {"degrees": 20, "scale": 0.2, "translate": 0.1, "shear": 10}
    matrix = geometry.draw_affine(key, IMAGE.shape, **strengths)
    np.testing.assert_array_equal(augment.random_affine(key, IMAGE, **strengths), geometry.affine_image(IMAGE, matrix))


def test_brightness_and_contrast_are_drawn_uniformly_around_one():
    image = jnp.array([50.0, 100.0]).reshape(1, 2, 1)
    light = np.asarray(quick_jit(jax.vmap(lambda k: augment.color_jitter(k, image, brightness=0.4)))(KEYS))[:, 0, :, 0]
    spread = np.asarray(quick_jit(jax.vmap(lambda k: augment.color_jitter(k, image, contrast=0.4)))(KEYS))[:, 0, :, 0]
    np.testing.assert_allclose(light[:, 1], 2 * light[:, 0], rtol=1e-6)
    np.testing.assert_allclose(spread.mean(1), 75, rtol=1e-6)
    for factors in (light[:, 0] / 50, (spread[:, 1] - spread[:, 0]) / 50):
        assert stats.kstest(factors, "uniform", (0.6, 0.8)).pvalue > 1e-4


def test_saturation_and_hue_need_three_channels_even_if_traced(key):
    for change in ("saturation", "hue"):
        with pytest.raises(ValueError, match="3 channels"):
            augment.color_jitter(key, image_of(1), **{change: 0.1})
        with pytest.raises(ValueError, match="3 channels"):
            jax.jit(lambda s, change=change: augment.color_jitter(key, image_of(1), **{change: s}))(0.0)
    for function in (augment.color_jitter, partial(augment.rand_augment, num_operations=1, magnitude=1)):
        with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
            function(key, image_of(2))


def test_noise_has_mean_zero_and_the_deviation_asked_for(key):
    gray = jnp.full((80, 80, 2), 128, jnp.uint8)
    noise = np.asarray(augment.random_noise(key, gray, std=0.1)).astype(float) - 128
    assert abs(noise.mean()) < 5 * 25.5 / np.sqrt(noise.size)  # 5 standard errors
    assert abs(noise.std() - 25.5) < 5 * 25.5 / np.sqrt(2 * noise.size)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 5 / 80


@pytest.mark.parametrize(("size", "side"), [(1, 1), (2, 2), (3, 3), (3.4, 3)])
def test_a_cutout_is_a_square_around_any_pixel_cut_at_the_borders(size, side):
    white = jnp.full((8, 6, 2), 255, jnp.uint8)
    out = np.asarray(quick_jit(jax.vmap(lambda k: augment.random_cutout(k, white, size=size)))(KEYS))
    covered = (out == 0).all(-1)
    assert (covered == (out == 0).any(-1)).all()
    tops = [np.flatnonzero(mask.any(1)) for mask in covered]
    assert max(len(rows) for rows in tops) == side
    assert (covered.sum((1, 2)) == [m.any(1).sum() * m.any(0).sum() for m in covered]).all()  # rectangles
    inside = (covered.sum((1, 2)) == side**2).mean()
    expected = (8 - side + 1) * (6 - side + 1) / 48
    assert abs(inside - expected) < 5 * np.sqrt(0.25 / len(KEYS))


def test_a_cutout_as_large_as_the_image_need_not_cover_it_and_takes_the_color_given(key):
    fill = jnp.array([1, 2], jnp.uint8)
    out = augment.random_cutout(key, IMAGE, size=100, fill=fill)
    np.testing.assert_array_equal(out, jnp.broadcast_to(fill, IMAGE.shape))
    assert (augment.random_cutout(KEYS[0], IMAGE, size=5, fill=fill) == IMAGE).all(-1).any()


def test_an_erased_rectangle_is_inside_and_of_uniform_area():
    image = jnp.full((40, 40, 1), 256.0)  # no noise is as bright
    out = np.asarray(quick_jit(jax.vmap(lambda k: augment.random_erase(k, image, probability=1)))(KEYS))[..., 0]
    covered = out < 256
    rows, columns = covered.any(2).sum(1), covered.any(1).sum(1)
    assert (covered.sum((1, 2)) == rows * columns).all()
    # Sides are whole and at most 40, which bends the distribution by less than a part in 20.
    assert stats.kstest(rows * columns / 1600, "uniform", (0.02, 0.38)).statistic < 0.05 + 2 / np.sqrt(len(KEYS))
    assert (rows / columns).max() > 2.5
    assert (columns / rows).max() > 2.5
    noise = out[covered]
    assert stats.kstest(noise[::100], "uniform", (0, 255)).pvalue > 1e-4


def test_erasing_is_as_frequent_as_its_probability():
    out = quick_jit(jax.vmap(lambda k: augment.random_erase(k, IMAGE, probability=0.2)))(KEYS)
    assert abs(np.asarray((out != IMAGE).any((1, 2, 3))).mean() - 0.2) < 5 * np.sqrt(0.16 / len(KEYS))


@pytest.mark.parametrize(("channels", "operations"), [(1, 9), (3, 11)])
def test_all_operations_and_directions_are_equally_likely(channels, operations):
    draw = partial(augment.draw_operations, num_operations=3, channels=channels)
    chosen, sign = (np.asarray(x).ravel() for x in quick_jit(jax.vmap(draw))(KEYS))
    counts = np.bincount(chosen)
    assert len(counts) == operations
    assert stats.chisquare(counts).pvalue > 1e-4
    assert set(np.unique(sign)) == {-1, 1}
    assert abs(sign.mean()) < 5 / np.sqrt(sign.size)


RAND_AUGMENT = quick_jit(partial(augment.rand_augment, num_operations=1))
AFFINE = quick_jit(geometry.affine_image)


@cache
def drawn_operations():
    """The operation and the direction that `rand_augment` draws for each of KEYS."""
    draw = partial(augment.draw_operations, num_operations=1, channels=3)
    chosen, sign = quick_jit(jax.vmap(lambda key: draw(jax.random.split(key)[0])))(KEYS)
    return np.asarray(chosen)[:, 0], np.asarray(sign)[:, 0]


@pytest.mark.parametrize("operation", augment.OPERATIONS)
def test_one_drawn_operation_does_what_its_name_says(operation):
    image = image_of(3, jnp.float32, (12, 12))
    chosen, sign = drawn_operations()
    place = np.flatnonzero(chosen == augment.OPERATIONS.index(operation))[0]
    amount = 0.5 * float(sign[place])
    out = RAND_AUGMENT(KEYS[place], image, magnitude=0.5)
    if operation == "noise":
        residual = np.asarray(out - image)[(np.asarray(image) > 50) & (np.asarray(image) < 205)]
        assert abs(residual.std() / 12.75 - 1) < 0.3
        return
    moved = {
        "rotate": lambda: geometry.rotation(30 * amount),
        "zoom": lambda: geometry.zoom(1.5**amount),
        "translate_x": lambda: geometry.translation(3.6 * amount, 0),
        "translate_y": lambda: geometry.translation(0, 3.6 * amount),
        "shear_x": lambda: geometry.shearing(16.7 * amount),
        "shear_y": lambda: geometry.shearing(0, 16.7 * amount),
    }
    colored = {
        "brightness": lambda: color.brightness(image, 1 + 0.9 * amount),
        "contrast": lambda: color.contrast(image, 1 + 0.9 * amount),
        "saturation": lambda: color.saturation(image, 1 + 0.9 * amount),
        "hue": lambda: color.hue(image, 0.1 * amount),
    }
    expected = AFFINE(image, moved[operation]()) if operation in moved else colored[operation]()
    np.testing.assert_allclose(out, jnp.clip(expected, 0, 255), atol=0.01)
    assert (jnp.abs(out - image) > 1).any()


def test_random_augment_of_no_operations_is_the_identity_and_of_fewer_is_refused(key):
    np.testing.assert_array_equal(augment.rand_augment(key, image_of(3), num_operations=0, magnitude=1), image_of(3))
    with pytest.raises(ValueError, match="at least 0, got -1"):
        augment.rand_augment(key, image_of(3), num_operations=-1, magnitude=1)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_augmentations_keep_shape_and_dtype_under_jit(key, dtype):
    out = jax.jit(BOTH)(key, IMAGE.astype(dtype))
    assert (out.shape, out.dtype) == (IMAGE.shape, dtype)


def test_the_parts_of_a_chain_run_in_order_each_with_its_own_key(key):
    def add(key, image):
        return image + jax.random.bits(key, (), jnp.uint32)

    def double(key, image):
        return 2 * image

    zero = jnp.zeros((1, 1, 1), jnp.uint32)
    words = [jax.random.bits(jax.random.fold_in(key, i), (), jnp.uint32) for i in range(3)]
    assert augment.chain(add, add, double)(key, zero)[0, 0, 0] == 2 * (words[0] + words[1])
    assert augment.chain(double, double, add)(key, zero)[0, 0, 0] == words[2]
    assert len({word.item() for word in words}) == 3


def test_a_chain_of_nothing_changes_nothing(key):
    np.testing.assert_array_equal(augment.chain()(key, IMAGE), IMAGE)


@given(key=keys, order=st.permutations(range(8)), size=st.sampled_from([1, 3]))  # each compiles
def test_what_happens_to_an_example_depends_on_no_other_and_not_on_its_place(key, order, size):
    batch, chosen = batch_of(8), np.array(order[:size])
    whole = AUGMENT(key, batch)["image"]
    part = AUGMENT(key, jax.tree.map(lambda x: x[chosen], batch))["image"]
    np.testing.assert_array_equal(part, whole[chosen])


@pytest.mark.parametrize("name", STRENGTHS)
def test_an_augmented_example_is_the_same_in_a_batch_and_alone(name, key):
    augmented = quick_jit(augment.per_example(at(name, 0.8)))
    batch = batch_of(8, STRENGTHS[name][2])
    whole = np.asarray(augmented(key, batch)["image"])
    alone = np.asarray(augmented(key, jax.tree.map(lambda x: x[5:6], batch))["image"])
    # Another batch size is another program: what is rounded to integers may fall to the other side, rarely.
    difference = np.abs(alone[0].astype(int) - whole[5])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.05
    assert (whole != np.asarray(batch["image"])).any()


AUGMENT = quick_jit(augment.per_example(BOTH))


def test_what_happens_to_an_example_does_not_depend_on_its_device(key):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    batch = batch_of(16)
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_array_equal(AUGMENT(key, sharded)["image"], AUGMENT(key, batch)["image"])


def test_examples_of_a_batch_are_augmented_differently_and_the_rest_is_left_alone(key):
    batch = batch_of(64) | {"image": jnp.tile(IMAGE, (64, 1, 1, 1))}
    out = AUGMENT(key, batch)
    assert len(np.unique(np.asarray(out["image"]).reshape(64, -1), axis=0)) > 20  # of 50 possible ones
    np.testing.assert_array_equal(out["label"], batch["label"])
    np.testing.assert_array_equal(out["index"], batch["index"])


def test_normalized_pixels_equal_the_formula_in_float64(key):
    images = jax.random.bits(key, (3, 4, 4, 2), jnp.uint8)
    mean, std = np.array([0.3, 0.5]), np.array([0.2, 0.4])
    out = augment.normalize(images, mean, std)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, (np.asarray(images, np.float64) / 255 - mean) / std, atol=1e-6)
    np.testing.assert_array_equal(augment.normalize(images[1], mean, std), out[1])


@pytest.mark.parametrize("shape", [(6, 5), (2, 6, 5, 1)])
def test_an_image_of_the_wrong_rank_is_refused_with_both_ranks(key, shape):
    image = jnp.zeros(shape, jnp.uint8)
    for function in (partial(augment.random_shift, padding=1), *(at(name, 0.5) for name in STRENGTHS)):
        with pytest.raises(ValueError, match=rf"rank 3.*wrong rank: {len(shape)}"):
            function(key, image)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": jnp.zeros((4, 6, 5)), "index": jnp.arange(4)}, "wrong rank: 3"),
        ({"image": jnp.zeros((4, 6, 5, 1)), "index": jnp.arange(3)}, "one index per image"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(key, batch, message):
    with pytest.raises(ValueError, match=message):
        augment.per_example(augment.random_flip)(key, batch)


def test_floats_are_normalized_in_the_units_of_pixels(key):
    images = jax.random.bits(key, (3, 4, 4, 2), jnp.uint8)
    moments = np.array([0.3, 0.5]), np.array([0.2, 0.4])
    same = augment.normalize(images.astype(jnp.float32), *moments)
    np.testing.assert_array_equal(same, augment.normalize(images, *moments))


def test_normalize_refuses_other_dtypes_ranks_and_moments_that_do_not_fit():
    image = jnp.zeros((4, 4, 3), jnp.uint8)
    with pytest.raises(ValueError, match="int32"):
        augment.normalize(image.astype(jnp.int32), np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="wrong rank"):
        augment.normalize(image[0], np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=r"\[channel\] = \[3\]"):
        augment.normalize(image, np.zeros(1), np.ones(1))


def test_a_negative_padding_is_refused(key):
    with pytest.raises(ValueError, match="got -1"):
        augment.random_shift(key, IMAGE, padding=-1)
