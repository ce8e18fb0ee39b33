"""Folders of images as data sets."""

import numpy as np
import pytest
from etude import data

RED, BLUE = (255, 0, 0), (0, 0, 255)


def flat(images, n, label, color=RED, mode="RGB", size=(4, 4)):
    return images | {f"{label}/{i:02}.png": (mode, size, color) for i in range(n)}


def test_a_folder_of_classes_is_carved_so_that_each_file_is_in_one_split(image_folder):
    colors = {f"{label}/{i}.png": ("RGB", (2, 2), (i, j, 0)) for j, label in enumerate("ab") for i in range(25)}
    sources = [data.load(f"folder:{image_folder(colors)}", split) for split in ("train", "validation", "test")]
    found = [tuple(image[0, 0]) for source in sources for image in source.arrays()["image"]]
    assert [len(source) for source in sources] == [40, 5, 5]
    assert sorted(found) == sorted(color for _, _, color in colors.values())


def test_classes_are_numbered_by_name_and_hold_their_own_images(image_folder):
    path = image_folder(flat(flat({}, 20, "zebra", RED), 20, "ant", BLUE))
    source = data.load(f"folder:{path}", "train")
    arrays = source.arrays()
    assert source.classes == ("ant", "zebra")
    assert {
        (int(label), tuple(image[0, 0])) for image, label in zip(arrays["image"], arrays["label"], strict=True)
    } == {
        (0, BLUE),
        (1, RED),
    }


def test_stored_splits_are_taken_as_they_are(image_folder):
    images = {}
    for number, (split, n) in enumerate({"train": 6, "validation": 3, "test": 2}.items()):
        images = flat(images, n, f"{split}/a", (number, 0, 0))
    path = image_folder(images)
    for number, (split, n) in enumerate({"train": 6, "validation": 3, "test": 2}.items()):
        assert data.load(f"folder:{path}", split).arrays()["image"][:, 0, 0, 0].tolist() == [number] * n


@pytest.mark.parametrize(
    ("mode", "color", "channels"), [("L", 7, 1), ("1", 1, 1), ("RGB", RED, 3), ("RGBA", (*RED, 9), 3)]
)
def test_images_are_gray_only_if_the_first_is(image_folder, mode, color, channels):
    source = data.load(f"folder:{image_folder(flat({}, 10, 'a', color, mode))}", "train")
    assert source.element_spec["image"].shape == source[0]["image"].shape == (4, 4, channels)


def test_image_size_resizes_the_shorter_side_and_crops_the_center(image_folder):
    path = image_folder(flat({}, 10, "a", size=(4, 4)))
    from PIL import Image

    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 3:9] = 200  # the central square, and what antialiasing sees beside it
    for file in (path / "a").iterdir():
        Image.fromarray(wide).save(file)
    source = data.load(f"folder:{path}", "train", image_size=2)
    assert source[0]["image"].shape == (2, 2, 3)
    assert (source[0]["image"] == 200).all()


def test_an_image_of_another_size_is_named(image_folder):
    path = image_folder(flat({}, 10, "a") | {"b/odd.png": ("RGB", (4, 5), RED)})
    messages = []
    for split in ("train", "validation", "test"):
        try:
            data.load(f"folder:{path}", split).arrays()
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) == 1
    assert "b/odd.png is 4×5 pixels where 4×4 were expected" in messages[0]
    assert "--image-size" in messages[0]


@pytest.mark.parametrize("damage", ["truncate", "replace"])
def test_an_unreadable_image_is_named(image_folder, damage):
    path = image_folder(flat({}, 10, "a", size=(64, 64)))
    for file in sorted((path / "a").iterdir())[1:]:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"no image")
    with pytest.raises(ValueError, match=r"a/\d\d\.png can't be read as an image"):
        data.load(f"folder:{path}", "train").arrays()


def test_an_unreadable_first_image_is_named(image_folder):
    path = image_folder(flat({}, 10, "a"))
    (path / "a" / "00.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a/00\.png can't be read"):
        data.load(f"folder:{path}", "train")


def test_other_files_beside_the_images_are_no_examples(image_folder):
    path = image_folder(flat({}, 10, "a"))
    (path / "a" / "notes.txt").write_text("no image")
    (path / "a" / ".hidden.png").write_text("no image")
    assert len(data.load(f"folder:{path}", "train")) == 8


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        data.load(f"folder:{tmp_path / 'nowhere'}", "train")


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no class folders"):
        data.load(f"folder:{tmp_path}", "train")


def test_an_empty_class_is_refused(image_folder):
    path = image_folder(flat({}, 10, "a"))
    (path / "b").mkdir()
    with pytest.raises(ValueError, match="/b has no images"):
        data.load(f"folder:{path}", "train")


def test_splits_that_differ_in_their_classes_are_refused(image_folder):
    path = image_folder(flat(flat(flat({}, 2, "train/a"), 2, "train/b"), 2, "test/a"))
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="differ in their class folders: b"):
            data.load(f"folder:{path}", split)


def test_a_test_folder_without_a_train_folder_is_refused(image_folder):
    with pytest.raises(ValueError, match="no folder train"):
        data.load(f"folder:{image_folder(flat({}, 2, 'test/a'))}", "test")
