"""Augmentations: what they may do to an image, and what they may not depend on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.data import augment
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

IMAGE = jnp.arange(1, 6 * 5 * 2 + 1, dtype=jnp.uint8).reshape(6, 5, 2)  # no pixel is 0, none twice
BOTH = augment.chain(partial(augment.random_shift, padding=2), augment.random_flip)
KEYS = jax.random.split(jax.random.key(1), 400)
keys = st.integers(0, 2**32 - 1).map(jax.random.key)


def batch_of(n):
    images = jax.random.bits(jax.random.key(3), (n, 6, 5, 2), jnp.uint8)
    return {"image": images, "label": jnp.arange(n) % 3, "index": 7 * jnp.arange(n, dtype=jnp.int32) + 1}


@given(key=keys, padding=st.integers(0, 3))
def test_a_shift_is_one_of_the_crops_of_the_padded_image(key, padding):
    shifted = np.asarray(augment.random_shift(key, IMAGE, padding=padding))
    padded = np.pad(IMAGE, ((padding, padding), (padding, padding), (0, 0)))
    crops = [padded[i : i + 6, j : j + 5] for i in range(2 * padding + 1) for j in range(2 * padding + 1)]
    assert any(np.array_equal(shifted, crop) for crop in crops)


def test_all_shifts_are_equally_likely():
    shifted = np.asarray(jax.vmap(lambda k: augment.random_shift(k, IMAGE, padding=1))(KEYS))
    _, counts = np.unique(shifted.reshape(len(KEYS), -1), axis=0, return_counts=True)
    assert len(counts) == 9
    assert np.abs(counts - len(KEYS) / 9).max() < 5 * np.sqrt(len(KEYS) * 8 / 81)  # 5 standard deviations


def test_a_flip_mirrors_left_to_right_half_of_the_time():
    flipped = np.asarray(jax.vmap(lambda k: augment.random_flip(k, IMAGE))(KEYS))
    mirrored = (flipped == np.asarray(IMAGE)[:, ::-1]).all((1, 2, 3))
    same = (flipped == np.asarray(IMAGE)).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(KEYS))  # 5 standard errors


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


AUGMENT = jax.jit(augment.per_example(BOTH))


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


def test_normalised_pixels_equal_the_formula_in_float64(key):
    images = jax.random.bits(key, (3, 4, 4, 2), jnp.uint8)
    mean, std = np.array([0.3, 0.5]), np.array([0.2, 0.4])
    out = augment.normalise(images, mean, std)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, (np.asarray(images, np.float64) / 255 - mean) / std, atol=1e-6)
    np.testing.assert_array_equal(augment.normalise(images[1], mean, std), out[1])


@pytest.mark.parametrize("shape", [(6, 5), (2, 6, 5, 1)])
def test_an_image_of_the_wrong_rank_is_refused_with_both_ranks(key, shape):
    image = jnp.zeros(shape, jnp.uint8)
    for function in (augment.random_flip, partial(augment.random_shift, padding=1)):
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


def test_normalise_refuses_floats_ranks_and_moments_that_do_not_fit():
    image = jnp.zeros((4, 4, 3), jnp.uint8)
    with pytest.raises(ValueError, match="float32"):
        augment.normalise(image.astype(jnp.float32), np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="wrong rank"):
        augment.normalise(image[0], np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=r"\[channel\] = \[3\]"):
        augment.normalise(image, np.zeros(1), np.ones(1))


def test_a_negative_padding_is_refused(key):
    with pytest.raises(ValueError, match="got -1"):
        augment.random_shift(key, IMAGE, padding=-1)
