"""Sets of TensorFlow Datasets: prepared from archives and read, without TensorFlow or the network."""

import dataclasses
import gzip
import hashlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etude import data
from etude.data import prepare
from etude.experiments import prepare as command
from PIL import Image

tfds: Any = importlib.import_module("tensorflow_datasets")  # its types are of little use
REAL_ARCHIVES = Path(__file__).parents[4] / "shared" / "data" / "fashion-mnist"
LABELED = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "label": tfds.features.ClassLabel(names=["a", "b"]),
}


@pytest.fixture
def fashion(archives, idx_splits, tmp_path):
    """The data_dir of a small fashion_mnist."""
    prepare.from_archives("fashion_mnist", archives, tmp_path / "tfds", splits=idx_splits)
    return tmp_path / "tfds"


def encoded(array, form="PNG", mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(array, np.uint8))
    (image.convert(mode) if mode else image).save(buffer, form)
    return buffer.getvalue()


def example(size=(4, 4), label=0, **more):
    return {"image": encoded(np.full((*size, 3), 9)), "label": label} | more


def everything_under(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*")) if path.exists() else []


# Preparing


def test_a_prepared_set_is_read_by_plain_tfds_pixel_for_pixel(fashion, pixels):
    for split, (images, labels) in pixels.items():
        plain = tfds.data_source("fashion_mnist", split=split, data_dir=fashion)
        assert len(plain) == len(images)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            np.testing.assert_array_equal(plain[i]["image"][..., 0], image)
            assert plain[i]["label"] == label


def test_a_prepared_set_has_the_metadata_that_tfds_gives_it(fashion):
    ours = tfds.builder_from_directory(fashion / "fashion_mnist" / "3.0.1").info
    theirs = tfds.builder("fashion_mnist", data_dir="nowhere").info
    assert ours.full_name == theirs.full_name == "fashion_mnist/3.0.1"
    assert ours.features["label"].names == theirs.features["label"].names
    assert ours.features["image"].shape == theirs.features["image"].shape
    assert ours.supervised_keys == theirs.supervised_keys
    assert ours.citation == theirs.citation
    assert {name: split.num_examples for name, split in ours.splits.items()} == {"train": 40, "test": 12}


def test_a_prepared_set_is_read_by_load_with_validation_carved_from_train(fashion, pixels):
    sources = {
        split: data.load("tfds:fashion_mnist", split, data_dir=fashion) for split in ("train", "validation", "test")
    }
    assert {split: len(source) for split, source in sources.items()} == {
        "train": 36,
        "validation": 4,
        "test": 12,
    }
    np.testing.assert_array_equal(sources["test"].arrays()["image"][..., 0], pixels["test"][0])
    np.testing.assert_array_equal(sources["test"].arrays()["label"], pixels["test"][1])
    both = [image.tobytes() for split in ("train", "validation") for image in sources[split].arrays()["image"]]
    assert sorted(both) == sorted(image.tobytes() for image in pixels["train"][0])
    assert sources["train"].classes[9] == "Ankle boot"


def test_one_example_equals_its_row_of_the_arrays(fashion):
    source = data.load("tfds:fashion_mnist", "train", data_dir=fashion)
    arrays = source.arrays()
    for i in (0, 17, 35):
        for name, spec in source.element_spec.items():
            np.testing.assert_array_equal(source[i][name], arrays[name][i])
            assert (source[i][name].shape, source[i][name].dtype) == (spec.shape, spec.dtype)


def test_nothing_else_is_left_beside_a_prepared_set(fashion):
    assert os.listdir(fashion) == ["fashion_mnist"]
    assert os.listdir(fashion / "fashion_mnist") == ["3.0.1"]


DAMAGES = {
    "missing": (lambda path: path.unlink(), FileNotFoundError),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-20]), ValueError),
    "bit-flipped": (lambda path: path.write_bytes(_flip(path.read_bytes())), ValueError),
    "no gzip": (lambda path: path.write_bytes(b"<html>not found</html>"), ValueError),
    "empty": (lambda path: path.write_bytes(b""), ValueError),
    "shortened inside": (lambda path: _edit(path, lambda c: c[:-1]), ValueError),
    "with too much inside": (lambda path: _edit(path, lambda c: c + b"\0"), ValueError),
    "of another type": (lambda path: _edit(path, lambda c: b"\0\0\x0d" + c[3:]), ValueError),
    "of another count": (lambda path: _edit(path, lambda c: c[:7] + b"\x07" + c[8:]), ValueError),
    "cut in the header": (lambda path: _edit(path, lambda c: c[:6]), ValueError),
}


