"""The targets of a detector: no object without a place, and every place by the stated rules, on many crowded scenes."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses, tasks
from etude.models import dense

LEVELS = dense.grid_levels(16, 16, (4, 8))  # 20 cells, so that 24 objects are more than there is room for
CENTERS, NUMBERS = dense.cell_centers(LEVELS), dense.cell_levels(LEVELS)
LIMIT, HIGH_LIMIT = 6.0, 15.0  # with the high one, most objects contain several cells of their level
ANCHORS = dense.anchor_boxes(LEVELS, scales=(1.0,), ratios=(1.0,))
OBJECTS = 24


@cache
def scenes(count=150, seed=0):
    """(boxes [count, 24, 4], valid [count, 24]): few centers and sizes, so that most objects want what others want.

    Some have no area, and some reach beyond the image or are outside it. The places of padding are mixed with the rest.
    """
    rng = np.random.default_rng(seed)
    centers = rng.integers(-4, 40, (count, 5, 2)) / 2
    centers = np.take_along_axis(centers, rng.integers(0, 5, (count, OBJECTS, 1)), 1)
    sides = rng.choice([0, 1, 3, 5, 7, 12, 20], (count, OBJECTS, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], -1).astype(np.float32)
    return boxes, rng.random((count, OBJECTS)) < rng.uniform(0, 1.1, (count, 1))


@jax.jit
@jax.vmap
def assign(boxes, valid):
    return tasks.assign_cells(boxes, valid, LEVELS, limits=(LIMIT,))


@jax.jit
@jax.vmap
def assign_with_neighbors(boxes, valid):
    return tasks.assign_cells(boxes, valid, LEVELS, limits=(HIGH_LIMIT,), radius=1.5)


@jax.jit
@jax.vmap
def assign_to_anchors(boxes, valid):
    return tasks.assign_anchors(boxes, valid, ANCHORS, positive=0.5, negative=0.2)


def on_host(function, *arrays):
    return tasks.Assignment(*map(np.asarray, function(*arrays)))


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def is_inside(cell, box):
    x, y = CENTERS[cell]
    return box[0] < x < box[2] and box[1] < y < box[3]


def level_of(box, limit=LIMIT):
    return int(max(box[2] - box[0], box[3] - box[1]) >= limit)


def first_choice(box):
    """The cell whose center is nearest along each axis: the one that contains the center, where one does."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    level = LEVELS[level_of(box)]
    column, row = (int(np.clip(p // level.stride, 0, 16 // level.stride - 1)) for p in (x, y))
    return (0, 16)[level_of(box)] + row * level.width + column


def rank(cell, box):
    """What the docstring says, as a tuple: lower is better."""
    distance = ((CENTERS[cell] - (box[:2] + box[2:]) / 2) ** 2).sum()
    away = abs(int(NUMBERS[cell]) - level_of(box))
    return (cell != first_choice(box), not is_inside(cell, box), away, distance, cell)


def test_no_object_is_left_without_a_cell_of_its_own():
    boxes, valid = scenes()
    for function in (assign, assign_with_neighbors):
        objects, own = on_host(function, boxes, valid)
        for image in range(len(boxes)):
            found = own[image][own[image] >= 0]
            assert len(set(found)) == len(found) == min(valid[image].sum(), len(CENTERS))
            assert (own[image][~valid[image]] == -1).all()
            named = np.flatnonzero(own[image] >= 0)
            np.testing.assert_array_equal(objects[image][own[image][named]], named)
            assert valid[image][objects[image][objects[image] >= 0]].all()
    assert (valid.sum(1) > len(CENTERS)).any()
    assert (valid.sum(1) == 0).any()


def test_a_cell_belongs_to_the_smallest_object_with_its_center_there_and_nobody_envies():
    boxes, valid = scenes()
    objects, own = on_host(assign, boxes, valid)
    displaced_objects = 0
    for b, v, cells, places in zip(boxes, valid, objects, own, strict=True):
        present = np.flatnonzero(v)
        wanted = {n: first_choice(b[n]) for n in present}
        winners = {
            cell: min((n for n in present if wanted[n] == cell), key=lambda n: (area(b[n]), n))
            for cell in set(wanted.values())
        }
        assert all(places[n] == cell for cell, n in winners.items())
        displaced = sorted(set(present) - set(winners.values()), key=lambda n: (area(b[n]), n))
        displaced_objects += len(displaced)
        free = set(np.flatnonzero(cells == tasks.BACKGROUND))
        for turn, n in enumerate(displaced):
            later = {places[m] for m in displaced[turn + 1 :] if places[m] >= 0}
            if places[n] < 0:  # no room: then nobody who came later has any
                assert not free | later
            else:
                assert all(rank(places[n], b[n]) < rank(cell, b[n]) for cell in free | later)
    assert displaced_objects > 500


def test_a_displaced_object_prefers_a_cell_inside_its_box_to_a_nearer_one_outside():
    flat, twin = [0, 9, 16, 11], [0, 9.5, 16, 10.5]  # both want the cell around (12, 12) of the coarse level
    small = [
        [5, 9, 7, 11],
        [9, 9, 11, 11],
    ]  # in the two nearest fine cells inside; then comes (2, 10)
    boxes, valid = np.zeros((150, OBJECTS, 4), np.float32), np.zeros((150, OBJECTS), bool)
    boxes[0, :4], valid[0, :4] = [flat, twin, *small], True
    own = on_host(assign, boxes, valid).own[0]
    assert CENTERS[own[:4]].tolist() == [[2, 10], [12, 12], [6, 10], [10, 10]]  # (4, 12) is free and nearer


def test_neighbors_within_the_radius_answer_for_the_smallest_object_around_them():
    boxes, valid = scenes()
    objects, own = on_host(assign_with_neighbors, boxes, valid)
    shared = 0
    for b, v, cells, places in zip(boxes, valid, objects, own, strict=True):
        for cell in set(range(len(CENTERS))) - set(places):
            stride = LEVELS[NUMBERS[cell]].stride
            claims = [
                (area(b[n]), n)
                for n in np.flatnonzero(v)
                if level_of(b[n], HIGH_LIMIT) == NUMBERS[cell]
                and is_inside(cell, b[n])
                and np.abs(CENTERS[cell] - (b[n][:2] + b[n][2:]) / 2).max() <= 1.5 * stride
            ]
            assert cells[cell] == (min(claims)[1] if claims else tasks.BACKGROUND)
            shared += bool(claims)
    assert shared > 50


def test_no_object_is_left_without_an_anchor_of_its_own_and_nobody_envies():
    boxes, valid = scenes()
    objects, own = on_host(assign_to_anchors, boxes, valid)
    overlaps = np.asarray(losses.pairwise_iou(jnp.asarray(boxes), jnp.asarray(ANCHORS)))
    for iou, b, v, anchors, places in zip(overlaps, boxes, valid, objects, own, strict=True):
        present = np.flatnonzero(v)
        found = places[places >= 0]
        assert len(set(found)) == len(found) == min(len(present), len(ANCHORS))
        assert (places[~v] == -1).all()

        def rank(anchor, n):
            return (-iou[n, anchor], ((CENTERS[anchor] - (b[n][:2] + b[n][2:]) / 2) ** 2).sum(), anchor)

        wanted = {n: min(range(len(ANCHORS)), key=lambda anchor: rank(anchor, n)) for n in present}
        in_turn = sorted(present, key=lambda n: (-iou[n].max(), n))
        winners = {wanted[n]: n for n in reversed(in_turn)}
        assert all(places[n] == anchor for anchor, n in winners.items())
        displaced = [n for n in in_turn if n not in winners.values()]
        free = set(range(len(ANCHORS))) - set(found)
        for turn, n in enumerate(displaced):
            later = {places[m] for m in displaced[turn + 1 :] if places[m] >= 0}
            if places[n] < 0:
                assert not free | later
            else:
                assert all(rank(places[n], n) < rank(anchor, n) for anchor in free | later)
        for anchor in range(len(ANCHORS)):
            best = max(present, key=lambda n: (iou[n, anchor], -n), default=None)
            highest = -1 if best is None else iou[best, anchor]
            expected = best if highest >= 0.5 else tasks.IGNORED if highest >= 0.2 else tasks.BACKGROUND
            mine = np.flatnonzero(places == anchor)
            assert anchors[anchor] == (mine[0] if len(mine) else expected)
    assert {tasks.IGNORED, tasks.BACKGROUND} < set(objects.ravel())


@pytest.mark.parametrize("function", [assign, assign_with_neighbors, assign_to_anchors])
def test_what_stands_in_the_padding_changes_nothing(function):
    boxes, valid = scenes()
    expected = on_host(function, boxes, valid)
    noise = np.random.default_rng(1).uniform(-50, 50, boxes.shape).astype(np.float32)
    for filled in (np.where(valid[..., None], boxes, noise), np.where(valid[..., None], boxes, 0)):
        measured = on_host(function, filled, valid)
        np.testing.assert_array_equal(measured.objects, expected.objects)
        np.testing.assert_array_equal(measured.own, expected.own)


@pytest.mark.parametrize("function", [assign, assign_with_neighbors, assign_to_anchors])
def test_where_the_padding_stands_changes_nothing(function):
    boxes, valid = scenes()
    order = np.argsort(~valid, axis=1, kind="stable")  # objects first, in their order
    expected = on_host(function, boxes, valid)
    measured = on_host(function, np.take_along_axis(boxes, order[..., None], 1), np.take_along_axis(valid, order, 1))
    np.testing.assert_array_equal(measured.own, np.take_along_axis(expected.own, order, 1))
    answers = np.take_along_axis(order, np.maximum(measured.objects, 0), 1)
    np.testing.assert_array_equal(np.where(measured.objects >= 0, answers, measured.objects), expected.objects)


def test_sizes_at_the_limits_belong_to_the_coarser_level_and_the_default_limits_are_16_strides():
    levels = dense.grid_levels(256, 256, (8, 16, 32))
    sides = np.float32([0, 127, 128, 255, 256, 999])
    boxes = np.stack([128 - sides / 2, 128 - sides / 2, 128 + sides / 2, 128 + sides / 2], -1)
    alone = jax.jit(jax.vmap(lambda box: tasks.assign_cells(box[None], jnp.array([True]), levels).own[0]))(boxes)
    assert dense.cell_levels(levels)[np.array(alone)].tolist() == [0, 0, 1, 1, 2, 2]


def test_no_objects_are_all_background():
    for result in (
        tasks.assign_cells(jnp.zeros((0, 4)), jnp.zeros(0, bool), LEVELS),
        tasks.assign_anchors(jnp.zeros((0, 4)), jnp.zeros(0, bool), ANCHORS),
    ):
        assert (result.objects == tasks.BACKGROUND).all()
        assert result.objects.shape == (20,)
        assert result.own.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": jnp.zeros((2, 5))}, r"\(2, 5\)"),
        ({"valid": jnp.ones(3, bool)}, r"\(3,\)"),
        ({"valid": jnp.array([0, -1])}, "bool"),
        ({"limits": (1.0, 2.0)}, "2 levels"),
        ({"radius": -1.0}, "-1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.assign_cells(**{"boxes": jnp.zeros((2, 4)), "valid": jnp.ones(2, bool), "levels": LEVELS} | arguments)


def test_wrong_anchors_and_thresholds_are_refused():
    boxes, valid = jnp.zeros((2, 4)), jnp.ones(2, bool)
    with pytest.raises(ValueError, match="places"):
        tasks.assign_anchors(boxes, valid, jnp.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"0\.8"):
        tasks.assign_anchors(boxes, valid, ANCHORS, negative=0.8)
