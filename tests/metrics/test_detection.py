"""Average precision and recall, against a transcription of COCO's rules and pycocotools as it is commonly used."""

import contextlib
import io

import numpy as np
import pytest
from etude import metrics
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CLASSES, SIZE = 4, 140  # the last class never occurs
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RANGES = {"": (0, 1e10), "_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, 1e10)}


def scene(seed, num_objects=6, extra=6, padding=3):
    """An image with objects of all sizes, crowds among them, and detections: some near, some doubled, some anywhere."""
    rng = np.random.default_rng(seed)

    def boxes(count):
        start = rng.uniform(0, SIZE * 0.6, (count, 2))
        return np.concatenate([start, np.minimum(start + rng.uniform(4, SIZE * 0.9, (count, 2)), SIZE)], 1)

    true = boxes(num_objects)
    labels = rng.integers(0, CLASSES - 1, num_objects)
    near = np.repeat(np.arange(num_objects), rng.integers(0, 4, num_objects))
    guesses = true[near] + rng.normal(0, rng.choice([0.5, 2, 8], (len(near), 1)), (len(near), 4))
    guesses = np.concatenate([guesses, boxes(extra)])
    guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2])  # some have no area
    guessed = np.concatenate([labels[near], rng.integers(0, CLASSES - 1, extra)])
    scores = rng.uniform(size=len(guesses)).round(1)  # many ties
    lost = np.full(padding, -1)
    junk = rng.uniform(size=(padding, 4)) * 50
    detections = metrics.Detections(
        np.concatenate([guesses, junk]), np.concatenate([scores, lost]), np.concatenate([guessed, lost])
    )
    crowd = np.concatenate([rng.uniform(size=num_objects) < 0.25, lost > 0])
    areas = np.concatenate([(true[:, 2] - true[:, 0]) * (true[:, 3] - true[:, 1]) * rng.uniform(0.5, 1), lost])
    return detections, metrics.Objects(np.concatenate([true, junk]), np.concatenate([labels, lost]), crowd, areas)


def dataset(seed):
    """Images with objects and detections, one without objects, one without detections, one with neither."""
    images = [scene(seed * 10 + i) for i in range(4)]
    images += [scene(seed * 10 + 4, num_objects=0), scene(seed * 10 + 5, num_objects=0, extra=0)]
    empty, objects = scene(seed * 10 + 6)
    images.append((metrics.Detections(empty.regions[:0], empty.scores[:0], empty.labels[:0]), objects))
    return [list(column) for column in zip(*images, strict=True)]