def _flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _edit(path, change):
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_damaged_archive_is_named_and_nothing_is_written(archives, idx_splits, tmp_path, damage, file):
    do, error = DAMAGES[damage]
    do(archives / file)
    with pytest.raises(error, match=file):
        prepare.from_archives("fashion_mnist", archives, tmp_path / "tfds", splits=idx_splits)
    assert everything_under(tmp_path / "tfds") == []


def test_a_small_archive_that_unpacks_to_much_is_refused_without_unpacking_it(archives, idx_splits, tmp_path):
    _edit(archives / "t10k-labels-idx1-ubyte.gz", lambda content: content + bytes(2**27))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"t10k-labels.* holds more values, not the 12 of its header"):
        prepare.read_idx(archives / "t10k-labels-idx1-ubyte.gz", (12,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_a_label_that_is_no_class_is_refused(archives, idx_splits, tmp_path):
    _edit(archives / "t10k-labels-idx1-ubyte.gz", lambda c: c[:-1] + b"\x0a")
    with pytest.raises(ValueError, match=r"t10k-labels.* has a label 10, but there are 10 classes"):
        prepare.from_archives("fashion_mnist", archives, tmp_path / "tfds", splits=idx_splits)


def test_small_archives_are_no_whole_set(archives, tmp_path):
    with pytest.raises(ValueError, match=r"shape \[40, 28, 28\], not \[60000, 28, 28\]"):
        prepare.from_archives("fashion_mnist", archives, tmp_path / "tfds")


def test_a_failure_while_writing_leaves_nothing_half_written(archives, idx_splits, tmp_path):
    def fail_at_the_test_split(split, done, total):
        if split == "test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.from_archives(
            "fashion_mnist", archives, tmp_path / "tfds", splits=idx_splits, report=fail_at_the_test_split
        )
    assert everything_under(tmp_path / "tfds") == []


def test_a_folder_that_is_no_whole_set_is_not_touched(archives, idx_splits, tmp_path):
    (tmp_path / "tfds" / "fashion_mnist" / "3.0.1").mkdir(parents=True)
    with pytest.raises(ValueError, match="not a whole set"):
        prepare.from_archives("fashion_mnist", archives, tmp_path / "tfds", splits=idx_splits)
    assert everything_under(tmp_path / "tfds") == ["fashion_mnist", "fashion_mnist/3.0.1"]


def test_a_data_dir_that_cannot_be_written_is_named(archives, idx_splits, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"file/tfds can't be written"):
        prepare.from_archives("fashion_mnist", archives, tmp_path / "file" / "tfds", splits=idx_splits)


def test_archives_that_tfds_knows_as_another_sets_are_refused(archives, idx_splits, tmp_path, monkeypatch):
    file = archives / "train-labels-idx1-ubyte.gz"
    known = next(iter(tfds.builder_cls("kmnist").url_infos.values()))
    info = dataclasses.replace(known, checksum=hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(tfds.builder_cls("kmnist"), "url_infos", {"http://here": info})
    with pytest.raises(ValueError, match=r"train-labels.* is an archive of tfds:kmnist, not of tfds:fashion_mnist"):
        prepare.from_archives("fashion_mnist", archives, tmp_path / "tfds", splits=idx_splits)
    prepare.from_archives("kmnist", archives, tmp_path / "tfds", splits=idx_splits)


@pytest.mark.parametrize("name", ["mnist", "kmnist"])
def test_the_rest_of_the_family_is_prepared_alike(archives, idx_splits, tmp_path, pixels, name):
    folder = prepare.from_archives(name, archives, tmp_path / "tfds", splits=idx_splits)
    assert folder.parts[-2] == name
    source = data.load(f"tfds:{name}", "test", data_dir=tmp_path / "tfds")
    np.testing.assert_array_equal(source.arrays()["image"][..., 0], pixels["test"][0])


# The command


def test_the_command_names_the_folder_and_does_not_write_it_again(archives, idx_splits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "MNIST_LIKE", idx_splits)
    config = command.Config("tfds:fashion_mnist", archives, tmp_path / "tfds")
    command.main(config)
    folder = tmp_path / "tfds" / "fashion_mnist" / "3.0.1"
    assert f"wrote {folder}" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    shutil.rmtree(archives)
    command.main(config)
    assert f"already prepared in {folder}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnist", "tfds:<name>; got 'fashion_mnist'"),
        ("tfds:fashion_mnst", "no set 'fashion_mnst'.*fashion_mnist"),
        ("tfds:cifar10", r"pip install 'etude\[prepare\]'"),
        ("tfds:mnist", r"--archives DIR, or install TensorFlow"),
    ],
)
def test_the_command_says_what_it_wants(name, message, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where TensorFlow is not installed
    with pytest.raises(ValueError, match=message):
        command.main(command.Config(name, data_dir=tmp_path))


def test_archives_of_a_set_that_is_not_made_from_any_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only for mnist, fashion_mnist, kmnist"):
        command.main(command.Config("tfds:cifar10", tmp_path, tmp_path))


def test_other_sets_are_prepared_by_tfds_as_array_record(tmp_path, monkeypatch):
    calls = []

    class Builder:
        data_dir = str(tmp_path / "cifar10" / "3.0.2")

        def download_and_prepare(self):
            calls.append("prepared")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "tensorflow")
    monkeypatch.setattr(tfds, "builder", lambda name, **options: calls.append((name, options)) or Builder())
    assert prepare.by_tensorflow("cifar10", tmp_path) == tmp_path / "cifar10" / "3.0.2"
    assert calls == [("cifar10", {"data_dir": tmp_path, "file_format": "array_record"}), "prepared"]


