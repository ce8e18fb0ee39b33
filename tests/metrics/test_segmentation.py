"""Overlap of classes and agreement of boundaries, against loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import metrics
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import jaccard_score

CLASSES = 4
confusion = jax.jit(metrics.confusion_matrix, static_argnums=2)
boundary = jax.jit(metrics.boundary_f, static_argnums=(2, 3))


def blobs(seed, batch=3, size=(20, 25), num_classes=CLASSES, void=True):
    """Maps of coarse patches with ragged edges, int32 [batch, *size]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1 if void else 0, num_classes, (batch, 5, 5))
    maps = coarse.repeat(4, 1).repeat(5, 2)[:, : size[0], : size[1]]
    rows = np.clip(np.arange(size[0])[None, :, None] + rng.integers(-1, 2, maps.shape), 0, size[0] - 1)
    return np.take_along_axis(maps, rows, 1).astype(np.int32)


def test_the_matrix_and_iou_are_those_of_scikit_learn():
    truth, prediction = blobs(0), blobs(1, void=False)
    matrix = np.asarray(confusion(prediction, truth, CLASSES))
    kept = truth >= 0
    expected = sklearn_confusion(truth[kept], prediction[kept], labels=range(CLASSES))
    np.testing.assert_array_equal(matrix, np.pad(expected, ((0, 0), (0, 1))))
    scores = jaccard_score(truth[kept], prediction[kept], labels=range(CLASSES), average=None)
    np.testing.assert_allclose(metrics.class_iou(matrix), scores, rtol=1e-12)
    assert metrics.segmentation_scores(matrix)["miou"] == pytest.approx(scores.mean(), rel=1e-12)


def test_parts_add_up_and_images_of_weight_0_change_nothing():
    truth, prediction = blobs(2), blobs(3)
    whole = confusion(prediction, truth, CLASSES)
    parts = sum(confusion(prediction[i : i + 1], truth[i : i + 1], CLASSES) for i in range(3))
    np.testing.assert_array_equal(whole, parts)
    padded = metrics.confusion_matrix(
        jnp.concatenate([prediction, prediction]),
        jnp.concatenate([truth, truth]),
        CLASSES,
        jnp.repeat(jnp.array([1, 0]), 3),
    )
    np.testing.assert_array_equal(whole, padded)
    np.testing.assert_allclose(confusion(prediction, truth, CLASSES, jnp.full(3, 0.25)), whole / 4, rtol=1e-7)


def test_a_pixel_without_a_predicted_class_is_a_miss():
    matrix = np.asarray(confusion(jnp.array([[[0, -1, 7, 1]]]), jnp.array([[[0, 0, 0, 1]]]), 2))
    np.testing.assert_array_equal(matrix, [[1, 0, 2], [0, 1, 0]])
    np.testing.assert_allclose(metrics.class_iou(matrix), [1 / 3, 1])
    assert metrics.segmentation_scores(matrix) == {"miou": 2 / 3, "mean_accuracy": 2 / 3, "pixel_accuracy": 0.5}


def test_an_absent_class_is_left_out_and_one_that_is_only_predicted_has_iou_0():
    matrix = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(metrics.class_iou(matrix), [0.75, 0, np.nan])
    assert metrics.segmentation_scores(matrix) == {"miou": 0.375, "mean_accuracy": 0.75, "pixel_accuracy": 0.75}
    assert all(np.isnan(list(metrics.segmentation_scores(np.zeros((2, 3))).values())))


def test_renaming_the_classes_permutes_their_scores():
    truth, prediction, names = blobs(4), blobs(5, void=False), np.array([2, 0, 3, 1, -1])
    matrix, renamed = (confusion(p, t, CLASSES) for p, t in ((prediction, truth), (names[prediction], names[truth])))
    np.testing.assert_allclose(metrics.class_iou(renamed)[names[:-1]], metrics.class_iou(matrix), rtol=1e-12)
    np.testing.assert_allclose(
        boundary(names[prediction], names[truth], CLASSES, 1.5)[:, names[:-1]],
        boundary(prediction, truth, CLASSES, 1.5),
    )