def as_masks(entries):
    """Ellipses in the boxes."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    masks = []
    for x0, y0, x1, y1 in entries.regions:
        with np.errstate(divide="ignore", invalid="ignore"):
            masks.append(((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 <= 1)
    return entries._replace(regions=np.array(masks, np.uint8).reshape(-1, SIZE, SIZE))


def overlap(detected, true, crowd):
    """IoU, or for a crowd the share of the detection that lies within it."""
    if detected.ndim == 1:
        sides = np.minimum(detected[2:], true[2:]) - np.maximum(detected[:2], true[:2])
        both, (mine, theirs) = np.prod(np.maximum(sides, 0)), (np.prod(box[2:] - box[:2]) for box in (detected, true))
    else:
        both, mine, theirs = (detected & true).sum(), detected.sum(), true.sum()
    return both / (mine if crowd else mine + theirs - both) if both else 0.0


def area_of(region):
    return np.prod(region[2:] - region[:2]) if region.ndim == 1 else region.sum()


def table_of(detections, objects, label, area_range, most):
    """For one class: at each threshold the outcomes of all detections by falling score, and the number of objects."""
    low, high = area_range
    images, total = [], 0
    for found, truth in zip(detections, objects, strict=True):
        guesses = [i for i in range(len(found.labels)) if found.labels[i] == label]
        guesses = sorted(guesses, key=lambda i: -found.scores[i])[:most]
        targets = [i for i in range(len(truth.labels)) if truth.labels[i] == label]
        areas = [area_of(region) for region in truth.regions] if truth.areas is None else truth.areas
        crowd = np.zeros(len(truth.labels), bool) if truth.crowd is None else truth.crowd
        ignored = {i for i in targets if crowd[i] or not low <= areas[i] <= high}
        total += len(targets) - len(ignored)
        overlaps = {(g, t): overlap(found.regions[g], truth.regions[t], crowd[t]) for g in guesses for t in targets}
        images.append((found, guesses, targets, ignored, crowd, overlaps))
    outcomes = []
    for threshold in THRESHOLDS:
        rows = []
        for found, guesses, targets, ignored, crowd, overlaps in images:
            taken = set()
            for g in guesses:
                best = None
                for kind in ([t for t in targets if t not in ignored], [t for t in targets if t in ignored]):
                    able = [t for t in kind if overlaps[g, t] >= threshold and (t not in taken or crowd[t])]
                    if able:
                        best = max(able, key=lambda t: (overlaps[g, t], t))
                        break
                taken.add(best)
                outside = not low <= area_of(found.regions[g]) <= high
                if not (best in ignored or (best is None and outside)):
                    rows.append((-found.scores[g], best is not None))
        outcomes.append([hit for _, hit in sorted(rows, key=lambda row: row[0])])
    return outcomes, total


def transcription(detections, objects):
    """The numbers by COCO's rules, in loops."""
    precision, recall = {}, {}
    for name, area_range in RANGES.items():
        for most in (1, 10, 100) if not name else (100,):
            for label in range(CLASSES):
                outcomes, total = table_of(detections, objects, label, area_range, most)
                for index, hits in enumerate(outcomes):
                    if not total:
                        continue
                    hits = np.cumsum(hits)
                    recall[name, most, label, index] = hits[-1] / total if len(hits) else 0.0
                    if most == 100:
                        precise = hits / np.arange(1, len(hits) + 1)
                        precision[name, label, index] = np.mean([
                            max(precise[hits / total >= level], default=0.0) for level in np.linspace(0, 1, 101)
                        ])  # fmt: skip

    def mean(table, *wanted):
        values = [
            value
            for key, value in table.items()
            if all(want is None or part == want for part, want in zip(key, wanted, strict=True))
        ]
        return np.mean(values) if values else np.nan

    numbers = {"map": mean(precision, "", None, None)}
    numbers |= {f"map{t}": mean(precision, "", None, i) for t, i in ((50, 0), (75, 5))}
    numbers |= {f"map{size}": mean(precision, size, None, None) for size in list(RANGES)[1:]}
    numbers |= {f"ar_{most}": mean(recall, "", most, None, None) for most in (1, 10, 100)}
    numbers |= {f"ar{size}": mean(recall, size, 100, None, None) for size in list(RANGES)[1:]}
    per_class = [mean(precision, "", label, None) for label in range(CLASSES)]
    per_class50 = [mean(precision, "", label, 0) for label in range(CLASSES)]
    return numbers, per_class, per_class50, [mean(recall, "", 100, label, None) for label in range(CLASSES)]