# Reading


def test_a_set_that_is_not_prepared_fails_with_the_command_that_gets_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=f"etude prepare tfds:fashion_mnist --archives DIR --data-dir {tmp_path}"
    ):
        data.load("tfds:fashion_mnist", "train", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"etude prepare tfds:cifar10 .*pip install 'etude\[prepare\]'"):
        data.load("tfds:cifar10", "train", data_dir=tmp_path)


def test_a_set_that_tfds_does_not_have_is_an_error_with_near_names(tmp_path):
    with pytest.raises(ValueError, match=r"no set 'cifar1O'. Similar names are cifar10"):
        data.load("tfds:cifar1O", "train", data_dir=tmp_path)


def test_preparing_and_reading_touch_neither_tensorflow_nor_the_network(archives, tmp_path):
    code = f"""
import socket, sys, time
def refuse(*arguments): raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from pathlib import Path
from etude import data
from etude.data import prepare
import tensorflow_datasets
start = time.process_time()
for name in ("tfds:fashion_mnist", "tfds:imagenet2012", "tfds:nonsense"):
    try:
        data.load(name, "train", data_dir={str(tmp_path)!r})
    except (FileNotFoundError, ValueError) as error:
        print(type(error).__name__)
print("fast" if time.process_time() - start < 2 else "slow")
splits = {{"test": prepare.IdxSplit("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", 12)}}
splits["train"] = prepare.IdxSplit("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", 40)
prepare.from_archives("fashion_mnist", Path({str(archives)!r}), {str(tmp_path)!r}, splits=splits)
source = data.load("tfds:fashion_mnist", "train", data_dir={str(tmp_path)!r})
batch = next(data.stream(source, batch_size=8, seed=0))
print(source.arrays()["image"].shape, batch["image"].shape, "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:5] == [
        "MissingFile",
        "MissingFile",
        "InputError",
        "fast",
        "(36, 28, 28, 1) (8, 28, 28, 1) False",
    ]


def test_images_of_no_fixed_size_need_an_image_size(write_set):
    sizes = [(10, 20), (20, 10), (5, 5), (8, 9)]
    path = write_set("mine", LABELED, {"train": [example(size) for size in sizes * 3]})
    with pytest.raises(ValueError, match=r"differ in size.*--image-size"):
        data.load("tfds:mine", "train", data_dir=path)
    assert data.load("tfds:mine", "train", data_dir=path, image_size=6).arrays()["image"].shape == (
        10,
        6,
        6,
        3,
    )


@pytest.mark.parametrize(("form", "mode"), [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P")])
def test_odd_files_among_color_images_come_out_as_the_set_promises(write_set, form, mode):
    gray = np.full((8, 8, 3), 100)
    path = write_set("mine", LABELED, {"train": [{"image": encoded(gray, form, mode), "label": 1}] * 12})
    image = data.load("tfds:mine", "train", data_dir=path, image_size=8)[0]["image"]
    np.testing.assert_allclose(image.astype(int), gray, atol=3)  # JPEG and palettes round


def test_what_else_examples_have_is_left_out(write_set):
    features = LABELED | {"id": tfds.features.Text(), "image": tfds.features.Image(shape=(4, 4, 3))}
    path = write_set("mine", features, {"train": [example(id=str(i), label=i % 2) for i in range(20)]})
    source = data.load("tfds:mine", "train", data_dir=path)
    assert source[0].keys() == {"image", "label"}
    assert source.classes == ("a", "b")


def test_a_validation_split_is_the_test_split_of_a_set_whose_test_labels_are_secret(write_set):
    train, validation = [example(label=0)] * 20, [example(label=1)] * 5
    hidden = [example(label=-1)] * 4
    path = write_set("mine", LABELED, {"train": train, "validation": validation, "test": hidden})
    sources = {s: data.load("tfds:mine", s, data_dir=path, image_size=4) for s in ("train", "validation", "test")}
    assert {s: len(source) for s, source in sources.items()} == {"train": 18, "validation": 2, "test": 5}
    assert set(sources["test"].arrays()["label"]) == {1}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"text": tfds.features.Text()}, r"it has text \(Text\)"),
        ({"image": tfds.features.Image(shape=(4, 4, 3))}, r"it has image \(Image\)"),
        (
            {"image": tfds.features.Tensor(shape=(4, 4), dtype=np.uint8), "label": LABELED["label"]},
            r"image \(Tensor\)",
        ),
        (
            {"image": tfds.features.Image(shape=(4, 4, 1), dtype=np.uint16), "label": LABELED["label"]},
            "uint16",
        ),
        (
            {"image": tfds.features.Image(shape=(None, 4, 4, 3)), "label": LABELED["label"]},
            "uint8 of rank 3.*of rank 4",
        ),
    ],
)
def test_a_set_that_is_not_one_of_labeled_images_is_refused_by_its_features(write_set, features, message):
    path = write_set("mine", features, {"train": []})
    with pytest.raises(ValueError, match=message):
        data.load("tfds:mine", "train", data_dir=path)


BOXED = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "objects": tfds.features.Sequence(
        {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "is_crowd": np.bool_,
        }
    ),
}


def boxed(size, *objects):
    """An example of an image of (height, width) and of (top, left, bottom, right, label, crowd), in parts of it."""
    rows = [
        {"bbox": tfds.features.BBox(*map(float, each[:4])), "label": each[4], "is_crowd": each[5]} for each in objects
    ]
    return {"image": encoded(np.full((*size, 3), 9)), "objects": rows}


def test_boxes_are_read_in_pixels_and_fitted_with_their_image(write_set):
    examples = [
        boxed((20, 40), (0.1, 0.25, 0.6, 0.5, 1, False), (0, 0, 1, 1, 0, True), (0.5, 0.5, 0.5, 0.9, 0, False)),
        boxed((40, 20)),
    ]
    path = write_set("mine", BOXED, {"train": examples * 10, "validation": examples, "test": [boxed((4, 4))] * 3})
    sources = {
        split: data.load("tfds:mine", split, data_dir=path, image_size=20) for split in ("train", "validation", "test")
    }
    assert {split: len(source) for split, source in sources.items()} == {"train": 18, "validation": 2, "test": 2}
    source = sources["test"]  # the stored validation split, since the stored test split has no objects
    assert (source.classes, source.is_thing) == (("cat", "dog"), (True, True))
    wide = source[0]
    assert wide["image"].shape == (20, 20, 3)
    assert (wide["image"][:5] == 114).all()  # 40×20 pixels become 20×10, in the middle
    assert (wide["image"][5:15] == 9).all()
    assert wide["labels"][:3].tolist() == [1, 0, -1]  # the third has no area
    np.testing.assert_allclose(wide["boxes"][:2], [[5, 6, 10, 11], [0, 5, 20, 15]], atol=1e-5)
    assert wide["crowd"][:3].tolist() == [False, True, False]
    assert (source[1]["labels"] == -1).all()
    assert source.arrays()["boxes"].shape == (2, 100, 4)


def test_masks_of_pets_are_classes_of_pixels_and_their_breeds_stay_labels(write_set):
    features = LABELED | {"segmentation_mask": tfds.features.Image(shape=(None, None, 1))}
    mask = np.repeat([[1, 2, 3, 1]], 4, 0)[..., None]
    values = {"segmentation_mask": encoded(mask[..., 0]), **example()}
    path = write_set("oxford_iiit_pet", features, {"train": [values] * 10, "test": [values] * 2})
    pets = data.load("tfds:oxford_iiit_pet#segmentation_mask", "test", data_dir=path, image_size=4)
    assert pets.classes == ("pet", "background", "border")
    assert pets[0]["semantic"].tolist() == (mask[..., 0] - 1).tolist()
    breeds = data.load("tfds:oxford_iiit_pet", "test", data_dir=path, image_size=4)
    assert (breeds.classes, breeds[0].keys()) == (("a", "b"), {"image", "label"})


def test_a_part_that_a_set_has_not_is_refused_with_those_that_there_are(write_set):
    path = write_set("mine", LABELED, {"train": [example()] * 4})
    for part in ("objects", "segmentation_mask", "poses"):
        with pytest.raises(ValueError, match=f"no part '{part}' that is known; parts are objects"):
            data.load(f"tfds:mine#{part}", "train", data_dir=path, image_size=4)


def test_a_missing_shard_is_named(fashion):
    next((fashion / "fashion_mnist" / "3.0.1").glob("*train*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"fashion_mnist-train.*is missing: delete"):
        data.load("tfds:fashion_mnist", "train", data_dir=fashion)


def test_a_set_in_a_format_without_random_access_is_refused(fashion):
    info = fashion / "fashion_mnist" / "3.0.1" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match=r"as tfrecord, which can't be read by index; .*etude prepare"):
        data.load("tfds:fashion_mnist", "train", data_dir=fashion)


# The real thing


@pytest.mark.slow
@pytest.mark.skipif(not REAL_ARCHIVES.is_dir(), reason=f"needs the Fashion-MNIST archives in {REAL_ARCHIVES}")
def test_the_real_fashion_mnist_is_prepared_whole(tmp_path):
    start = time.process_time()
    prepare.from_archives("fashion_mnist", REAL_ARCHIVES, tmp_path)
    assert time.process_time() - start < 60  # 7 s on an idle machine
    images = np.frombuffer(
        gzip.decompress((REAL_ARCHIVES / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
    )
    labels = np.frombuffer(
        gzip.decompress((REAL_ARCHIVES / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
    )
    test = data.load("tfds:fashion_mnist", "test", data_dir=tmp_path).arrays()
    np.testing.assert_array_equal(test["image"].ravel(), images)
    np.testing.assert_array_equal(test["label"], labels)
    assert np.bincount(test["label"]).tolist() == [1000] * 10
    assert len(data.load("tfds:fashion_mnist", "train", data_dir=tmp_path)) == 54_000
    assert len(data.load("tfds:fashion_mnist", "validation", data_dir=tmp_path)) == 6_000
