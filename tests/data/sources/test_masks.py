"""Folders of images with masks: every kind of mask is read right or refused."""

import jax
import numpy as np
import pytest
from etude import data
from etude.data.sources.annotated.letterbox import Frame
from etude.errors import InputError, MissingFile
from PIL import Image

WANTED = np.array([[0, 1, 2], [2, 1, -1]])


def palette(values):
    image = Image.fromarray(values.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, *[9] * 759])
    return image


def rgb(values):
    colors = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [7, 7, 7]], np.uint8)
    return Image.fromarray(colors[values])


@pytest.fixture
def write(tmp_path):
    """(mask, …) -> name of a folder of 12 images that all have this mask."""

    def write(mask, *, suffix=".png", table=None, folder="masks", ending="", size=(3, 2), under=""):
        for each in ("images", folder):
            (tmp_path / under / each).mkdir(parents=True, exist_ok=True)
        for i in range(12):
            Image.new("RGB", size, (i, 0, 0)).save(tmp_path / under / "images" / f"{i}.png")
            mask.save(tmp_path / under / folder / f"{i}{ending}{suffix}")
        if table is not None:
            (tmp_path / "classes.csv").write_text(table)
        return f"folder:{tmp_path}"

    return write


@pytest.mark.parametrize(
    "mask",
    [
        palette(np.where(WANTED < 0, 255, WANTED)),
        Image.fromarray(np.where(WANTED < 0, 255, WANTED).astype(np.uint8)),
        Image.fromarray(np.where(WANTED < 0, 65535, WANTED).astype(np.uint16)),
        Image.fromarray(np.where(WANTED < 0, 255, WANTED).astype(np.uint8)).convert("RGB"),
        Image.fromarray(np.where(WANTED < 0, 255, WANTED).astype(np.uint8)).convert("RGBA"),
    ],
    ids=["palette", "8 bits", "16 bits", "gray RGB", "gray RGBA"],
)
def test_numbers_of_classes_are_read_as_they_are(write, mask):
    source = data.load(write(mask), "train")
    assert source.classes == ("0", "1", "2")
    assert source[0]["semantic"].tolist() == WANTED.tolist()
    assert source[0]["semantic"].dtype == np.int32


TABLE = "name,r,g,b\nsky,10,20,30\nroad,200,0,0\ntree,0,200,0\nvoid,7,7,7\n"


def test_colors_are_classes_by_a_table(write):
    source = data.load(write(rgb(WANTED), table=TABLE), "train")
    assert source.classes == ("sky", "road", "tree")
    assert source[0]["semantic"].tolist() == WANTED.tolist()


def test_values_are_classes_by_a_table(write):
    values = np.array([0, 128, 200, 255])[WANTED]
    source = data.load(write(Image.fromarray(values.astype(np.uint8)), table="sky,0\nroad,128\ntree,200\n"), "train")
    assert source[0]["semantic"].tolist() == WANTED.tolist()


def test_black_and_white_masks_are_background_and_foreground(write):
    two = np.array([[0, 255, 0], [255, 0, 0]], np.uint8)
    source = data.load(write(Image.fromarray(two), folder="label"), "train")
    assert source.classes == ("background", "foreground")
    assert source[0]["semantic"].tolist() == (two // 255).tolist()
    assert data.load(write(Image.fromarray(two > 0), folder="label"), "train").classes == ("0", "1")  # of 1 bit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": rgb(WANTED)}, r"color 200, 0, 0\).*classes.csv must say"),
        ({"mask": rgb(WANTED), "table": "sky,10,20,30\nroad,200,0,0\nvoid,7,7,7"}, "color 0, 200, 0.*does not have"),
        ({"mask": Image.fromarray(np.array([[0, 1, 3], [0, 0, 0]], np.uint8))}, "value 3.*without gaps"),
        ({"mask": Image.fromarray(np.zeros((2, 3), np.uint8))}, "1 classes"),
        ({"mask": Image.fromarray(np.zeros((3, 2), np.uint8))}, "is 3×2 pixels, and its mask .* 2×3"),
        ({"mask": Image.fromarray(np.zeros((2, 3), np.uint8)), "suffix": ".jpg"}, "is a JPEG; .* without loss"),
        ({"mask": Image.fromarray(np.zeros((2, 3), np.float32)), "suffix": ".tif"}, "mode F"),
        ({"mask": Image.new("RGBA", (3, 2), (1, 1, 1, 9))}, "mode RGBA.*opaque RGB"),
        ({"mask": rgb(WANTED), "table": "sky,10,20\n"}, "Line 1 .*name,r,g,b"),
        ({"mask": rgb(WANTED), "table": "sky,1\nsky,2\n"}, "Line 2 .*repeats"),
        ({"mask": rgb(WANTED), "ending": "_other"}, "has no mask 0.png"),
    ],
)
def test_a_mask_that_cannot_be_read_right_is_refused(write, options, message):
    with pytest.raises(InputError, match=message):
        data.load(write(**options), "train")


