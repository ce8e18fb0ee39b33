"""Letterboxing: boxes come back, and go where the pixels go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models import dense
from hypothesis import given
from hypothesis import strategies as st

sides = st.integers(1, 3000)


@given(height=sides, width=sides, size=st.integers(1, 1024), seed=st.integers(0, 2**32 - 1))
def test_boxes_come_back_from_the_square(height, width, size, seed):
    place, _ = dense.letterbox_of(height, width, size)
    boxes = np.random.default_rng(seed).uniform(-0.2, 1.2, (8, 4)) * [width, height, width, height]
    # float32 holds 6 digits of a place in the square; one pixel of the square is 1 / scale pixels of the image.
    digits = 1e-6 * size / min(place.scale_x, place.scale_y)
    np.testing.assert_allclose(place.to_image(place.to_frame(jnp.asarray(boxes))), boxes, rtol=1e-5, atol=digits)


@given(height=sides, width=sides, size=st.integers(1, 1024))
def test_the_image_fits_in_the_middle_and_keeps_its_aspect_ratio(height, width, size):
    place, (inner_height, inner_width) = dense.letterbox_of(height, width, size)
    assert max(inner_height, inner_width) == size
    assert abs(2 * place.top + inner_height - size) <= 1
    assert abs(2 * place.left + inner_width - size) <= 1
    scale = size / max(height, width)
    assert max(abs(inner_height - scale * height), abs(inner_width - scale * width)) <= 1
    corners = np.array(place.to_frame(jnp.array([0, 0, width, height])))
    expected = [place.left, place.top, place.left + inner_width, place.top + inner_height]
    np.testing.assert_allclose(corners, expected, rtol=1e-5)


@pytest.mark.parametrize(("height", "width", "size"), [(37, 23, 64), (61, 91, 32), (33, 33, 47)])
def test_pixels_and_boxes_move_together(height, width, size):
    y, x = np.indices((height, width)) + 0.5
    image = np.stack([x, y, np.ones_like(x)], -1)[None].astype(np.float32)  # every pixel shows where it is
    (square,), place = jax.jit(dense.letterbox, static_argnums=1)(image, size)
    rows, columns = np.nonzero(np.asarray(square[..., 2]))
    points = np.stack([columns, rows, columns, rows], -1) + 0.5
    back = np.asarray(place.to_image(points))[:, :2]
    shown = np.asarray(square)[rows, columns, :2]
    border = 2 * max(1, 1 / place.scale_x)  # where the filter has no pixels on one side
    inside = ((back > border) & (back < np.array([width, height]) - border)).all(-1)
    assert inside.sum() > 200
    # Where the image shrinks, the filter's few samples are centered to some hundredths of a pixel alone.
    np.testing.assert_allclose(shown[inside], back[inside], atol=1e-3 if place.scale_x > 1 else 0.05)
    assert len(rows) == round(place.scale_x * width) * round(place.scale_y * height)


def test_padding_has_the_value_that_is_asked_for():
    (square,), _ = dense.letterbox(jnp.ones((1, 2, 4, 2)), 4, fill=jnp.array([0.25, 0.5]))
    np.testing.assert_array_equal(square[0], np.tile([0.25, 0.5], (4, 1)))
    np.testing.assert_array_equal(square[1:3], 1)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        dense.letterbox(jnp.zeros((1, 4, 4, 3), jnp.uint8), 8)
    with pytest.raises(ValueError, match=r"\(4, 4, 3\)"):
        dense.letterbox(jnp.zeros((4, 4, 3)), 8)
    with pytest.raises(ValueError, match="0 × 4"):
        dense.letterbox_of(0, 4, 8)
