"""Folders of images as data sets."""

import os

import numpy as np
import pytest
from etude import data
from PIL import Image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def flat(images, n, label, color=RED, mode="RGB", size=(4, 4)):
    return images | {f"{label}/{i:02}.png": (mode, size, color) for i in range(n)}


def test_a_folder_of_classes_is_carved_so_that_each_file_is_in_one_split(image_folder):
    colors = {f"{label}/{i}.png": ("RGB", (2, 2), (i, j, 0)) for j, label in enumerate("ab") for i in range(25)}
    sources = [data.load(f"folder:{image_folder(colors)}", split) for split in ("train", "validation", "test")]
    found = [tuple(image[0, 0]) for source in sources for image in source.arrays()["image"]]
    assert min(len(source) for source in sources) >= 2
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
    ("mode", "color", "channels"),
    [("L", 7, 1), ("1", 1, 1), ("LA", (7, 9), 1), ("RGB", RED, 3), ("RGBA", (*RED, 9), 3)],
)
def test_images_are_gray_if_all_are(image_folder, mode, color, channels):
    source = data.load(f"folder:{image_folder(flat({}, 10, 'a', color, mode))}", "train")
    assert source.element_spec["image"].shape == source[0]["image"].shape == (4, 4, channels)


def test_gray_files_among_color_ones_become_color_wherever_they_are(image_folder):
    images = flat(flat({}, 10, "a", 7, "L"), 10, "b") | {"b/odd.png": ("RGB", (4, 4), RED)}
    source = data.load(f"folder:{image_folder(images)}", "train")
    arrays = source.arrays()
    assert arrays["image"].shape[1:] == (4, 4, 3)
    assert (arrays["image"][arrays["label"] == 0] == 7).all()
    assert (arrays["image"][arrays["label"] == 1] == RED).all()


def test_a_folder_holds_what_classify_reads_of_each_file(image_folder):
    # Turned, transparent, of 16 bits, of 16 bits in color, for print: the kinds that were read in two ways.
    path, exif = image_folder(flat({}, 20, "a", 7, "L")), Image.Exif()
    exif[274] = 6
    ramp = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    color = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8))
    Image.fromarray(ramp).save(path / "a" / "deep.png")
    Image.fromarray(ramp).save(path / "a" / "deep.tif")
    color.save(path / "a" / "turned.jpg", exif=exif)
    color.convert("CMYK").save(path / "a" / "print.jpg")
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(path / "a" / "hole.png")
    seen = {}
    for split in ("train", "validation", "test"):
        source = data.load(f"folder:{path}", split)
        seen |= {file.name: source[i]["image"] for i, (file, _) in enumerate(source.records.files)}
    for name in ("deep.png", "deep.tif", "turned.jpg", "print.jpg", "hole.png"):
        np.testing.assert_array_equal(seen[name], np.asarray(data.read_image(path / "a" / name, channels=3)), name)
    assert len(np.unique(seen["deep.png"])) == 16
    assert (seen["hole.png"] == 255).all()


def names_of(path):
    return {
        file.name: split
        for split in ("train", "validation", "test")
        for file, _ in data.load(f"folder:{path}", split).records.files
    }


def test_a_file_that_is_added_moves_no_other(image_folder):
    path = image_folder({f"{label}/{label}{i:03}.png": ("L", (1, 1), 7) for label in "ab" for i in range(150)})
    before = names_of(path)
    Image.new("L", (1, 1)).save(path / "a" / "a.png")  # the first by its name
    after = names_of(path)
    assert after.pop("a.png")
    assert after == before
    assert 20 <= list(before.values()).count("test") <= 45


def test_image_size_resizes_the_shorter_side_and_crops_the_center(image_folder):
    path = image_folder(flat({}, 10, "a", size=(4, 4)))
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 3:9] = 200  # the central square, and what antialiasing sees beside it
    for file in (path / "a").iterdir():
        Image.fromarray(wide).save(file)
    source = data.load(f"folder:{path}", "train", image_size=2)
    assert source[0]["image"].shape == (2, 2, 3)
    assert (source[0]["image"] == 200).all()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_image_of_another_size_is_named_by_whichever_split_is_loaded(image_folder, split):
    path = image_folder(flat({}, 10, "a") | {"b/odd.png": ("RGB", (4, 5), RED)})
    with pytest.raises(ValueError, match=r"b/odd\.png is 4×5 pixels where 4×4 were expected.*--image-size"):
        data.load(f"folder:{path}", split)


