"""Overlaps of boxes and their losses against closed forms, and against what torchvision answers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses
from hypothesis import given
from hypothesis import strategies as st

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "torchvision_boxes.npz")
OVERLAPS = {"iou": losses.box_iou, "giou": losses.box_giou, "diou": losses.box_diou, "ciou": losses.box_ciou}
# One program for all: values of the four overlaps, and of the four losses with their gradients.
overlaps = jax.jit(lambda a, b: {name: overlap(a, b) for name, overlap in OVERLAPS.items()})


@jax.jit
def compiled_losses(a, b):
    return {name: jax.vmap(jax.value_and_grad(loss, (0, 1)))(a, b) for name, loss in losses.BOX_LOSSES.items()}


def losses_and_gradients(a, b):
    """{name: (losses [pairs], (gradients, gradients) [pairs, 4])}, always compiled for 64 pairs."""
    padded = [np.pad(x, ((0, 64 - len(x)), (0, 0))) for x in (a, b)]
    return jax.tree.map(lambda x: np.asarray(x)[: len(a)], compiled_losses(*padded))


coordinates = st.floats(-50, 50, width=32).map(lambda x: round(x, 2))
sides = st.floats(0, 40, width=32).map(lambda x: round(x, 2))
boxes = st.tuples(coordinates, coordinates, sides, sides).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
# Nothing, padding, points, lines, and a box whose corners are swapped.
DEGENERATE = np.array(
    [[0, 0, 0, 0], [5, 5, 5, 5], [5, 5, 9, 5], [5, 5, 5, 9], [9, 9, 5, 5], [4, 4, 10, 8], [5, 5, 5 + 1e-6, 5 + 1e-6]],
    np.float32,
)


@given(box=boxes)
def test_the_two_forms_of_a_box_are_each_other_s_inverse(box):
    box = np.array(box, np.float32)
    x, y, height, width = np.asarray(losses.corners_to_center(box))
    np.testing.assert_allclose([x, y], [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose([height, width], [box[3] - box[1], box[2] - box[0]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses.center_to_corners(jnp.array([x, y, height, width])), box, atol=1e-4)


def closed_form(box, other):
    """The four overlaps in float64, written out for one pair of boxes with areas."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = box, other
    intersection = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - intersection
    width, height = max(ax1, bx1) - min(ax0, bx0), max(ay1, by1) - min(ay0, by0)
    iou = intersection / union
    distance = (ax0 + ax1 - bx0 - bx1) ** 2 / 4 + (ay0 + ay1 - by0 - by1) ** 2 / 4
    diou = iou - distance / (width**2 + height**2)
    angles = [np.arctan((x1 - x0) / (y1 - y0)) for x0, y0, x1, y1 in (box, other)]
    v = 4 / np.pi**2 * (angles[0] - angles[1]) ** 2
    penalty = v**2 / (1 - iou + v) if v else 0
    return {"iou": iou, "giou": iou - (width * height - union) / (width * height), "diou": diou, "ciou": diou - penalty}


def test_overlaps_equal_their_closed_forms():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 20, (2, 200, 2))
    a, b = np.concatenate([corners, corners + rng.integers(1, 15, (2, 200, 2))], -1).astype(np.float32)
    b[:20] = a[:20]
    measured = overlaps(a, b)
    for i, pair in enumerate(zip(a.astype(np.float64), b.astype(np.float64), strict=True)):
        for name, expected in closed_form(*pair).items():
            np.testing.assert_allclose(measured[name][i], expected, atol=2e-6, err_msg=f"{name} of {pair}")


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps_equal_those_of_torchvision(name):
    a, b = GOLDEN["boxes"], GOLDEN["others"]
    measured = overlaps(a[:, None], b[None])[name]
    np.testing.assert_allclose(measured, GOLDEN[f"{name}_pairwise"], atol=2e-6)
    if name == "iou":
        np.testing.assert_array_equal(losses.pairwise_iou(a, b), measured)


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_losses_and_their_gradients_equal_those_of_torchvision(name):
    values, (gradients, _) = losses_and_gradients(GOLDEN["boxes"], GOLDEN["others"])[name]
    np.testing.assert_allclose(values, GOLDEN[f"{name}_loss"], atol=2e-6)
    np.testing.assert_allclose(gradients, GOLDEN[f"{name}_gradient"], atol=2e-6)


def test_degenerate_boxes_have_finite_losses_and_gradients():
    first, second = np.indices((len(DEGENERATE), len(DEGENERATE))).reshape(2, -1)
    for name, (values, gradients) in losses_and_gradients(DEGENERATE[first], DEGENERATE[second]).items():
        assert np.isfinite(values).all(), name
        assert (values >= -1e-6).all(), name
        assert (values <= 3).all(), name
        assert np.isfinite(gradients).all(), name
        assert values[0] == 1  # of two boxes of padding


def test_padding_overlaps_with_nothing():
    nothing, box = jnp.zeros(4), jnp.array([0.0, 0, 3, 3])
    assert losses.box_iou(nothing, nothing) == losses.box_iou(nothing, box) == 0


@given(box=boxes, other=boxes, shift=st.integers(-8, 8), scale=st.sampled_from([0.5, 2.0, 4.0]))
def test_overlaps_are_symmetric_bounded_and_do_not_change_with_position_or_scale(box, other, shift, scale):
    a, b = np.array(box, np.float32), np.array(other, np.float32)
    first, swapped, moved = overlaps(a, b), overlaps(b, a), overlaps(scale * a + shift, scale * b + shift)
    for name, value in first.items():
        np.testing.assert_allclose(swapped[name], value, atol=1e-5)
        assert -2 <= value <= first["iou"] + 1e-6 <= 1 + 2e-6
        if min(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]) > 1:  # else rounding of corners is not small
            np.testing.assert_allclose(moved[name], value, atol=1e-4)


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_descent_brings_boxes_together_that_do_not_touch(name):
    target, apart = np.float32([[20, 20, 30, 30]]), np.float32([[0, 0, 10, 10]])
    gradient = losses_and_gradients(apart, target)[name][1][0][0]
    assert gradient[2] < 0  # the loss falls if the near corner moves to the target
    assert gradient[3] < 0
    assert not losses_and_gradients(apart, target)["iou"][1][0].any()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        losses.box_iou(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="one shape"):
        losses.giou_loss(jnp.zeros((2, 4)), jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match="pairwise_iou"):
        losses.pairwise_iou(jnp.zeros(4), jnp.zeros((1, 4)))
