"""Small stand-ins for what lies on users' disks: IDX archives, prepared sets, folders of images."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from etude.data.sources.prepare import IdxSplit
from PIL import Image


@pytest.fixture
def real_data():
    """(folder, where it is from) -> its path in a folder shared/data beside the repository; without it, skips."""

    def real_data(name, source):
        for parent in Path(__file__).resolve().parents:
            if (parent / "shared" / "data" / name).is_dir():
                return parent / "shared" / "data" / name
        pytest.skip(f"needs the files of {source} in shared/data/{name} beside the repository")

    return real_data


COUNTS = {"train": 40, "test": 12}


@pytest.fixture(scope="session")
def idx_splits():
    """What the small archives hold, in the way the real ones are described."""
    return {
        "train": IdxSplit("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", COUNTS["train"]),
        "test": IdxSplit("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", COUNTS["test"]),
    }


@pytest.fixture(scope="session")
def pixels():
    """Split -> (images [n, 28, 28], labels [n]) that the small archives hold."""
    random = np.random.default_rng(0)
    return {
        split: (random.integers(0, 256, (n, 28, 28), np.uint8), random.integers(0, 10, n, dtype=np.uint8))
        for split, n in COUNTS.items()
    }


def _idx(array):
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def archives(tmp_path, idx_splits, pixels):
    """A folder with four small IDX archives."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for split, (images, labels) in pixels.items():
        (folder / idx_splits[split].images).write_bytes(gzip.compress(_idx(images)))
        (folder / idx_splits[split].labels).write_bytes(gzip.compress(_idx(labels)))
    return folder


@pytest.fixture
def write_set(tmp_path):
    """(name, features, {split: examples}) -> data_dir: a prepared tfds set; its images are encoded bytes."""
    import tensorflow_datasets as tfds

    def write(name, features, splits, file_format="array_record"):
        data_dir = tmp_path / "tfds"
        identity = tfds.core.DatasetIdentity(
            name=name,
            version=tfds.core.Version("1.0.0"),
            data_dir=str(data_dir / name / "1.0.0"),
            module_name="",
        )
        info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
        Path(identity.data_dir).mkdir(parents=True)
        writer = tfds.core.SequentialWriter(info, max_examples_per_shard=7, file_format=file_format)
        writer.initialize_splits(list(splits))
        writer.add_examples(splits)
        writer.close_all()
        return data_dir

    return write


@pytest.fixture
def image_folder(tmp_path):
    """(relative path -> (mode, (width, height), color)) -> a folder with these image files."""

    def write(images):
        for path, (mode, size, color) in images.items():
            file = tmp_path / "images" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, size, color).save(file)
        return tmp_path / "images"

    return write