def test_a_photograph_is_no_mask(write):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    with pytest.raises(InputError, match="different values or colors"):
        data.load(write(Image.fromarray(noise), size=(40, 40)), "train")


def test_names_pair_without_suffix_and_with_the_usual_endings(write, tmp_path):
    name = write(palette(np.abs(WANTED)), ending="_mask", suffix=".gif")
    assert sum(len(data.load(name, split)) for split in ("train", "validation", "test")) == 12
    (tmp_path / "images" / "3.png").unlink()
    with pytest.raises(MissingFile, match=r"1 masks have no image .*3_mask.gif"):
        data.load(name, "train")


def test_splits_are_folders_above_or_below(write, tmp_path):
    mask = palette(np.abs(WANTED))
    for split in ("train", "val", "test"):
        write(mask, under=split)
    assert [len(data.load(f"folder:{tmp_path}", split)) for split in ("train", "validation", "test")] == [12, 12, 12]


def test_images_are_fitted_with_void_around(write):
    example = data.load(write(palette(np.where(WANTED < 0, 0, WANTED))), "train", image_size=6)[0]
    wanted = np.full((6, 6), -1)
    wanted[1:5] = np.where(WANTED < 0, 0, WANTED).repeat(2, 0).repeat(2, 1)
    assert example["semantic"].tolist() == wanted.tolist()
    assert (example["image"][[0, 5]] == 114).all()


@pytest.mark.parametrize("side", [3, 7, 8, 20])
def test_masks_are_resized_as_pillow_resizes_by_the_nearest_pixel(side):
    mask = np.random.default_rng(0).integers(0, 9, (7, 5), np.int32)
    square = Frame.of(7, 5, side)
    wanted = Image.fromarray(mask).resize(square.inner[::-1], Image.Resampling.NEAREST)
    fitted = square.mask(mask, -1)
    np.testing.assert_array_equal(fitted[:, fitted.max(0) >= 0], np.asarray(wanted))
    assert fitted.shape == (side, side)


def test_classes_called_images_without_masks_are_still_classes(image_folder):
    images = {f"{label}/{i}.png": ("RGB", (2, 2), (i, 0, 0)) for label in ("images", "drawings") for i in range(9)}
    assert data.load(f"folder:{image_folder(images)}", "train").classes == ("drawings", "images")


def test_membranes_are_read(real_data):
    path = real_data("isbi-membrane", "github.com/zhixuhao/unet")
    source = data.load(f"folder:{path}", "train")
    assert len(source) == 21
    assert source.classes == ("background", "foreground")
    example = source[0]
    assert example["image"].shape == (512, 512, 1)
    assert 0.1 < (example["semantic"] == 0).mean() < 0.4  # membranes are black


def test_regions_are_the_connected_pixels_of_one_class_and_stay_apart():
    semantic = np.array([[1, 1, 0, 1], [0, 1, 0, 2], [1, 0, -1, 2]], np.int32)
    spec = {"semantic": jax.ShapeDtypeStruct((3, 4), np.int32)}
    source = data.with_regions(data.Source("cells", "train", [{"semantic": semantic}], spec))
    assert source[0]["regions"].tolist() == [[1, 1, 0, 2], [0, 1, 0, 4], [3, 0, 0, 4]]
    assert source.element_spec["regions"].dtype == np.int32
    assert data.with_regions(source, background=1)[0]["regions"].max() == 4  # three of class 0, one of class 2
    with pytest.raises(ValueError, match="no classes of pixels"):
        data.with_regions(data.load("digits", "train"))