def test_more_pixels_than_float32_can_count_are_counted():
    """Adding 1 to a float32 stops at 2^24."""
    image = jnp.zeros((1, 2**12, 2**12 + 1), jnp.int32)
    assert confusion(image, image, 1)[0, 0] == 2**24 + 2**12


def davis_boundary(mask):
    """The boundary of DAVIS's `seg2bmap`, pixel by pixel: a neighbor outside the image is like the pixel itself."""
    height, width = mask.shape
    found = set()
    for y in range(height):
        for x in range(width):
            later = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in later):
                found.add((y, x))
    return found


def davis_f(prediction, truth, tolerance):
    predicted, true = davis_boundary(prediction), davis_boundary(truth)
    if not predicted or not true:
        return 0.0 if predicted or true else np.nan

    def near(point, points):
        return any((point[0] - y) ** 2 + (point[1] - x) ** 2 <= tolerance**2 for y, x in points)

    precision = sum(near(point, true) for point in predicted) / len(predicted)
    recall = sum(near(point, predicted) for point in true) / len(true)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("tolerance", [0, 1.5, 3])
def test_boundary_f_is_the_definition(tolerance):
    truth, prediction = blobs(6, void=False), blobs(7, void=False)
    prediction[0] = truth[0]
    prediction[1, :, :10] = truth[1, :, :10]
    truth[2], prediction[2] = np.clip(truth[2], 0, 1), np.clip(prediction[2], 1, 2)  # only one has a boundary, or none
    expected = [
        [davis_f(p == c, t == c, tolerance) for c in range(CLASSES)] for p, t in zip(prediction, truth, strict=True)
    ]
    scores = np.asarray(boundary(prediction, truth, CLASSES, tolerance))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert np.isnan(scores[2, 3])
    assert scores[2, 0] == scores[2, 2] == 0


def test_the_perfect_boundary_scores_1_and_a_shift_within_the_tolerance_does_too():
    truth = np.zeros((1, 20, 25), np.int32)
    truth[0, 5:12, 6:15] = 1
    scores = boundary(truth, truth, CLASSES, 0)
    np.testing.assert_array_equal(scores[0], [1, 1, np.nan, np.nan])
    shifted = np.roll(truth, 3, 2)
    assert boundary(shifted, truth, CLASSES, 3)[0, 1] == 1
    # An 8 by 10 frame has 32 pixels. Shifted by 3, it shares 7 of its top and 7 of its bottom.
    assert boundary(shifted, truth, CLASSES, 0)[0, 1] == pytest.approx(14 / 32)


def test_padding_and_ignored_pixels_change_no_boundary():
    truth, prediction = blobs(8), blobs(9, void=False)
    scores = boundary(prediction, truth, CLASSES, 1.5)
    wide = [(0, 0), (3, 4), (2, 5)]
    padded = boundary(np.pad(prediction, wide), np.pad(truth, wide, constant_values=-1), CLASSES, 1.5)
    np.testing.assert_allclose(padded, scores)
    elsewhere = np.where(truth < 0, (prediction + 1) % CLASSES, prediction)
    np.testing.assert_array_equal(boundary(elsewhere, truth, CLASSES, 1.5), scores)


def test_wrong_maps_are_refused():
    maps = np.zeros((2, 4, 4), np.int32)
    for function in (lambda *a: metrics.confusion_matrix(*a), lambda *a: metrics.boundary_f(*a, 1)):
        with pytest.raises(ValueError, match="one shape"):
            function(maps, maps[:1], 2)
        with pytest.raises(ValueError, match="integer maps"):
            function(maps.astype(np.float32), maps, 2)
        with pytest.raises(ValueError, match="num_classes is 0"):
            function(maps, maps, 0)
    with pytest.raises(ValueError, match="one weight"):
        metrics.confusion_matrix(maps, maps, 2, np.ones(3))
    with pytest.raises(ValueError, match="tolerance is -1"):
        metrics.boundary_f(maps, maps, 2, -1)
    with pytest.raises(ValueError, match="classes \\+ 1"):
        metrics.class_iou(np.eye(3))