@pytest.mark.parametrize("damage", ["truncate", "replace"])
@pytest.mark.parametrize("small", [True, False])
def test_unreadable_images_are_named_by_whichever_split_is_loaded(image_folder, monkeypatch, damage, small):
    monkeypatch.setattr("etude.data.sources.files.SMALL", 10**9 if small else 0)
    path = image_folder(flat({}, 10, "a", size=(64, 64)))
    for number in (2, 3, 5, 7, 8):
        file = path / "a" / f"{number:02}.png"
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"no image")
    for split in ("train", "validation", "test"):
        with pytest.raises(ValueError, match=r"a/02\.png can't be .*a/03\.png .*a/05\.png .* 2 more files\. Repair"):
            data.load(f"folder:{path}", split)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, r"05\.png is a named pipe"),
        (lambda file: file.write_bytes(b"P5 20000 20000 255\n"), r"05\.png has more than 178,956,970 pixels"),
        (lambda file: file.write_bytes(b"P6 " + b"9" * 5000), r"05\.png can't be read as an image"),
        (
            lambda file: file.write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"),
            r"05\.png can't be read as an image",
        ),
        (lambda file: Image.new("F", (4, 4)).save(file, "TIFF"), r"05\.png has pixels of 32 bits or floating point"),
        (lambda file: Image.new("I", (4, 4)).save(file, "TIFF"), r"05\.png has pixels of 32 bits or floating point"),
    ],
)
def test_what_is_no_image_that_can_be_read_is_named_before_training(image_folder, monkeypatch, small, make, message):
    monkeypatch.setattr("etude.data.sources.files.SMALL", 10**9 if small else 0)
    path = image_folder(flat({}, 10, "a"))
    (path / "a" / "05.png").unlink()
    make(path / "a" / "05.png")
    for split in ("train", "validation", "test"):
        with pytest.raises(ValueError, match=message):
            data.load(f"folder:{path}", split)


def test_pixels_that_are_damaged_in_the_middle_are_found_in_a_small_folder(image_folder):
    path = image_folder(flat({}, 10, "a", size=(64, 64)))
    content = bytearray((path / "a/04.png").read_bytes())
    content[60] ^= 255
    (path / "a/04.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a/04\.png can't be read"):
        data.load(f"folder:{path}", "train")


def test_files_are_checked_once_if_there_is_a_memory(image_folder, tmp_path):
    path, calls = image_folder(flat({}, 10, "a")), []

    def load(split="train"):
        calls.clear()
        return data.load(f"folder:{path}", split, memory=tmp_path / "memory", report=lambda *x: calls.append(x))

    first = load()
    assert calls == [(i, 10) for i in range(1, 11)]
    again = load("test")
    assert not calls
    assert again.contents == first.contents
    Image.new("RGB", (4, 4), BLUE).save(path / "a/05.png")
    changed = load()
    assert calls == [(10, 10)]
    assert {name for name in first.contents if first.contents[name] != changed.contents[name]} == {"a/05.png"}
    next((tmp_path / "memory").iterdir()).write_text("{damaged")
    assert load().contents == changed.contents
    assert len(calls) == 10


def test_a_memory_that_cannot_be_written_is_only_not_there(image_folder, tmp_path):
    (tmp_path / "file").write_text("")
    path = image_folder(flat({}, 10, "a"))
    assert data.load(f"folder:{path}", "train", memory=tmp_path / "file" / "memory").classes == ("a",)


def test_other_files_beside_the_images_are_no_examples(image_folder):
    path = image_folder(flat({}, 10, "a"))
    (path / "a" / "notes.txt").write_text("no image")
    (path / "a" / ".hidden.png").write_text("no image")
    assert len(data.load(f"folder:{path}", "train")) == 8


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        data.load(f"folder:{tmp_path / 'nowhere'}", "train")


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no images in class folders"):
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


def test_a_message_about_many_classes_names_ten(image_folder):
    images = flat({}, 2, "test/a")
    for i in range(40):
        images = flat(images, 1, f"train/class{i:02}")
    with pytest.raises(ValueError, match=r"differ in their class folders: a, class00, .* class08 … and 31 more\.$"):
        data.load(f"folder:{image_folder(images)}", "train")


