"""The grids of a detector: cells cover the image once, and anchors have the shapes that were asked for."""

import numpy as np
import pytest
from etude.models import dense

LEVELS = dense.grid_levels(50, 70, (8, 16, 32))


def test_every_pixel_lies_in_one_cell_of_each_level():
    y, x = np.indices((50, 70)).reshape(2, -1) + 0.5
    centers, numbers = dense.cell_centers(LEVELS), dense.cell_levels(LEVELS)
    for number, level in enumerate(LEVELS):
        apart = np.abs(centers[numbers == number][:, None] - np.stack([x, y], -1)).max(-1)
        np.testing.assert_array_equal((apart < level.stride / 2).sum(0), 1)


def test_anchors_have_the_area_and_the_ratio_of_their_kind():
    boxes = dense.anchor_boxes(LEVELS, scales=(2, 3), ratios=(0.5, 1, 2)).reshape(-1, 6, 4)
    sides = boxes[..., 2:] - boxes[..., :2]
    strides = np.array([level.stride for level in LEVELS])[dense.cell_levels(LEVELS), None]
    np.testing.assert_allclose(sides.prod(-1), (strides * [2, 2, 2, 3, 3, 3]) ** 2, rtol=1e-5)
    np.testing.assert_allclose(sides[..., 1] / sides[..., 0], np.tile([0.5, 1, 2] * 2, (len(boxes), 1)), rtol=1e-5)
    centers = np.broadcast_to(dense.cell_centers(LEVELS)[:, None], (len(boxes), 6, 2))
    np.testing.assert_allclose((boxes[..., :2] + boxes[..., 2:]) / 2, centers, atol=1e-4)


@pytest.mark.parametrize("strides", [(), (8, 8), (16, 8), (0, 8)])
def test_wrong_strides_are_refused(strides):
    with pytest.raises(ValueError, match="strides"):
        dense.grid_levels(64, 64, strides)


def test_wrong_anchors_are_refused():
    with pytest.raises(ValueError, match="positive"):
        dense.anchor_boxes(LEVELS, ratios=(0,))
