"""Writes sets of TensorFlow Datasets to disk in the form that `tfds_sets`, and tfds itself, read by index.

The MNIST family is made from the archives that its authors distribute, without TensorFlow or the network; all other
sets are made by tfds's own code, which needs both. A set appears whole or not at all: it is written elsewhere and
renamed.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from ...errors import InputError, MissingFile
from .tfds_library import ARCHIVED, check_known, find, library, parse


@dataclass(frozen=True)
class IdxSplit:
    """A split in two IDX archives."""

    images: str
    """File name of the images."""
    labels: str
    """File name of the labels."""
    length: int
    """Number of examples that both must have."""


MNIST_LIKE = {
    "train": IdxSplit("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", 60_000),
    "test": IdxSplit("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", 10_000),
}
# (split, examples written, examples in all) -> None: shows the progress
Report = Callable[[str, int, int], None]


def prepared(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The folder of a set that is already prepared; None if it is not.

    Raises: InputError if tfds has no such set.
    """
    check_known(name)
    builder = find(name, data_dir)
    return None if builder is None else Path(builder.data_dir)


def from_archives(
    name: str,
    archives: Path,
    data_dir: str | Path | None = None,
    *,
    splits: Mapping[str, IdxSplit] | None = None,
    report: Report = lambda split, done, total: None,
) -> Path:
    """Writes a set of the MNIST family from its four IDX archives, in their order, with tfds's own metadata.

    Args:
      name: One of `ARCHIVED`.
      archives: Folder with the archives, named as their authors named them.
      data_dir: Folder of prepared sets; by default the one that tfds uses.
      splits: What the archives must hold; by default the whole set.
      report: Called now and then, and at the end of every split.
    Returns: The folder of the set, which did not exist before.
    Raises:
      FileNotFoundError: An archive is missing.
      ValueError: An archive is damaged, holds something else, or belongs to another set; the set can't be made from
        archives; or the folder can't be written.
    """
    if name not in ARCHIVED:
        raise InputError(f"No archives are known for tfds:{name}, only for {', '.join(ARCHIVED)}.")
    tfds = library()
    contents = {split: _read(name, archives, each) for split, each in (splits or MNIST_LIKE).items()}
    data_dir = Path(tfds.core.constants.DATA_DIR if data_dir is None else data_dir).expanduser()
    with sibling(data_dir, name) as temporary:
        written = _write(name, temporary, contents, report)
        target = data_dir / written.relative_to(temporary)
        if target.exists():
            raise InputError(f"{target} exists, but is not a whole set: delete it and prepare tfds:{name} again.")
        target.parent.mkdir(exist_ok=True)
        written.rename(target)
    return target


def by_tensorflow(name: str, data_dir: str | Path | None = None) -> Path:
    """Downloads and prepares a set by tfds's own code, with TensorFlow.

    Args:
      name: <name>[/config][:version] of a set that tfds knows.
      data_dir: Folder of prepared sets; by default the one that tfds uses.
    Returns: The folder of the set.
    Raises: InputError if TensorFlow is not installed, or tfds has no such set.
    """
    check_known(name)
    if importlib.util.find_spec("tensorflow") is None:
        archives = "give its archives with --archives DIR, or " if parse(name)["set"] in ARCHIVED else ""
        raise InputError(
            f"To prepare tfds:{name}, {archives}install TensorFlow, which only its preparation needs: "
            "pip install 'etude[prepare]'"
        )
    tfds = library()
    folder = None if data_dir is None else Path(data_dir).expanduser()
    builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Reads a compressed IDX file of bytes.

    Args:
      path: A gzip file of two zero bytes, 8 (for bytes), the rank, the big-endian 32-bit sizes, and the values. LeCun's
        page on MNIST defines the format.
      shape: The shape that the array must have.
    Returns: uint8, of that shape.
    Raises: InputError, which names the file, if it is damaged or holds something else.
    """
    header = 4 + 4 * len(shape)
    size = header + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            content = file.read(size + 1)  # never more than is wanted: a small archive may unpack to terabytes
            if len(content) <= size:
                file.read(1)  # the checksum stands at the end
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged or not a gzip archive: {error}.") from error
    magic = bytes((0, 0, 8, len(shape)))
    if content[:4] != magic:
        raise InputError(
            f"{path} is not an IDX file of rank {len(shape)}: it begins with {content[:4].hex()}, not {magic.hex()}."
        )
    sizes = tuple(int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4))
    if sizes != shape:
        raise InputError(f"{path} holds an array of shape {list(sizes)}, not {list(shape)}.")
    if len(content) != size:
        found = "more" if len(content) > size else len(content) - header
        raise InputError(f"{path} holds {found} values, not the {np.prod(shape)} of its header.")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read(name: str, archives: Path, split: IdxSplit) -> tuple[np.ndarray, np.ndarray]:
    """Images [length, height, width] and labels [length] of a split, both uint8."""
    tfds = library()
    paths = [archives / split.images, archives / split.labels]
    for path in paths:
        if not path.is_file():
            raise MissingFile(f"The archive {path} is missing; tfds:{name} is made from {_files()}.")
        _check_origin(name, path)
    features = tfds.builder_cls(name)(data_dir=archives).info.features
    height, width, _ = features["image"].shape
    images, labels = read_idx(paths[0], (split.length, height, width)), read_idx(paths[1], (split.length,))
    if labels.max() >= features["label"].num_classes:
        raise InputError(
            f"{paths[1]} has a label {labels.max()}, but there are {features['label'].num_classes} classes."
        )
    return images, labels


def _check_origin(name: str, path: Path) -> None:
    """Refuses an archive that tfds knows as another set's: in this family all archives have the same names and sizes.

    An unknown digest is no reason to refuse: compressed again, the same content has another one.
    """
    tfds = library()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for other in ARCHIVED:
        known = {info.checksum for info in (tfds.builder_cls(other).url_infos or {}).values()}
        if other != name and digest in known:
            raise InputError(f"{path} is an archive of tfds:{other}, not of tfds:{name}.")


def _files() -> str:
    return ", ".join(file for split in MNIST_LIKE.values() for file in (split.images, split.labels))


@contextmanager
def sibling(data_dir: Path, name: str) -> Iterator[Path]:
    """A temporary folder beside the sets, on the same file system, so that its content can be renamed."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=data_dir))
    except OSError as error:
        raise InputError(f"The folder {data_dir} can't be written: {error.strerror}.") from error
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(name: str, data_dir: Path, contents: Mapping[str, tuple[np.ndarray, np.ndarray]], report: Report) -> Path:
    """Writes images and labels of every split as tfds would; returns the folder of the set."""
    tfds = library()
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    folder = Path(builder.data_dir)
    folder.mkdir(parents=True)
    # One shard a split: the largest of the family has 30 MB.
    longest = max(len(labels) for _, labels in contents.values())
    writer = tfds.core.SequentialWriter(builder.info, max_examples_per_shard=longest, file_format="array_record")
    writer.initialize_splits(list(contents))
    for split, (images, labels) in contents.items():
        for start in range(0, len(labels), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            # tfds stores encoded images as they are; it would encode arrays with TensorFlow.
            examples = [
                {"image": _png(image), "label": int(label)}
                for image, label in zip(images[chunk], labels[chunk], strict=True)
            ]
            writer.add_examples({split: examples})
            report(split, start + len(examples), len(labels))
    writer.close_all()
    return folder


_CHUNK = 1000  # examples written between two reports


def _png(image: np.ndarray) -> bytes:
    """A gray image, uint8 [height, width], as a PNG file."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
