"""The grid detector: its cells, centers inside of them, shapes for any image, and masks against loops."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models.dense import (
    GridDetector,
    GridOutputs,
    assemble_masks,
    cell_boxes,
    cell_centers,
    cell_levels,
    crop_to_boxes,
    decode,
    grid_levels,
    mask_logits,
)
from etude.models.dense.grid_detector import Head

KEY = jax.random.key(7, impl="unsafe_rbg")
SMALL = GridDetector(
    num_classes=3, widths=(4, 8, 8), levels=2, channels=8, head_depth=1, num_prototypes=2, num_semantic=5
)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("name", "parameters", "mega"),
    [("grid_detector", 383_545, 98), ("grid_detector_masks", 442_953, 149), ("grid_detector_panoptic", 495_633, 204)],
)
def test_the_network_for_small_images_is_small(name, parameters, mega):
    model = models.create(name)
    assert models.count_parameters(model, (64, 64, 3)) == parameters <= 500_000
    assert round(models.count_flops(model, (64, 64, 3)) / 1e6) == mega


def test_parameters_are_those_of_trunk_pyramid_and_one_head():
    w, c, k = (16, 32, 64, 96), 48, 20
    trunk = 27 * w[0] + 2 * w[0]
    trunk += sum(9 * a * b + 9 * b * b + a * b + 6 * b for a, b in itertools.pairwise(w))
    pyramid = sum(width * c + c + 9 * c * c + c for width in w[1:])
    head = 4 * (9 * c * c + 2 * c) + 9 * c * (k + 4 + 1) + k + 4 + 1
    assert models.count_parameters(GridDetector(), (64, 64, 3)) == trunk + pyramid + head


@pytest.mark.parametrize("shape", [(64, 64), (33, 50), (1, 1), (128, 96)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_size_gets_an_answer_of_float32_for_every_cell_and_pixel(shape, dtype):
    model = models.create("grid_detector_panoptic", num_classes=7, dtype=dtype)
    image = jax.ShapeDtypeStruct((2, *shape, 3), jnp.float32)
    outputs = jax.eval_shape(lambda x: model.apply(model.init(KEY, x), x), image)
    cells = sum(-(-shape[0] // s) * -(-shape[1] // s) for s in model.strides)
    assert cells == len(cell_levels(grid_levels(*shape, model.strides)))
    fine = [2 * -(-size // 4) for size in shape]
    assert jax.tree.map(lambda x: x.shape, outputs) == GridOutputs(
        (2, cells, 7), (2, cells, 4), (2, cells), (2, cells, 16), (2, *fine, 16), (2, *shape, 24)
    )
    assert {x.dtype for x in jax.tree.leaves(outputs)} == {jnp.dtype("float32")}


def test_masks_and_classes_of_pixels_are_options_of_one_network():
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    plain = jax.eval_shape(GridDetector().init_with_output, KEY, image)
    both = jax.eval_shape(models.create("grid_detector_panoptic").init_with_output, KEY, image)
    assert (plain[0].coefficients, plain[0].prototypes, plain[0].semantic_logits) == (None, None, None)
    assert set(plain[1]["params"]) < set(both[1]["params"])


@pytest.mark.parametrize("reach", [0.5, 1.5])
def test_centers_lie_inside_of_their_cells_or_as_far_out_as_allowed(reach):
    levels = grid_levels(20, 33, (4, 8))
    cells, strides = cell_centers(levels), np.array([4, 8])[cell_levels(levels)][:, None]
    for places in (10 * normal(2, len(cells), 4), jnp.full((1, len(cells), 4), 1e9)):
        boxes = np.asarray(cell_boxes(places, levels, reach))
        centers, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        assert np.isfinite(boxes).all()
        assert (sides > 0).all()
        assert (np.abs(centers - cells) <= reach * strides * (1 + 1e-3)).all()
    boxes = cell_boxes(jnp.zeros((1, len(cells), 4)).at[..., 2].set(jnp.log(2.0)), levels, reach)[0]
    half = strides * np.array([2, 4])  # four cells wide, and twice as high
    np.testing.assert_allclose(boxes, np.concatenate([cells - half, cells + half], 1), rtol=1e-5)


def test_cells_are_in_the_order_of_the_heads_answers():
    # Given a grid that holds the position of its pixels, and a head that copies it,
    rows, columns = 3, 5
    grid = jnp.stack(jnp.meshgrid(jnp.arange(columns), jnp.arange(rows)), -1)[None].astype(jnp.float32)
    head = Head(num_classes=2, channels=2, depth=0, num_prototypes=0)
    variables = jax.tree.map(jnp.zeros_like, head.init(KEY, grid))
    variables["params"]["class_logits"]["kernel"] = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(jnp.eye(2))
    # then its answers are the centers of the cells.
    positions = head.apply(variables, grid)[0][0]
    np.testing.assert_array_equal(8 * (positions + 0.5), cell_centers(grid_levels(3 * 8, 5 * 8 - 7, (8,))))


def test_every_parameter_learns_and_examples_do_not_meet_at_prediction():
    x = normal(3, 21, 26, 3)
    variables = jax.jit(SMALL.init)(KEY, x)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient(params):
        outputs, _ = SMALL.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
        waves = [(jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape) * leaf).sum() for leaf in outputs]
        return sum(waves), outputs

    gradients, outputs = gradient(variables["params"])
    silent = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.abs(leaf).max() > 0
    ]
    assert not silent
    assert jax.tree.all(jax.tree.map(lambda leaf: np.isfinite(leaf).all(), outputs))
    together = jax.jit(SMALL.apply)(variables, x)
    alone = jax.jit(jax.vmap(lambda image: jax.tree.map(lambda leaf: leaf[0], SMALL.apply(variables, image[None]))))(x)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), together, alone)
    # Scores begin near 0.01 · ½, so that the many empty cells do not drown the objects.
    np.testing.assert_allclose(decode(together).scores, 0.005, rtol=0.5)


def test_a_score_is_the_probability_of_the_class_times_the_quality_of_the_box():
    logits, quality = normal(2, 5, 3), normal(2, 5, seed=1)
    boxes = normal(2, 5, 4, seed=2)
    answer = decode(GridOutputs(logits, boxes, quality, None, None, None))
    expected = 1 / ((1 + np.exp(-logits)) * (1 + np.exp(-quality))[..., None])
    np.testing.assert_allclose(answer.scores, expected, rtol=1e-5)
    np.testing.assert_array_equal(answer.boxes, boxes)


BOXES = jnp.asarray([[[2.0, 1, 6, 5], [0, 0, 0, 0], [-9, -9, 99, 99]], [[2.5, 0, 3.5, 9], [4, 4, 4, 6], [0, 0, 1, 1]]])


def test_masks_are_weighted_prototypes_inside_of_their_boxes():
    prototypes, coefficients = jnp.abs(normal(2, 4, 3, 5)), normal(2, 3, 5, seed=1)
    masks = np.asarray(jax.jit(partial(assemble_masks, shape=(8, 6), stride=2))(prototypes, coefficients, BOXES))
    weighted = np.einsum("bhwk,bnk->bnhw", prototypes, coefficients)
    np.testing.assert_allclose(mask_logits(prototypes, coefficients), weighted, rtol=1e-4, atol=1e-5)
    whole = 1 / (1 + np.exp(-np.asarray(jax.image.resize(weighted, (2, 3, 8, 6), "bilinear"))))
    for b, n, i, j in np.ndindex(masks.shape):
        x0, y0, x1, y1 = BOXES[b, n]
        inside = x0 <= j + 0.5 < x1 and y0 <= i + 0.5 < y1
        assert masks[b, n, i, j] == pytest.approx(whole[b, n, i, j] if inside else 0, abs=1e-5)
    assert not masks[0, 1].any()  # a box without area, such as that of padding
    assert not masks[1, 1].any()


def test_masks_are_cropped_on_their_own_grid_and_those_of_the_image_cut_off():
    assert np.asarray(crop_to_boxes(jnp.ones((2, 3, 4, 4)), BOXES, 2.0))[0, 0].tolist() == [
        [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]
    ]  # fmt: skip
    masks = assemble_masks(jnp.ones((2, 4, 4, 5)), jnp.ones((2, 3, 5)), BOXES, (7, 5), 2)
    assert masks.shape == (2, 3, 7, 5)
    assert (masks[0, 2] > 0.5).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridDetector(levels=5).init(KEY, jnp.zeros((1, 8, 8, 3))), "levels is 5; the 4 stages of widths"),
        (lambda: GridDetector(widths=(8, 0)).init(KEY, jnp.zeros((1, 8, 8, 3))), "widths of at least 1"),
        (lambda: GridDetector(reach=0).init(KEY, jnp.zeros((1, 8, 8, 3))), "reach 0; no number can be negative"),
        (lambda: GridDetector(num_prototypes=-1).init(KEY, jnp.zeros((1, 8, 8, 3))), "num_prototypes -1"),
        (lambda: GridDetector().init(KEY, jnp.zeros((8, 8, 3))), "height, width, channel"),
        (lambda: mask_logits(jnp.zeros((1, 4, 4, 5)), jnp.zeros((1, 3, 6))), "last axes differ"),
        (
            lambda: assemble_masks(jnp.zeros((2, 4, 4, 5)), jnp.zeros((2, 3, 5)), BOXES, (9, 8), 2),
            r"do not cover an image of \(9, 8\)",
        ),
    ],
)
def test_fields_and_shapes_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
