"""Small stand-ins for what lies on users' disks: IDX archives and folders of images."""

import gzip

import numpy as np
import pytest
from etude.data.sources.prepare import IdxSplit
from PIL import Image

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
def image_folder(tmp_path):
    """(relative path -> (mode, (width, height), color)) -> a folder with these image files."""

    def write(images):
        for path, (mode, size, color) in images.items():
            file = tmp_path / "images" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, size, color).save(file)
        return tmp_path / "images"

    return write
