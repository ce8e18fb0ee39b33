"""Data sets of few images or texts, for runs that are to show that they end, not how well."""

import numpy as np
import pytest
from etude import data
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """The name of a data set of 300 digits, 240 of them to train on."""
    digits, folder = load_digits(), tmp_path_factory.mktemp("few_digits")
    for label in range(10):
        (folder / str(label)).mkdir()
        for number, image in enumerate(digits.images[digits.target == label][:30]):
            Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / str(label) / f"{number:02}.png")
    return f"folder:{folder}"


@pytest.fixture(scope="session")
def few_scenes(tmp_path_factory):
    """The name of a data set of 24, 8 and 8 scenes of 32×32 pixels, as COCO annotations with masks and stuff."""
    folder = tmp_path_factory.mktemp("few_scenes")
    for split, number in (("train", 24), ("validation", 8), ("test", 8)):
        data.export_coco(data.subset(data.load("scenes:32", split), number), folder)
    return f"coco:{folder / 'train.json'}"


WORDS = {"one": "jedna", "two": "dvě", "cat": "kočka", "dog": "pes", "red": "červená", "and": "a"}


@pytest.fixture(scope="session")
def few_pairs(tmp_path_factory):
    """The name of a table of some 300 pairs of one to five words, translated word for word."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("few_pairs") / "pairs.tsv"
    sentences = [rng.choice(list(WORDS), rng.integers(1, 6)) for _ in range(400)]
    lines = [f"{' '.join(each)}\t{' '.join(WORDS[word] for word in each)}" for each in sentences]
    path.write_text("\n".join(dict.fromkeys(lines)), encoding="utf-8")
    return f"tsv:{path}"


@pytest.fixture(scope="session")
def few_labels(tmp_path_factory):
    """The name of a table of some 600 texts of four letters, whose label is whether there is an "x" among them."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("few_labels") / "labels.tsv"
    texts = dict.fromkeys("".join(rng.choice(list("abcdx"), 4)) for _ in range(2000))
    lines = [f"{text}\t{'yes' if 'x' in text else 'no'}" for text in texts]
    path.write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    return f"tsv:{path}"