def pycocotools_stats(kind, detections, objects):
    """The 12 numbers by files in COCO's format, the way its own demo makes them."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1, "height": SIZE, "width": SIZE} for i in range(len(objects))],
        "categories": [{"id": label + 1} for label in range(CLASSES)],
        "annotations": [],
    }
    results = []

    def region(value):
        if kind == "segm":
            return {"segmentation": coco_masks.encode(np.asfortranarray(value))}
        return {"bbox": [value[0], value[1], value[2] - value[0], value[3] - value[1]]}

    for image, (found, true) in enumerate(zip(detections, objects, strict=True), 1):
        for i in np.flatnonzero(true.labels >= 0):
            truth.dataset["annotations"].append({
                **region(true.regions[i]), "id": len(truth.dataset["annotations"]) + 1, "image_id": image,
                "category_id": true.labels[i] + 1, "iscrowd": int(true.crowd[i]), "area": true.areas[i],
            })  # fmt: skip
        for i in np.flatnonzero(found.labels >= 0):
            results.append({
                **region(found.regions[i]), "image_id": image, "category_id": found.labels[i] + 1,
                "score": found.scores[i],
            })  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


ORDER = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
ORDER += ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")


def check(scores, detections, objects, kind):
    numbers, *per_class = transcription(detections, objects)
    assert scores.numbers == pytest.approx(numbers, abs=1e-6, nan_ok=True)
    for ours, expected in zip((scores.class_ap, scores.class_ap50, scores.class_ar), per_class, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    theirs = pycocotools_stats(kind, detections, objects)
    expected = dict(zip(ORDER, np.where(theirs < 0, np.nan, theirs), strict=True))
    assert scores.numbers == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(6))
def test_boxes_score_as_the_rules_say(seed, capsys):
    detections, objects = dataset(seed)
    scores = metrics.box_detection_scores(detections, objects, CLASSES)
    assert capsys.readouterr() == ("", "")
    assert 0.05 < scores.numbers["map"] < 0.9
    assert np.isnan(scores.class_ap[-1])
    check(scores, detections, objects, "bbox")


@pytest.mark.parametrize("seed", range(2))
def test_masks_score_as_the_rules_say_as_arrays_and_as_codes(seed):
    detections, objects = ([as_masks(each) for each in column] for column in dataset(seed))
    scores = metrics.mask_detection_scores(detections, objects, CLASSES)
    check(scores, detections, objects, "segm")

    def code(entries, listed):
        codes = [coco_masks.encode(np.asfortranarray(mask)) for mask in entries.regions]
        return entries._replace(regions=[runs(mask) for mask in entries.regions] if listed else codes)

    coded = metrics.mask_detection_scores(
        [code(each, False) for each in detections], [code(each, True) for each in objects], CLASSES
    )
    assert coded.numbers == pytest.approx(scores.numbers, nan_ok=True)


def runs(mask):
    """A run-length code as it stands in files: a list of numbers, of zeros first, down the columns."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}


def test_areas_are_those_of_the_regions_unless_given():
    detections, objects = dataset(7)
    objects = [each._replace(areas=None, crowd=None) for each in objects]
    numbers = metrics.box_detection_scores(detections, objects, CLASSES).numbers
    assert numbers == pytest.approx(transcription(detections, objects)[0], abs=1e-6, nan_ok=True)


def test_perfect_detections_score_1():
    _, objects = dataset(8)
    perfect = [metrics.Detections(each.regions, np.ones(len(each.labels)), each.labels) for each in objects]
    numbers = metrics.box_detection_scores(perfect, objects, CLASSES).numbers
    assert numbers == pytest.approx(dict.fromkeys(ORDER, 1.0) | {"ar_1": numbers["ar_1"]})
    assert numbers["ar_1"] < 1  # one detection does not find two objects


def test_neither_the_order_of_images_nor_of_entries_nor_padding_changes_the_scores():
    detections, objects = dataset(9)
    rng = np.random.default_rng(0)
    distinct = iter(rng.permutation(1000) / 1000)  # equal scores keep their order, so they may not be shuffled
    detections = [each._replace(scores=np.array([next(distinct) for _ in each.scores])) for each in detections]
    before = metrics.box_detection_scores(detections, objects, CLASSES)

    def shuffled(entries):
        order = rng.permutation(len(entries.labels))
        return type(entries)(*(field[order] for field in entries))

    def unpadded(entries):
        return type(entries)(*(field[entries.labels >= 0] for field in entries))

    images = rng.permutation(len(objects))
    after = metrics.box_detection_scores(
        [shuffled(detections[i]) for i in images], [shuffled(objects[i]) for i in images], CLASSES
    )
    assert after.numbers == pytest.approx(before.numbers, abs=1e-12, nan_ok=True)
    bare = metrics.box_detection_scores(list(map(unpadded, detections)), list(map(unpadded, objects)), CLASSES)
    assert bare.numbers == pytest.approx(before.numbers, abs=1e-12, nan_ok=True)