def test_a_test_folder_without_a_train_folder_is_refused(image_folder):
    with pytest.raises(ValueError, match="no folder train"):
        data.load(f"folder:{image_folder(flat({}, 2, 'test/a'))}", "test")


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("validation", ["val", "Valid", "validation", "eval"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_folders_of_splits_have_their_usual_names_in_any_case(image_folder, train, validation, test):
    counts = {f"{train}/a": 6, f"{validation}/a": 3, f"{test}/a": 2}
    images = {}
    for folder, count in counts.items():
        images = flat(images, count, folder)
    path = f"folder:{image_folder(images)}"
    assert [len(data.load(path, split)) for split in ("train", "validation", "test")] == [6, 3, 2]


def test_of_train_and_val_alone_val_is_the_test_split_as_in_imagenet(image_folder):
    path = image_folder(flat(flat({}, 30, "train/a"), 7, "val/a", BLUE))
    assert (data.load(f"folder:{path}", "test").arrays()["image"] == BLUE).all()
    carved = [len(data.load(f"folder:{path}", split)) for split in ("train", "validation")]
    assert sum(carved) == 30
    assert min(carved) >= 1


def test_two_folders_of_one_split_are_refused(image_folder):
    path = image_folder(flat(flat(flat({}, 2, "train/a"), 2, "val/a"), 2, "valid/a"))
    with pytest.raises(ValueError, match="2 folders of the validation split: val, valid"):
        data.load(f"folder:{path}", "train")


@pytest.mark.parametrize("name", ["train", "Test", "val"])
def test_a_class_may_be_called_like_a_split(image_folder, name):
    path = image_folder(flat(flat({}, 10, name), 10, "car"))
    assert set(data.load(f"folder:{path}", "train").classes) == {name, "car"}


def test_a_folder_that_can_be_read_in_two_ways_is_refused(image_folder):
    path = image_folder(flat(flat(flat({}, 2, "train/a"), 2, "test/a"), 2, "car"))
    with pytest.raises(ValueError, match=r"two ways: test, train hold class folders.*car beside them"):
        data.load(f"folder:{path}", "train")


def test_a_test_folder_without_class_folders_is_named(image_folder):
    path = image_folder(flat(flat({}, 20, "train/a"), 2, "test"))
    with pytest.raises(ValueError, match="/test has no class folders"):
        data.load(f"folder:{path}", "train")


def test_images_in_nested_folders_belong_to_the_class(image_folder):
    path = image_folder(flat(flat(flat({}, 10, "a/north"), 10, "a/south/deep"), 10, "b"))
    sources = [data.load(f"folder:{path}", split) for split in ("train", "validation", "test")]
    labels = np.concatenate([source.arrays()["label"] for source in sources])
    assert np.bincount(labels).tolist() == [20, 10]


@pytest.mark.parametrize("junk", ["__MACOSX", ".ipynb_checkpoints", "@eaDir"])
def test_folders_that_systems_make_are_no_classes(image_folder, junk):
    path = image_folder(flat(flat({}, 10, "a"), 3, f"{junk}/a") | {f"a/{junk}/x.png": ("RGB", (9, 9), RED)})
    source = data.load(f"folder:{path}", "train")
    assert source.classes == ("a",)
    assert not source.notes


def test_what_is_left_out_is_counted(image_folder):
    path = image_folder(flat({}, 10, "a") | {"loose.png": ("RGB", (4, 4), RED)})
    for name in ("1.heic", "2.heic", "notes.txt"):
        (path / "a" / name).write_text("")
    source = data.load(f"folder:{path}", "train")
    assert source.notes == (
        "Left out, since outside of class folders: 1 image.",
        "Left out, since no images by their suffix: 3 files (2 .heic, 1 .txt).",
    )


def test_a_link_in_a_circle_is_refused(image_folder):
    path = image_folder(flat({}, 10, "a"))
    (path / "a" / "again").symlink_to(path / "a")
    with pytest.raises(ValueError, match="a/again is a link to a folder that it is in"):
        data.load(f"folder:{path}", "train")


def test_a_class_name_that_is_no_text_is_refused(image_folder):
    path = image_folder(flat({}, 10, "a"))
    os.rename(path / "a", os.fsencode(path) + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"caf\\xe9 is no text in UTF-8; rename it"):
        data.load(f"folder:{path}", "train")


def test_a_file_name_that_is_no_text_is_read(image_folder, tmp_path):
    path = image_folder(flat({}, 10, "a"))
    os.rename(path / "a/03.png", os.fsencode(path) + b"/a/caf\xe9.png")
    total = [len(data.load(f"folder:{path}", s, memory=tmp_path / "m")) for s in ("train", "validation", "test")]
    assert sum(total) == 10
