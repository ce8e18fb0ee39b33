"""Sources: the embedded digits, names, and what a source says about itself."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from etude import data
from etude.data import Source, image_spec
from sklearn.datasets import load_digits

SPLITS = ("train", "validation", "test")


class Records(list):
    """Records in a list."""


def source_of(images, name="made"):
    images = np.asarray(images, np.uint8)
    records = Records({"image": image, "label": np.int32(i)} for i, image in enumerate(images))
    return Source(name, "train", records, image_spec(*images.shape[1:]), ("a",))


def test_the_splits_of_digits_are_the_whole_set_and_share_no_example():
    pixels, labels = load_digits(return_X_y=True)
    whole = sorted(
        (*(image * 255 / 16).round().astype(int), label) for image, label in zip(pixels, labels, strict=True)
    )
    arrays = [data.load("digits", split).arrays() for split in SPLITS]
    found = sorted(
        (*image.ravel().astype(int), label) for a in arrays for image, label in zip(a["image"], a["label"], strict=True)
    )
    assert len(set(whole)) == len(whole) == 1797  # no duplicates, so equality below means disjoint and covering
    assert found == whole


def test_every_split_of_digits_has_the_classes_in_proportion():
    for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
        labels = data.load("digits", split).arrays()["label"]
        whole = np.bincount(load_digits(return_X_y=True)[1])
        np.testing.assert_allclose(np.bincount(labels), share * whole, atol=1.1)  # rounded in two parts of three


def test_the_held_out_digits_are_the_same_for_ever():
    # If this fails, results from before and after the change can't be compared.
    assert [len(data.load("digits", split)) for split in SPLITS] == [1259, 179, 359]
    assert data.load("digits", "test").arrays()["label"][:12].tolist() == TEST_LABELS


TEST_LABELS = [2, 3, 6, 1, 4, 5, 6, 7, 4, 5, 9, 7]


@pytest.mark.parametrize("image_size", [None, 20])
def test_an_example_is_what_element_spec_says(image_size):
    source = data.load("digits", "validation", image_size=image_size)
    side = image_size or 8
    assert source.element_spec["image"] == jax.ShapeDtypeStruct((side, side, 1), np.uint8)
    assert source.element_spec["label"] == jax.ShapeDtypeStruct((), np.int32)
    for name, spec in source.element_spec.items():
        assert source[3][name].shape == spec.shape
        assert source[3][name].dtype == spec.dtype


def test_nbytes_is_the_size_of_the_arrays():
    source = data.load("digits", "test")
    assert source.nbytes == sum(array.nbytes for array in source.arrays().values())


def test_an_index_outside_of_a_source_is_an_index_error():
    source = data.load("digits", "test")
    for index in (-1, len(source)):
        with pytest.raises(IndexError, match=f"not {index}"):
            source[index]


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8, 3)])
def test_images_of_another_rank_are_refused_where_images_are_needed(shape):
    spec = {"image": jax.ShapeDtypeStruct(shape, np.uint8), "label": jax.ShapeDtypeStruct((), np.int32)}
    odd = Source("odd", "train", Records(), spec, ("a",))
    for use in (data.require_images, data.moments):
        with pytest.raises(ValueError, match=rf"those of odd are uint8 of rank {len(shape)}"):
            use(odd)


@pytest.mark.parametrize("threads", [1, 3])
def test_read_gives_the_examples_asked_for_in_their_order(threads):
    source = source_of(np.arange(600).reshape(-1, 1, 1, 1) % 251)
    indices = np.array([599, 0, 7, 7, *range(300)])
    np.testing.assert_array_equal(source.read(indices, num_threads=threads)["label"], indices)
    np.testing.assert_array_equal(source.read(indices, num_threads=threads)["image"].ravel(), indices % 251)


def test_arrays_of_large_images_are_those_of_the_examples():  # read by threads
    source = source_of(np.random.default_rng(0).integers(0, 256, (5, 100, 100, 3)))
    np.testing.assert_array_equal(source.arrays()["image"], [source[i]["image"] for i in range(5)])


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("digit", "train", "Did you mean digits"),
        ("digits:2", "train", "Valid are: digits, scenes.*, tfds:<name>"),
        ("fashion_mnist", "train", "Valid are: digits, scenes.*, tfds:<name>"),
        ("tfds:", "train", "no data set 'tfds:'"),
        ("digits", "dev", "'dev'. Valid are: train, validation, test"),
        ("tfds:a b", "train", "not the name of a tfds set"),
    ],
)
def test_a_wrong_name_or_split_lists_the_valid_ones(name, split, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, split)


def test_an_image_size_must_be_positive():
    with pytest.raises(ValueError, match="got 0"):
        data.load("digits", "train", image_size=0)


def test_every_form_of_name_has_one_line():
    assert all(line and "\n" not in line for line in data.names().values())
    assert [form.partition(":")[0] for form in data.names()] == ["digits", "scenes[", "tfds", "folder", "coco", "voc"]


def test_importing_data_imports_no_reader():
    readers = ["grain", "tensorflow_datasets", "sklearn"]
    code = f"import sys, etude.data; print([name for name in {readers} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_moments_are_those_of_all_pixels_in_float64():
    images = np.random.default_rng(0).integers(0, 200, (300, 5, 4, 3), np.uint8)
    mean, std = data.moments(source_of(images))
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)) / 255, rtol=1e-6)  # float32 rounding of the result
    np.testing.assert_allclose(std, images.std((0, 1, 2)) / 255, rtol=1e-6)
    assert mean.dtype == std.dtype == np.float32


def test_moments_give_a_constant_channel_std_one():
    images = np.zeros((4, 2, 2, 2), np.uint8)
    images[..., 0] = 51
    images[:2, ..., 1] = 255
    mean, std = data.moments(source_of(images))
    np.testing.assert_allclose(mean, [0.2, 0.5], rtol=1e-6)
    np.testing.assert_allclose(std, [1.0, 0.5], rtol=1e-6)


def test_limited_moments_look_at_the_same_few_examples_every_time():
    images = np.arange(100, dtype=np.uint8).reshape(-1, 1, 1, 1)

    class Watched(Records):
        seen = None

        def __getitem__(self, index):
            self.seen = (self.seen or []) + [index]
            return super().__getitem__(index)

    looks = []
    for _ in range(2):
        source = source_of(images)
        watched = Watched(source[i] for i in range(len(source)))
        data.moments(Source("w", "train", watched, source.element_spec, ("a",)), limit=10)
        looks.append(watched.seen)
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == 10
    assert looks[0] != list(range(10))
