"""Affine maps of images, masks and boxes: against NumPy and SciPy, against each other, and of themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.data import geometry
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

STRENGTHS = {"degrees": 180, "scale": 0.4, "translate": 0.2, "shear": 20}
SQUARE = np.random.default_rng(1).integers(0, 256, (7, 7, 2), np.uint8)
WIDE = np.random.default_rng(2).integers(0, 256, (6, 9, 3), np.uint8)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed, shape):
    return DRAW(jax.random.key(seed), shape)


DRAW = jax.jit(lambda key, shape: geometry.draw_affine(key, shape, **STRENGTHS), static_argnums=1)
IMAGE, MASK = jax.jit(geometry.affine_image), jax.jit(geometry.affine_mask, static_argnames="fill")
BOXES = jax.jit(geometry.affine_boxes, static_argnums=2)
COMPOSE = jax.jit(geometry.compose)


def scipys(image, matrix, order, fill=0.0):
    """The same map by SciPy, in float64: it wants the inverse, of (row, column), from the corner."""
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    inverse = np.linalg.inv(swap @ np.asarray(matrix, np.float64) @ swap)
    center = (np.array(image.shape[:2]) - 1) / 2
    offset = center + inverse[:2, 2] - inverse[:2, :2] @ center
    channels = np.asarray(image, np.float64).reshape(*image.shape[:2], -1)
    moved = [
        ndimage.affine_transform(
            channels[..., c], inverse[:2, :2], offset, order=order, mode="grid-constant", cval=fill
        )
        for c in range(channels.shape[-1])
    ]
    return np.stack(moved, -1).reshape(image.shape)


@given(seed=seeds)
def test_an_image_moves_as_in_scipy(seed):
    matrix = drawn(seed, WIDE.shape)
    expected = scipys(WIDE, matrix, order=1)
    np.testing.assert_allclose(IMAGE(WIDE.astype(jnp.float32), matrix), expected, atol=0.01)  # float32 coordinates
    assert np.abs(np.asarray(IMAGE(WIDE, matrix), float) - expected).max() <= 0.51  # rounded


@given(seed=seeds)
def test_a_mask_moves_as_in_scipy(seed):
    mask = jnp.arange(54).reshape(6, 9)
    matrix = drawn(seed, mask.shape)
    # A pixel that lies between two may go to the other one.
    assert (np.asarray(MASK(mask, matrix, fill=-1)) != scipys(mask, matrix, order=0, fill=-1)).mean() <= 1 / 54


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3])
def test_quarter_turns_equal_numpys(turns):
    matrix = geometry.rotation(90 * turns)
    np.testing.assert_array_equal(IMAGE(SQUARE, matrix), np.rot90(SQUARE, turns))
    np.testing.assert_array_equal(MASK(SQUARE, matrix, fill=0), np.rot90(SQUARE, turns))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_the_identity_changes_nothing(dtype, key):
    still = geometry.draw_affine(key, WIDE.shape)
    np.testing.assert_array_equal(still, np.eye(3))
    np.testing.assert_array_equal(IMAGE(WIDE.astype(dtype), still), WIDE.astype(dtype))
    np.testing.assert_array_equal(MASK(WIDE, still, fill=7), WIDE)
    boxes = jnp.array([[0.0, 1.25, 9, 6]])
    np.testing.assert_array_equal(BOXES(boxes, still, WIDE.shape), boxes)


@pytest.mark.parametrize(("x", "y"), [(2, 0), (0, -1), (-3, 2)])
def test_a_translation_by_whole_pixels_copies_them(x, y):
    moved = IMAGE(WIDE, geometry.translation(x, y))
    padded = np.pad(WIDE, ((6, 6), (9, 9), (0, 0)))
    np.testing.assert_array_equal(moved, padded[6 - y : 12 - y, 9 - x : 18 - x])


def test_a_translation_by_half_a_pixel_averages_two():
    row = jnp.array([0.0, 10, 20, 40]).reshape(1, 4, 1)
    np.testing.assert_allclose(IMAGE(row, geometry.translation(0.5, 0)).ravel(), [0, 5, 15, 30])


def test_a_zoom_by_two_enlarges_about_the_center():
    image = jnp.zeros((8, 8, 1)).at[2:6, 2:6].set(1)
    inner = IMAGE(image, geometry.zoom(2.0))[1:7, 1:7]
    np.testing.assert_allclose(inner, 1, atol=1e-5)
    assert IMAGE(image, geometry.zoom(0.5)).sum() == pytest.approx(4, rel=0.01)


def test_upright_lines_lean_by_the_angle_of_a_shear():
    boxes = jnp.array([[10.0, 0, 10, 20]])  # a line through the center
    leaning = BOXES(boxes, geometry.shearing(30), (20, 20))[0]
    np.testing.assert_allclose(leaning[2] - leaning[0], 20 * np.tan(np.pi / 6), rtol=1e-5)
    level = BOXES(jnp.array([[0.0, 10, 20, 10]]), geometry.shearing(0, 30), (20, 20))[0]
    np.testing.assert_allclose(level[3] - level[1], 20 * np.tan(np.pi / 6), rtol=1e-5)


@given(first=seeds, second=seeds)
def test_composed_maps_move_a_point_as_one_after_the_other(first, second):
    a, b = drawn(first, (100, 100)), drawn(second, (100, 100))
    point = np.array([3.0, -2.0, 1.0])
    one_by_one = np.asarray(b, float) @ (np.asarray(a, float) @ point)
    np.testing.assert_allclose(np.asarray(COMPOSE(a, b), float) @ point, one_by_one, atol=1e-4)


def test_composed_quarter_turns_and_mirrors_resample_as_one_after_the_other():
    turn, mirror = geometry.rotation(90), geometry.mirror(True)
    once = IMAGE(SQUARE, geometry.compose(turn, mirror))
    np.testing.assert_array_equal(once, IMAGE(IMAGE(SQUARE, turn), mirror))
    assert (once != IMAGE(SQUARE, geometry.compose(mirror, turn))).any()


def test_the_inverse_map_brings_a_smooth_image_back():
    y, x = jnp.meshgrid(jnp.linspace(-1, 1, 41), jnp.linspace(-1, 1, 41), indexing="ij")
    smooth = 255 * jnp.exp(-12 * ((x - 0.1) ** 2 + y**2))[..., None]
    matrix = geometry.compose(geometry.rotation(33), geometry.zoom(1.2), geometry.translation(1.5, -2))
    there = IMAGE(smooth, matrix)
    back = IMAGE(there, jnp.linalg.inv(matrix))
    assert jnp.abs(there - smooth).max() > 50
    np.testing.assert_allclose(back, smooth, atol=255 * 0.03)  # two linear interpolations of a bump 10 pixels wide


@given(seed=seeds)
def test_a_moved_box_holds_the_moved_mask_tightly(seed):
    matrix = drawn(seed, (40, 50))
    mask, box = np.zeros((40, 50), bool), np.array([18.0, 15, 34, 25])
    mask[15:25, 18:34] = True
    rows, columns = np.nonzero(np.asarray(MASK(mask, matrix, fill=0)))
    left, top, right, bottom = np.asarray(BOXES(box, matrix, mask.shape))
    # The centers of the pixels are inside; corners of a rotated rectangle may hold none for a few pixels.
    x, y = columns + 0.5, rows + 0.5
    assert left - 1e-3 <= x.min() <= left + 4
    assert right - 4 <= x.max() <= right + 1e-3
    assert top - 1e-3 <= y.min() <= top + 4
    assert bottom - 4 <= y.max() <= bottom + 1e-3


@given(degrees=st.floats(-180, 180))
def test_the_area_of_a_mask_scales_by_the_determinant(degrees):
    matrix = geometry.compose(geometry.rotation(degrees), geometry.zoom(1.2), geometry.shearing(10))
    mask = jnp.zeros((60, 60), jnp.int32).at[20:40, 18:44].set(1)
    moved = int((MASK(mask, matrix, fill=255) == 1).sum())
    assert moved == pytest.approx(20 * 26 * 1.44, rel=0.03)  # a border of about 110 pixels, half in and half out


def test_what_comes_into_view_is_zero_in_images_and_the_fill_in_masks():
    away = geometry.translation(4, 0)
    ones = jnp.ones((6, 9, 1), jnp.uint8)
    np.testing.assert_array_equal(IMAGE(ones, away)[:, :4], 0)
    mask = MASK(ones, away, fill=255)
    np.testing.assert_array_equal(mask[:, :4], 255)
    np.testing.assert_array_equal(mask[:, 4:], 1)


def test_a_box_is_cut_at_the_borders_and_one_that_leaves_has_no_area():
    boxes = jnp.array([[[4.0, 1, 8, 3]], [[0, 0, 2, 2]]])
    moved = BOXES(boxes, geometry.translation(4, 0), (6, 9))
    np.testing.assert_array_equal(moved, [[[8, 1, 9, 3]], [[4, 0, 6, 2]]])
    gone = BOXES(boxes[0, 0], geometry.translation(20, 0), (6, 9))
    assert gone[0] == gone[2]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_flip_of_image_and_mask_is_the_mirror_of_boxes(flipped):
    matrix = geometry.mirror(flipped)
    np.testing.assert_array_equal(geometry.flip(WIDE, jnp.array(flipped)), WIDE[:, ::-1] if flipped else WIDE)
    np.testing.assert_array_equal(IMAGE(WIDE, matrix), geometry.flip(WIDE, jnp.array(flipped)))
    box = BOXES(jnp.array([1.0, 2, 4, 5]), matrix, WIDE.shape)
    np.testing.assert_array_equal(box, [5, 2, 8, 5] if flipped else [1, 2, 4, 5])


def test_draws_fill_their_ranges_symmetrically():
    keys = jax.random.split(jax.random.key(5), 2000)

    def draw(key):
        return {name: geometry.draw_affine(key, (10, 20), **{name: most}) for name, most in STRENGTHS.items()}

    drawn = jax.device_get(jax.jit(jax.vmap(draw))(keys))
    turned, zoomed = drawn["degrees"], drawn["scale"][:, 0, 0]
    moved, leaning = drawn["translate"][:, :2, 2], drawn["shear"][:, 0, 1]
    uniform = {
        "degrees": np.arctan2(turned[:, 0, 1], turned[:, 0, 0]) / np.pi,
        "scale": np.log(zoomed) / np.log(1.4),
        "x": moved[:, 0] / 4,
        "y": moved[:, 1] / 2,
        "shear": np.degrees(np.arctan(leaning)) / 20,
    }
    for name, x in uniform.items():
        assert 0.99 < x.max() <= 1.00001, name
        assert -1.00001 <= x.min() < -0.99, name
        assert abs(x.mean()) < 5 / np.sqrt(3 * len(keys)), name
    assert abs(np.corrcoef(moved.T)[0, 1]) < 5 / np.sqrt(len(keys))


def test_a_rectangle_is_cut_at_the_borders():
    mask = np.asarray(geometry.rectangle((4, 5), -1, 3, 3, 9))
    expected = np.zeros((4, 5), bool)
    expected[:2, 3:] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("strength", "message"),
    [
        ({"degrees": 181}, "degrees between 0 and 180"),
        ({"scale": -0.1}, "scale between 0"),
        ({"translate": 1.1}, "translate between 0 and 1"),
        ({"shear": 90}, "shear between 0 and 89"),
    ],
)
def test_strengths_out_of_range_are_refused(strength, message, key):
    with pytest.raises(ValueError, match=message):
        geometry.draw_affine(key, (4, 4), **strength)


def test_masks_fills_and_boxes_that_do_not_fit_are_refused(key):
    still = jnp.eye(3)
    with pytest.raises(ValueError, match="integers or bool, got float32"):
        geometry.affine_mask(jnp.zeros((4, 4)), still, fill=0)
    with pytest.raises(ValueError, match="uint8 holds, 0 to 255, got -1"):
        geometry.affine_mask(jnp.zeros((4, 4), jnp.uint8), still, fill=-1)
    with pytest.raises(ValueError, match=r"boxes \[..., 4\], got \[4, 3\]"):
        geometry.affine_boxes(jnp.zeros((4, 3)), still, (4, 4))
    with pytest.raises(ValueError, match="probability between 0 and 1, got 2"):
        geometry.draw_flip(key, 2)
