"""Images with their annotation: one map moves all, objects that leave are dropped, and the rest stays right."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.data import augment
from etude.data.augment import annotated, geometry

SIDE = 24


def example(seed=0, objects=3):
    """Bright rectangles on black, one per object (they may overlap), and a place without an object."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((objects + 1, SIDE, SIDE), np.uint8)
    for mask in masks[:-1]:
        top, left = rng.integers(0, SIDE - 8, 2)
        mask[top : top + rng.integers(4, 8), left : left + rng.integers(4, 8)] = 1
    visible = masks.copy()
    for i in range(objects):
        visible[i] &= ~masks[i + 1 :].any(0)
    semantic = (visible * np.arange(1, objects + 2)[:, None, None]).sum(0)
    return {
        "image": jnp.asarray(np.repeat(semantic[..., None] * 50, 3, -1), jnp.uint8),
        "semantic": jnp.asarray(semantic, jnp.int32),
        "regions": jnp.asarray(semantic, jnp.int32),
        "masks": jnp.asarray(visible),
        "boxes": annotated.mask_boxes(jnp.asarray(visible)),
        "labels": jnp.asarray([*range(objects), -1], jnp.int32),
    }


CHANGES = {
    "flip": partial(annotated.random_flip, probability=0.5),
    "turn": annotated.random_turn,
    "affine": partial(annotated.random_affine, degrees=30.0, scale=0.3, translate=0.2, shear=10.0),
    "jitter": partial(annotated.large_scale_jitter, lowest=0.5, highest=2.0),
    "elastic": partial(annotated.random_elastic, std=2.0),
}


@pytest.fixture(scope="module", params=CHANGES)
def change(request):
    return jax.jit(CHANGES[request.param])


@pytest.mark.parametrize("seed", range(5))
def test_image_masks_and_boxes_move_together(change, seed):
    before = example(seed)
    after = change(jax.random.key(seed), before)
    semantic, masks, labels = (np.asarray(after[name]) for name in ("semantic", "masks", "labels"))
    np.testing.assert_array_equal(after["regions"], np.maximum(semantic, 0))  # what comes into view is in no region
    # Where nothing else is near, no pixels were mixed: the gray is 50 times the class.
    near = np.stack([np.roll(semantic, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)])
    alone = (near == semantic).all(0)
    assert alone.mean() > 0.2
    np.testing.assert_array_equal(after["image"][alone][:, 0], 50 * np.maximum(semantic[alone], 0))
    for i, label in enumerate(labels):
        if label < 0:
            assert not masks[i].any()
            assert not np.asarray(after["boxes"][i]).any()
        else:
            assert label == i
            assert (semantic[masks[i] > 0] == i + 1).all()
            rows, columns = np.nonzero(masks[i])
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            np.testing.assert_array_equal(after["boxes"][i], box)


def test_a_flip_is_exact_and_its_own_inverse():
    before = example()
    flip = jax.jit(partial(annotated.random_flip, probability=1.0))
    once = flip(jax.random.key(0), before)
    np.testing.assert_array_equal(once["image"], before["image"][:, ::-1])
    np.testing.assert_array_equal(once["boxes"][:-1, 0], SIDE - before["boxes"][:-1, 2])
    jax.tree.map(np.testing.assert_array_equal, flip(jax.random.key(1), once), before)


@pytest.mark.parametrize("shape", [(8, 8), (6, 8)])
def test_turns_are_exact_and_all_that_fit_occur(shape):
    rng = np.random.default_rng(0)
    before = {
        "image": jnp.asarray(rng.integers(0, 256, (*shape, 1)), jnp.uint8),
        "boxes": jnp.array([[1.0, 2.0, 5.0, 4.0]]),
        "labels": jnp.array([3]),
    }
    turns = [jax.jit(annotated.random_turn)(jax.random.key(seed), before) for seed in range(20)]
    seen = set()
    for after in turns:
        quarters = [k for k in range(4) if np.array_equal(np.rot90(before["image"], k), after["image"])]
        assert len(quarters) == 1
        seen.update(quarters)
        mask = np.zeros(shape, bool)
        mask[2:4, 1:5] = True
        rows, columns = np.nonzero(np.rot90(mask, quarters[0]))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(after["boxes"][0], box, atol=1e-5)
    assert seen == ({0, 1, 2, 3} if shape[0] == shape[1] else {0, 2})


@pytest.mark.parametrize("parts", [("boxes", "labels"), ("boxes", "labels", "masks")])
def test_an_object_of_which_less_than_a_tenth_remains_is_dropped(parts):
    box = jnp.array([[0.0, 0.0, 20.0, 20.0]])
    masks = jnp.zeros((1, SIDE, SIDE), jnp.uint8).at[0, :20, :20].set(1)
    whole = {"boxes": box, "masks": masks, "labels": jnp.array([7])}
    given = {"image": jnp.zeros((SIDE, SIDE, 1), jnp.uint8)} | {name: whole[name] for name in parts}
    for left, kept in ((18, True), (19, False)):  # 2 and 1 of 20 columns remain
        after = annotated.affine(given, geometry.translation(-left, 0))
        assert after.keys() == given.keys()
        assert after["labels"].tolist() == [7 if kept else -1]
        assert after["boxes"].tolist() == [[0, 0, 20 - left, 20] if kept else [0, 0, 0, 0]]