def test_only_the_hundred_best_of_an_image_and_class_count():
    truth = metrics.Objects(np.array([[0.0, 0, 10, 10]]), np.array([0]))
    boxes = np.concatenate([np.tile([[50.0, 50, 60, 60]], (100, 1)), truth.regions])
    found = metrics.Detections(boxes, np.linspace(1, 0.5, 101), np.zeros(101, int))
    assert metrics.box_detection_scores([found], [truth], 1).numbers["ar_100"] == 0
    fewer = metrics.Detections(boxes[1:], found.scores[1:], found.labels[1:])
    scores = metrics.box_detection_scores([fewer], [truth], 1).numbers
    assert (scores["ar_100"], scores["ar_10"]) == (1, 0)
    assert scores["map"] == pytest.approx(0.01)


def test_nothing_at_all_is_nan_and_missed_objects_are_0():
    nothing = metrics.Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    absent = metrics.Objects(np.zeros((2, 4)), np.array([-1, -1]))
    for detections, objects in (([], []), ([nothing], [absent])):
        scores = metrics.box_detection_scores(detections, objects, 2)
        assert np.isnan(list(scores.numbers.values())).all()
        assert np.isnan(scores.class_ap).all()
    flat = metrics.Objects(np.array([[3.0, 3, 3, 9]]), np.array([1]))  # no area: nothing can match it
    for found in (nothing, metrics.Detections(flat.regions, np.ones(1), flat.labels)):
        scores = metrics.box_detection_scores([found], [flat], 2)
        np.testing.assert_array_equal(scores.class_ap, [np.nan, 0])
        assert scores.numbers["ar_100"] == 0
    no_masks = metrics.Detections(np.zeros((0, 8, 8), np.uint8), np.zeros(0), np.zeros(0, int))
    empty_mask = metrics.Objects(np.zeros((1, 8, 8), np.uint8), np.array([0]))
    assert metrics.mask_detection_scores([no_masks], [empty_mask], 1).numbers["map"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([2])}, "label of detections of image 0 is 2; it must be below 2"),
        ({"labels": np.array([-2])}, "is -2"),
        ({"labels": np.array([0.5])}, "must be 1 integers"),
        ({"labels": np.array([0, 0])}, "must be 1 integers"),
        ({"scores": np.array([np.nan])}, "scores of image 0 must be 1 finite"),
        ({"scores": np.array([1, 2])}, "scores of image 0 must be 1 finite"),
        ({"regions": np.array([[0, 0, 1]])}, r"must be \[n, 4\]"),
        ({"regions": np.array([[5, 0, 1, 1]])}, r"x0 <= x1 and y0 <= y1; got \[5.0, 0.0, 1.0, 1.0\]"),
        ({"regions": np.array([[0, 0, np.inf, 1]])}, "x0 <= x1"),
    ],
)
def test_wrong_detections_are_refused(change, message):
    good = metrics.Detections(np.array([[0, 0, 1, 1]]), np.array([0.5]), np.array([0]))
    truth = metrics.Objects(good.regions, good.labels)
    metrics.box_detection_scores([good], [truth], 2)
    with pytest.raises(ValueError, match=message):
        metrics.box_detection_scores([good._replace(**change)], [truth], 2)


def test_wrong_masks_and_numbers_of_images_are_refused():
    mask = np.ones((1, 4, 4), np.uint8)
    found, truth = metrics.Detections(mask, np.ones(1), np.zeros(1, int)), metrics.Objects(mask, np.zeros(1, int))
    with pytest.raises(ValueError, match="differ in size"):
        metrics.mask_detection_scores([found._replace(regions=mask[:, :3])], [truth], 1)
    with pytest.raises(ValueError, match="height, width"):
        metrics.mask_detection_scores([found._replace(regions=mask[0, :1])], [truth], 1)
    with pytest.raises(ValueError, match="has 15 pixels; its size is 4x4"):
        metrics.mask_detection_scores([found._replace(regions=[{"size": [4, 4], "counts": [15]}])], [truth], 1)
    with pytest.raises(ValueError, match="array or a run-length code"):
        metrics.mask_detection_scores([found._replace(regions=["mask"])], [truth], 1)
    with pytest.raises(ValueError, match="of 0 images and objects of 1"):
        metrics.mask_detection_scores([], [truth], 1)
    with pytest.raises(ValueError, match="num_classes is 0"):
        metrics.mask_detection_scores([], [], 0)
