"""Non-maximum suppression against a plain reference in numpy, and against torchvision's answers."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models import dense

GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden" / "torchvision_boxes.npz")
FACTORS = {
    "hard": lambda iou: 1.0 - (iou > 0.5),
    "linear": lambda iou: np.where(iou > 0.3, 1 - iou, 1),
    "gaussian": lambda iou: np.exp(-(iou**2) / 0.5),
}
DECAYS = {"hard": dense.hard_decay(), "linear": dense.linear_decay(), "gaussian": dense.gaussian_decay()}
# One program for each decay, of 300 boxes: fewer are padded.
COMPILED = {
    name: jax.jit(partial(dense.non_max_suppression, max_outputs=300, decay=decay)) for name, decay in DECAYS.items()
}


def reference(boxes, scores, factors, *, labels=None, score_threshold=0.0, max_outputs=300):
    """[(index, score)] by the definition, one box at a time, in float64."""
    boxes, left = boxes.astype(np.float64), dict(enumerate(scores.astype(np.float64)))
    kept = []
    while len(kept) < max_outputs:
        left = {i: score for i, score in left.items() if score > score_threshold}
        if not left:
            break
        best = max(left, key=lambda i: (left[i], -i))
        kept.append((best, left.pop(best)))
        for i in left:
            if labels is None or labels[i] == labels[best]:
                left[i] *= factors(iou(boxes[best], boxes[i]))
    return kept


def iou(a, b):
    intersection = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union if union else 0.0


def detections(seed, count, *, size=48, side=17, levels=1000):
    """Boxes on whole pixels, some without area, with scores of so many values."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, size, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, side, (count, 2))], -1).astype(np.float32)
    return boxes, (rng.integers(1, levels, count) / levels).astype(np.float32), rng.integers(0, 3, count)


def run(name, boxes, scores, labels=None, score_threshold=0.0):
    """[(index, score)] of the program for 300 boxes."""
    free = 300 - len(boxes)
    kept = COMPILED[name](
        np.pad(boxes, ((0, free), (0, 0))),
        np.pad(scores, (0, free), constant_values=1),  # padding with the best scores of all
        labels=np.pad(np.zeros(len(boxes), int) if labels is None else labels, (0, free)),
        valid=np.arange(300) < len(boxes),
        score_threshold=score_threshold,
    )
    count = int(kept.valid.sum())
    assert kept.valid[:count].all(), "free places are at the end"
    assert (kept.indices[count:] == -1).all()
    assert not kept.scores[count:].any()
    return list(zip(kept.indices[:count].tolist(), kept.scores[:count].tolist(), strict=True))


@pytest.mark.parametrize("name", DECAYS)
@pytest.mark.parametrize("levels", [1000, 5], ids=["distinct", "ties"])
@pytest.mark.parametrize("classes", [False, True], ids=["one class", "three classes"])
def test_suppression_equals_the_reference(name, levels, classes):
    for seed, count in enumerate((1, 2, 40, 200)):
        boxes, scores, labels = detections(seed, count, levels=levels)
        labels = labels if classes else None
        # Soft suppression multiplies scores in another precision: a threshold that no product of these hits.
        expected = reference(boxes, scores, FACTORS[name], labels=labels, score_threshold=0.0501)
        measured = run(name, boxes, scores, labels, 0.0501)
        assert [i for i, _ in measured] == [i for i, _ in expected]
        np.testing.assert_allclose([s for _, s in measured], [s for _, s in expected], rtol=1e-5)


def test_five_thousand_boxes_are_suppressed_as_by_the_reference():
    boxes, scores, labels = detections(0, 5000, size=600, side=80, levels=500)
    expected = reference(boxes, scores, FACTORS["hard"], labels=labels, max_outputs=100)
    kept = jax.jit(partial(dense.non_max_suppression, max_outputs=100))(boxes, scores, labels=labels)
    assert kept.indices.tolist() == [i for i, _ in expected]
    assert kept.valid.all()


@pytest.mark.parametrize("scores", ["scores", "tied_scores"])
@pytest.mark.parametrize("threshold", [0.25, 0.5])
def test_hard_suppression_equals_torchvision_s(scores, threshold):
    run = jax.jit(partial(dense.non_max_suppression, max_outputs=300, decay=dense.hard_decay(threshold)))
    for name, labels in (("nms", np.zeros(300, np.int32)), ("batched_nms", GOLDEN["labels"])):
        kept = run(GOLDEN["detections"], GOLDEN[scores], labels=labels)
        expected = GOLDEN[f"{name}_{scores}_{threshold}"]
        assert kept.indices[kept.valid].tolist() == expected.tolist()


def test_no_candidate_gives_no_box():
    boxes, scores, _ = detections(0, 10)
    assert run("hard", boxes[:0], scores[:0]) == []
    assert run("hard", boxes, scores, score_threshold=1.0) == []
    assert run("hard", boxes, np.full(10, np.nan, np.float32)) == []
    empty = dense.non_max_suppression(jnp.zeros((0, 4)), jnp.zeros(0), max_outputs=3)
    assert empty.indices.tolist() == [-1, -1, -1]
    assert not empty.valid.any()


def test_negative_scores_are_no_obstacle_to_hard_suppression():
    boxes, scores, _ = detections(1, 50)
    expected = reference(boxes, scores, FACTORS["hard"])
    assert [i for i, _ in run("hard", boxes, scores - 5, score_threshold=-np.inf)] == [i for i, _ in expected]


def test_equal_boxes_of_equal_scores_leave_the_first():
    assert run("hard", np.tile(np.float32([[1, 1, 5, 5]]), (7, 1)), np.full(7, 0.5, np.float32)) == [(0, 0.5)]


def test_a_batch_is_suppressed_image_by_image_and_cut_at_the_number_of_outputs():
    batch = [detections(seed, 60) for seed in range(3)]
    boxes, scores, labels = (np.stack(arrays) for arrays in zip(*batch, strict=True))
    suppress = partial(dense.non_max_suppression, max_outputs=8)
    kept = jax.jit(jax.vmap(lambda b, s, c: suppress(b, s, labels=c)))(boxes, scores, labels)
    for i, (b, s, c) in enumerate(batch):
        expected = [index for index, _ in reference(b, s, FACTORS["hard"], labels=c, max_outputs=8)]
        assert kept.indices[i].tolist() == expected


def test_what_belongs_to_a_box_is_taken_with_it():
    kept = dense.Kept(jnp.array([2, 0, -1]), jnp.array([0.9, 0.5, 0]), jnp.array([True, True, False]))
    assert kept.take(jnp.array([5, 6, 7]), -1).tolist() == [7, 5, -1]
    np.testing.assert_array_equal(kept.take(jnp.eye(3)), [[0, 0, 1], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"\(0, 4\)"):
        kept.take(jnp.zeros((0, 4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": jnp.zeros((3, 5))}, r"\(3, 5\)"),
        ({"scores": jnp.zeros(4)}, r"scores must be \[3\]"),
        ({"labels": jnp.zeros(2, int)}, r"labels must be \[3\]"),
        ({"valid": jnp.zeros((3, 1), bool)}, r"valid must be \[3\]"),
        ({"max_outputs": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        dense.non_max_suppression(**{"boxes": jnp.zeros((3, 4)), "scores": jnp.zeros(3), "max_outputs": 2} | arguments)


def test_wrong_decays_are_refused():
    with pytest.raises(ValueError, match="50"):
        dense.hard_decay(50)
    with pytest.raises(ValueError, match="sigma"):
        dense.gaussian_decay(0)