def test_a_moved_box_without_a_mask_is_cut_at_the_borders():
    given = {"image": jnp.zeros((10, 20, 1), jnp.uint8), "boxes": jnp.array([[2.0, 3, 8, 9]])}
    after = annotated.affine(given, geometry.translation(-5, 4))
    assert after["boxes"].tolist() == [[0.0, 7.0, 3.0, 10.0]]


@pytest.mark.parametrize("seed", range(8))
def test_a_crop_is_a_part_of_image_and_annotation(seed):
    before = example(seed)
    after = jax.jit(partial(annotated.random_crop, size=SIDE // 2))(jax.random.key(seed), before)
    places = [
        (top, left)
        for top in range(SIDE // 2 + 1)
        for left in range(SIDE // 2 + 1)
        if np.array_equal(before["semantic"][top:, left:][: SIDE // 2, : SIDE // 2], after["semantic"])
    ]
    parts = [
        {name: before[name][top:, left:][: SIDE // 2, : SIDE // 2] for name in ("image", "regions")}
        for top, left in places
    ]
    assert any(all(np.array_equal(part[name], after[name]) for name in part) for part in parts)
    np.testing.assert_array_equal(after["boxes"], annotated.mask_boxes(after["masks"]))
    assert after["masks"].shape[1:] == (SIDE // 2, SIDE // 2)


def test_boxes_without_masks_are_cut_with_a_crop():
    given = {"image": jnp.zeros((10, 10, 1)), "boxes": jnp.array([[0.0, 0, 10, 10]]), "labels": jnp.array([4])}
    after = annotated.random_crop(jax.random.key(0), given, size=6)
    assert after["boxes"].tolist() == [[0, 0, 6, 6]]
    assert after["labels"].tolist() == [4]


@pytest.mark.parametrize(("factor", "seed"), [(0.5, 1), (0.5, 2), (2.0, 3), (2.0, 4)])
def test_large_scale_jitter_keeps_a_smaller_image_whole_and_fills_the_frame_with_a_larger(factor, seed):
    white = {"image": jnp.full((SIDE, SIDE, 1), 255, jnp.uint8), "semantic": jnp.zeros((SIDE, SIDE), jnp.int32)}
    after = annotated.large_scale_jitter(jax.random.key(seed), white, lowest=factor, highest=factor)
    shown = (after["semantic"] == 0).sum()
    np.testing.assert_allclose(shown, SIDE**2 * min(1, factor**2), atol=2 * SIDE * min(1, factor))


def test_an_elastic_field_has_the_stated_spread_at_its_points():
    ramp = jnp.broadcast_to(jnp.arange(99.0)[:, None, None], (99, 99, 1))

    def bent(key):
        return annotated.random_elastic(key, {"image": ramp}, std=3.0)["image"][49, 49, 0] - 49

    moved = jax.vmap(bent)(jax.random.split(jax.random.key(0), 500))
    np.testing.assert_allclose(moved.std(), 3.0, rtol=0.1)  # the middle of the image is a point of the grid


def test_a_mosaic_shows_each_of_four_in_its_quarter():
    examples = [example(seed) for seed in range(4)]
    shades = jnp.asarray([40, 80, 120, 160], jnp.uint8)
    batch = jax.tree.map(lambda *arrays: jnp.stack(arrays), *examples)
    batch |= {"image": jnp.broadcast_to(shades[:, None, None, None], (4, SIDE, SIDE, 3)), "index": jnp.arange(4)}
    made = jax.jit(annotated.mosaic)(jax.random.key(0), batch)
    for i in range(4):
        image, labels = np.asarray(made["image"][i, ..., 0]), np.asarray(made["labels"][i])
        corners = [image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]]
        assert corners == [shades[(i + number) % 4] for number in range(4)]
        assert labels.shape == (16,)
        for j in np.flatnonzero(labels >= 0):
            inside = np.asarray(made["masks"][i, j]) > 0
            assert set(image[inside]) == {int(shades[(i + j // 4) % 4])}  # a mask lies in its own quarter
            assert (np.asarray(made["semantic"][i])[inside] == labels[j] + 1).all()


def test_batches_have_a_key_for_each_index_and_keep_other_arrays():
    one = example(3)
    batch = jax.tree.map(lambda array: jnp.stack([array, array]), one) | {"name": jnp.array([5, 6])}
    change = annotated.per_example(CHANGES["affine"])
    both = change(jax.random.key(0), {**batch, "index": jnp.array([4, 9])})
    alone = change(jax.random.key(0), {**jax.tree.map(lambda x: x[1:], batch), "index": jnp.array([9])})
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[1], y[0]), both, alone)
    assert both["name"].tolist() == [5, 6]
    assert not np.array_equal(both["image"][0], both["image"][1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: annotated.random_elastic(jax.random.key(0), example(), std=-1.0), "std between 0"),
        (lambda: annotated.random_elastic(jax.random.key(0), example(), std=1.0, points=1), "at least 2 points"),
        (
            lambda: annotated.random_elastic(
                jax.random.key(0), {"image": jnp.zeros((4, 4, 1)), "boxes": jnp.zeros((1, 4))}, std=1.0
            ),
            "give masks",
        ),
        (lambda: annotated.random_crop(jax.random.key(0), example(), size=SIDE + 1), f"1 to {SIDE} pixels"),
        (lambda: annotated.large_scale_jitter(jax.random.key(0), example(), lowest=2.0, highest=1.0), "0 < lowest"),
        (lambda: augment.annotated.per_example(CHANGES["flip"])(jax.random.key(0), example() | {"index": 0}), "rank"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
