"""Scores of what detectors and segmenters say of a split, from examples as data sets have them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, lab, tasks
from etude.lab.detector import panoptic_truth
from etude.lab.segmenter import border_weights


@pytest.fixture(scope="module")
def scenes():
    return data.subset(data.load("scenes:32", "test"), 12)


@pytest.fixture(scope="module")
def truth(scenes):
    return scenes.arrays()


def with_crowd(scenes, truth, crowd):
    return dataclasses.replace(scenes, records=data.Arrays({**truth, "crowd": crowd}))


def perfect(truth, **changes):
    classes, ids = panoptic_truth(truth)
    scores = np.where(truth["labels"] >= 0, 0.9, 0).astype(np.float32)
    return {**truth, "scores": scores, "classes": classes, "ids": ids} | changes


def without_the_first(truth):
    """The panoptic maps without the first object of the first image."""
    classes, ids = (each.copy() for each in panoptic_truth(truth))
    gone = ids[0] == 1
    classes[0][gone], ids[0][gone] = -1, 0
    return {"classes": classes, "ids": ids}


@pytest.mark.parametrize("regions", ["boxes", "masks"])
def test_the_truth_itself_is_found_perfectly(scenes, truth, regions):
    missing = np.where(np.arange(5) == 0, -1, truth["labels"])
    found = [lab.pack(perfect(truth)), lab.pack(perfect(truth, labels=missing))]
    whole, part = lab.detection_scores(found, scenes, lab.things_of(scenes), regions=regions)
    assert (whole.numbers["map"], whole.numbers["map50"]) == (1, 1)
    assert part.numbers["map"] < 0.9


def test_the_truth_itself_has_panoptic_quality_1_and_one_lost_object_costs_what_the_definition_says(scenes, truth):
    found = [lab.pack(perfect(truth)), lab.pack(perfect(truth, **without_the_first(truth)))]
    whole, part = lab.panoptic_scores(found, scenes)
    assert whole.numbers["pq"] == 1
    label = truth["labels"][0, 0]
    count = (truth["labels"] == label).sum()
    assert part.class_pq[label] == pytest.approx((count - 1) / (count - 1 + 0.5))


def test_a_crowd_that_is_not_found_is_not_missed(scenes, truth):
    missed = [lab.pack(perfect(truth, **without_the_first(truth)))]
    crowd = np.zeros_like(truth["crowd"])
    assert lab.panoptic_scores(missed, with_crowd(scenes, truth, crowd))[0].numbers["pq"] < 1
    crowd[0, 0] = True
    assert lab.panoptic_scores(missed, with_crowd(scenes, truth, crowd))[0].numbers["pq"] == 1


def test_what_is_packed_comes_back_as_it_was(scenes, truth):
    rows = perfect(truth)
    packed = lab.pack(rows)
    assert packed["masks"].shape == (12, 5)
    for name, array in lab.unpack(packed, 7).items():
        np.testing.assert_array_equal(array, rows[name][:7])
        assert array.dtype == rows[name].dtype
    read = lab.read_packed(scenes, ("labels", "masks", "not there"))
    assert read.keys() == {"labels", "masks"}
    np.testing.assert_array_equal(lab.unpack(read)["masks"], truth["masks"])


def test_the_weight_map_of_a_batch_is_that_of_its_objects_and_1_inside(truth):
    batch = {"masks": jnp.asarray(truth["masks"][:3])}
    weights = np.asarray(border_weights(batch, factor=10.0))
    inside = truth["masks"][:3].any(1)
    assert (weights[inside] == 1).all()
    assert weights[~inside].max() > 1.5


def test_classes_of_a_panoptic_truth_are_those_of_the_semantic_map(truth):
    classes, _ = tasks.panoptic_truth(*(jnp.asarray(truth[name]) for name in ("masks", "labels", "semantic")))
    np.testing.assert_array_equal(classes, truth["semantic"])


def test_the_threshold_of_regions_is_chosen_and_then_used_as_it_is():
    truth = np.ones((1, 8, 9), np.int32)
    truth[0, :, 4] = 0  # a border between two cells
    source = data.Source(
        "cells", "validation", [{"semantic": truth[0]}], {"semantic": of(truth[0])}, ("border", "cell")
    )
    probability = np.where(truth == 1, 0.95, 0.55).astype(np.float32)  # below 0.6 the cells are merged
    assert lab.region_threshold(probability, source, 1) == 0.6
    assert lab.region_scores(probability > 0.6, source, 1)["v_rand"] == 1
    assert lab.region_scores(probability > 0.5, source, 1)["v_rand"] < 0.7


def test_scores_of_classes_leave_out_those_that_do_not_occur():
    truth = np.array([[[0, 0], [1, -1]]], np.int32)
    source = data.Source("maps", "test", [{"semantic": truth[0]}], {"semantic": of(truth[0])}, ("a", "b", "c"))
    boundaries = np.array([[0.5, np.nan, np.nan]])
    numbers, classes = lab.segmentation_scores(np.array([[[0, 1], [1, 2]]], np.uint8), boundaries, source)
    assert classes == {"a": {"iou": 0.5, "boundary_f": 0.5}, "b": {"iou": 0.5}}
    assert (numbers["miou"], numbers["boundary_f"], numbers["pixel_accuracy"]) == (0.5, 0.5, pytest.approx(2 / 3))
    assert (lab.label_of(source, "c"), lab.label_of(source, None)) == (2, None)
    with pytest.raises(ValueError, match="There is no class 'd'"):
        lab.label_of(source, "d")


def of(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


class Counted:
    """Examples that count how often they are read."""

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.reads += 1
        return {"image": np.full((2, 2, 1), index, np.uint8)}


@pytest.mark.parametrize(("feed", "reads"), [("auto", 3), ("resident", 3), ("stream", 6)])
def test_examples_that_stay_on_the_devices_are_read_once_and_streamed_ones_whenever_they_are_needed(feed, reads):
    records = Counted()
    source = data.Source("counted", "train", records, {"image": jax.ShapeDtypeStruct((2, 2, 1), np.uint8)})
    kept = lab.read_once(source, lab.BatchOptions(feed=feed))
    for _ in range(2):
        np.testing.assert_array_equal(kept.arrays()["image"][:, 0, 0, 0], [0, 1, 2])
    assert records.reads == reads
    assert (kept.name, kept.split, kept.element_spec) == (source.name, source.split, source.element_spec)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_change_of_color_leaves_the_annotation_as_it_is(channels):
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(60, 190, (4, 6, 6, channels)), jnp.uint8),
        "semantic": jnp.asarray(rng.integers(0, 3, (4, 6, 6)), jnp.int32),
        "index": jnp.arange(4),
    }
    change = lab.make_annotated_augmentation(lab.AnnotatedOptions(color=0.3))
    assert change is not None
    changed = change(jax.random.key(0), batch, {})
    np.testing.assert_array_equal(changed["semantic"], batch["semantic"])
    ratio = np.asarray(changed["image"], float).mean((1, 2, 3)) / np.asarray(batch["image"], float).mean((1, 2, 3))
    assert (np.abs(ratio - 1) < 0.31).all()
    assert len(set(ratio.round(3))) == 4
