"""Panoptic fusion against a transcription of the paper's rule, object by object and pixel by pixel."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.errors import InputError
from etude.models import dense

STUFF = np.array([3, 5])


def scene(seed, objects=6, size=9):
    rng = np.random.default_rng(seed)
    masks = np.zeros((objects, size, size), np.float32)
    for mask in masks:
        y0, x0 = rng.integers(0, size - 2, 2)
        y1, x1 = rng.integers(2, 6, 2)
        mask[y0 : y0 + y1, x0 : x0 + x1] = rng.uniform(0.51, 1)
    masks[-1] = 0  # an object without a pixel
    scores = rng.integers(0, 10, objects) / 10  # with ties
    labels = rng.integers(-1, 3, objects)
    return (
        masks,
        scores.astype(np.float32),
        labels.astype(np.int32),
        rng.normal(size=(size, size, 2)).astype(np.float32),
    )


def reference(masks, scores, labels, stuff, score_threshold, visible_threshold):
    ids = np.zeros(masks.shape[1:], int)
    for n in sorted(range(len(masks)), key=lambda n: -scores[n]):  # stable, as ties are: the first
        inside = masks[n] > 0.5
        if labels[n] < 0 or scores[n] < score_threshold or not inside.any():
            continue
        free = inside & (ids == 0)
        if free.sum() >= visible_threshold * inside.sum():
            ids[free] = n + 1
    classes = STUFF[stuff.argmax(-1)]
    for n, label in enumerate(labels):
        classes = np.where(ids == n + 1, label, classes)
    return classes, ids


@pytest.mark.parametrize("thresholds", [(0.3, 0.5), (0.0, 0.0), (0.9, 1.0)])
def test_fusion_follows_the_rule_on_random_scenes_under_jit_and_vmap(thresholds):
    scenes = [scene(seed) for seed in range(20)]
    batch = [jnp.asarray(np.stack(each)) for each in zip(*scenes, strict=True)]

    def fuse(masks, scores, labels, stuff):
        low, visible = thresholds
        return dense.panoptic_fusion(
            masks, scores, labels, stuff, jnp.asarray(STUFF), score_threshold=low, visible_threshold=visible
        )

    fused = jax.jit(jax.vmap(fuse))(*batch)
    for i, each in enumerate(scenes):
        classes, ids = reference(*each, *thresholds)
        np.testing.assert_array_equal(fused.classes[i], classes)
        np.testing.assert_array_equal(fused.ids[i], ids)


def test_every_pixel_has_one_class_and_padding_changes_none():
    masks, scores, labels, stuff = scene(0)
    fused = dense.panoptic_fusion(masks, scores, labels, stuff, STUFF)
    assert np.isin(fused.classes, [*STUFF, *labels[labels >= 0]]).all()
    padded = [np.concatenate([each, each[:3]]) for each in (masks, scores, labels)]
    padded[2][-3:] = -1
    again = dense.panoptic_fusion(*padded, stuff, STUFF)
    np.testing.assert_array_equal(fused.classes, again.classes)
    np.testing.assert_array_equal(fused.ids, again.ids)


def test_an_image_without_objects_is_stuff():
    _, _, _, stuff = scene(0)
    none = np.zeros((0, 9, 9), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
    fused = dense.panoptic_fusion(*none, stuff, STUFF)
    np.testing.assert_array_equal(fused.classes, STUFF[stuff.argmax(-1)])
    assert not np.asarray(fused.ids).any()


def test_thresholds_may_be_traced():
    masks, scores, labels, stuff = scene(1)
    fuse = jax.jit(lambda low: dense.panoptic_fusion(masks, scores, labels, stuff, STUFF, score_threshold=low).ids)
    for low in (0.0, 0.5):
        wanted = dense.panoptic_fusion(masks, scores, labels, stuff, STUFF, score_threshold=low).ids
        np.testing.assert_array_equal(fuse(low), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros(2, np.float32)}, "scores and labels"),
        ({"stuff_scores": np.zeros((9, 9, 3), np.float32)}, "stuff_classes"),
        ({"stuff_scores": np.zeros((9, 9, 0)), "stuff_classes": np.zeros(0, int)}, "needs a class of stuff"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, message):
    masks, scores, labels, stuff = scene(0)
    given = {"masks": masks, "scores": scores, "labels": labels, "stuff_scores": stuff, "stuff_classes": STUFF}
    with pytest.raises(InputError, match=message):
        partial(dense.panoptic_fusion, **given | change)()
