"""Panoptic quality against a transcription of its definition in sets of pixels, and against panopticapi's answers."""

from pathlib import Path

import numpy as np
import pytest
from etude import metrics

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "panopticapi_example.npz")
CLASSES = 5  # the last never occurs
THINGS = np.array([True, True, False, False, True])


def scene(seed, size=(24, 30)):
    """Truth and prediction of one image, as in `panoptic_counts`, with void, crowds, lost and merged segments."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 12, (6, 6)).repeat(size[0] // 6, 0).repeat(size[1] // 6, 1)
    true_classes, true_ids = rng.integers(-1, CLASSES - 1, 12)[patches], rng.integers(0, 3, 12)[patches]
    crowds = {(0, 0), (1, 2)}
    crowd = np.array([(c, i) in crowds for c, i in zip(true_classes.ravel(), true_ids.ravel(), strict=True)])
    moved = np.roll(patches, rng.integers(-1, 2, 2), (0, 1))
    guesses = np.where(rng.uniform(size=12) < 0.7, np.arange(12), rng.integers(0, 12, 12))
    classes = np.array([true_classes[patches == p][0] if (patches == p).any() else 0 for p in range(12)])
    classes[rng.integers(0, 12)] = rng.integers(-1, CLASSES - 1)
    classes = np.where(classes < 0, rng.integers(-1, CLASSES - 1, 12), classes)  # guesses on void
    predicted_ids = 100 - guesses[moved] * 7
    return classes[guesses[moved]], predicted_ids, true_classes, true_ids, crowd.reshape(size)


def batch(seeds, make=scene):
    return [np.stack(column) for column in zip(*map(make, seeds), strict=True)]


def counts_of(predicted_classes, predicted_ids, true_classes, true_ids, crowd, num_classes=CLASSES):
    return metrics.panoptic_counts(predicted_classes, predicted_ids, true_classes, true_ids, num_classes, crowd)


def transcription(predicted_classes, predicted_ids, true_classes, true_ids, crowd):
    """Counts of one image by the definition: segments are sets of pixels."""

    def segments(classes, ids):
        found = {}
        for pixel in np.ndindex(classes.shape):
            found.setdefault((classes[pixel], ids[pixel]), set()).add(pixel)
        return [(label, pixels) for (label, _), pixels in found.items() if label >= 0]

    void = {pixel for pixel in np.ndindex(true_classes.shape) if true_classes[pixel] < 0}
    in_crowd = {pixel for pixel in np.ndindex(true_classes.shape) if crowd[pixel]}
    counts = np.zeros((CLASSES, 4))
    true, predicted = segments(true_classes, true_ids), segments(predicted_classes, predicted_ids)
    matched = set()
    for label, pixels in true:
        if pixels <= in_crowd:
            continue
        for index, (guess, guessed) in enumerate(predicted):
            iou = len(pixels & guessed) / len((pixels | guessed) - void)
            if guess == label and iou > 0.5:
                matched.add(index)
                counts[label] += [iou, 1, 0, 0]
                break
        else:
            counts[label] += [0, 0, 0, 1]
    for index, (guess, guessed) in enumerate(predicted):
        ignored = void | {pixel for pixel in in_crowd if true_classes[pixel] == guess}
        if index not in matched and len(guessed & ignored) <= len(guessed) / 2:
            counts[guess] += [0, 0, 1, 0]
    return counts


def test_counts_are_those_of_the_definition():
    images = batch(range(25))
    expected = [transcription(*image) for image in zip(*images, strict=True)]
    counts = counts_of(*images)
    np.testing.assert_allclose(counts, expected, rtol=1e-12)
    assert (counts.sum(0)[:-1, 1:] >= 5).all()  # matches, false positives and false negatives of each class occur


def test_panopticapis_example_gets_panopticapis_answers():
    # Category ids become classes 0, 1, …; the segment 0 is void.
    numbers = {int(category): index for index, category in enumerate(GOLDEN["category_ids"])}

    def classes(name, index):
        of_segment = [-1, *(numbers[int(each)] for each in GOLDEN[f"{name}_classes_{index}"][1:])]
        return np.array(of_segment)[GOLDEN[f"{name}_{index}"]][None]

    counts = np.zeros((len(numbers), 4))
    for index in (0, 1):
        true, predicted = GOLDEN[f"true_{index}"], GOLDEN[f"predicted_{index}"]
        maps = classes("predicted", index), predicted[None], classes("true", index), true[None]
        counts += counts_of(*maps, GOLDEN[f"crowd_{index}"][true][None], len(numbers))[0]
    scores = metrics.panoptic_quality(counts, GOLDEN["is_thing"])
    for name, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        ours = [scores.numbers[key + suffix] for key in ("pq", "sq", "rq")]
        np.testing.assert_allclose(ours, GOLDEN[name][:3], rtol=1e-12)
    ours = np.stack([scores.class_pq, scores.class_sq, scores.class_rq], 1)
    np.testing.assert_allclose(np.nan_to_num(ours), GOLDEN["per_class"], rtol=1e-12)  # theirs are 0 for absent classes
    assert np.isfinite(ours[:, 0]).sum() == GOLDEN["All"][3]


def test_the_perfect_map_scores_1():
    _, _, true_classes, true_ids, crowd = batch(range(6))
    counts = counts_of(true_classes, true_ids, true_classes, true_ids, crowd).sum(0)
    scores = metrics.panoptic_quality(counts, THINGS)
    assert scores.numbers == pytest.approx(dict.fromkeys(scores.numbers, 1.0))
    np.testing.assert_array_equal(scores.class_pq, [1, 1, 1, 1, np.nan])


def test_neither_names_of_ids_nor_order_of_images_nor_padding_changes_the_counts():
    images = batch(range(5))
    counts = counts_of(*images)
    renamed = [images[0], 2**62 - images[1], images[2], -5 - images[3], images[4]]
    np.testing.assert_array_equal(counts_of(*renamed), counts)
    order = [3, 0, 4, 1, 2]
    np.testing.assert_array_equal(counts_of(*(maps[order] for maps in images)), counts[order])
    wide = [(0, 0), (2, 3), (1, 0)]
    padded = [
        np.pad(maps, wide, constant_values=fill) for maps, fill in zip(images, (-1, 0, -1, 0, False), strict=True)
    ]
    np.testing.assert_array_equal(counts_of(*padded), counts)


def test_a_match_needs_more_than_half_and_void_is_no_part_of_the_union():
    true = np.array([[[0, 0, 0, 0, -1, -1]]])
    zeros = np.zeros_like(true)

    def counts(predicted):
        return metrics.panoptic_counts(np.array([[predicted]]), zeros, true, zeros, 2)[0].tolist()

    assert counts([0, 0, 0, -1, 0, 0])[0] == [0.75, 1, 0, 0]  # the two pixels on void do not count
    assert counts([0, 0, -1, -1, -1, -1])[0] == [0, 0, 1, 1]  # IoU ½ is not enough
    assert counts([1, -1, -1, -1, 1, 1])[1] == [0, 0, 0, 0]  # more than half on void
    assert counts([1, 1, -1, -1, 1, 1])[1] == [0, 0, 1, 0]  # half on void
    crowd = np.array([[[True, True, True, True, False, False]]])
    inside = metrics.panoptic_counts(np.array([[[0, 0, 1, 1, -1, -1]]]), zeros, true, zeros, 2, crowd)[0]
    np.testing.assert_array_equal(inside, [[0, 0, 0, 0], [0, 0, 1, 0]])  # a crowd excuses its own class only


def test_a_class_with_segments_and_no_match_has_quality_0_and_an_absent_class_none():
    scores = metrics.panoptic_quality(np.array([[1.8, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]), np.array([1, 0, 0]) > 0)
    np.testing.assert_allclose(scores.class_pq, [0.9, 0, np.nan])
    np.testing.assert_allclose(scores.class_sq, [0.9, 0, np.nan])
    np.testing.assert_allclose(scores.class_rq, [1, 0, np.nan])
    assert scores.numbers["pq"] == pytest.approx(0.45)
    assert (scores.numbers["pq_things"], scores.numbers["pq_stuff"]) == (pytest.approx(0.9), 0)


def test_images_that_are_void_or_empty_count_for_nothing():
    void, zeros = np.full((2, 3, 4), -1), np.zeros((2, 3, 4), int)
    for predicted in (void, zeros):  # all is allowed on void
        counts = metrics.panoptic_counts(predicted, zeros, void, zeros, 2)
        np.testing.assert_array_equal(counts, np.zeros((2, 2, 4)))
    assert np.isnan(list(metrics.panoptic_quality(counts.sum(0), np.array([True, False])).numbers.values())).all()
    np.testing.assert_array_equal(metrics.panoptic_counts(void, zeros, zeros, zeros, 2)[0], [[0, 0, 0, 1], [0] * 4])
    none = np.zeros((0, 3, 4), int)
    assert metrics.panoptic_counts(none, none, none, none, 2).shape == (0, 2, 4)
    flat = np.zeros((1, 0, 4), int)
    assert not metrics.panoptic_counts(flat, flat, flat, flat, 2).any()


def test_wrong_maps_are_refused():
    maps = np.zeros((1, 2, 2), int)
    with pytest.raises(ValueError, match="predicted_ids float64"):
        metrics.panoptic_counts(maps, maps * 1.0, maps, maps, 2)
    with pytest.raises(ValueError, match="of one shape"):
        metrics.panoptic_counts(maps[:, :1], maps, maps, maps, 2)
    with pytest.raises(ValueError, match="true_classes holds 2; a class is below 2"):
        metrics.panoptic_counts(maps, maps, maps + 2, maps, 2)
    with pytest.raises(ValueError, match="predicted_classes holds -2"):
        metrics.panoptic_counts(maps - 2, maps, maps, maps, 2)
    with pytest.raises(ValueError, match="crowd must be a bool map"):
        metrics.panoptic_counts(maps, maps, maps, maps, 2, maps)
    with pytest.raises(ValueError, match="crowd in part"):
        metrics.panoptic_counts(maps, maps, maps, maps, 2, np.array([[[True, True], [True, False]]]))
    with pytest.raises(ValueError, match=r"counts \[classes, 4\]"):
        metrics.panoptic_quality(np.zeros((2, 4)), np.array([True]))
