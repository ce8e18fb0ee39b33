"""TensorFlow Datasets as a library: which sets it knows, which are on disk, and the command that prepares one.

It is imported when first needed, and neither TensorFlow nor the network is used.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError, MissingFile

_NAME = re.compile(r"(?P<set>\w+)(/(?P<config>[\w\-.]+))?(:(?P<version>\d+\.\d+\.\d+))?")

# Sets that `prepare` makes from their authors' archives, without TensorFlow.
ARCHIVED = ("mnist", "fashion_mnist", "kmnist")


def library() -> Any:
    """The module tensorflow_datasets. It loads its members lazily, which a type checker can't follow."""
    import tensorflow_datasets

    return tensorflow_datasets


def parse(name: str) -> Mapping[str, str | None]:
    """The set, config and version of <name>[/config][:version].

    Raises: InputError if the name has another form.

    >>> parse("mnist:3.0.1")
    {'set': 'mnist', 'config': None, 'version': '3.0.1'}
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name!r} is not the name of a tfds set: these are <name>[/config][:version], such as mnist:3.0.1."
        )
    return match.groupdict()


def check_known(name: str) -> None:
    """Raises InputError, which lists similar names, if tfds knows no set of this name."""
    tfds = library()
    known = tfds.list_builders(with_community_datasets=False)  # reads the files of the package, not the network
    wanted = parse(name)["set"] or ""
    if wanted not in known:
        for texts in ("text", "translate"):  # tfds registers most sets of texts when their modules are imported
            importlib.import_module(f"tensorflow_datasets.{texts}")
        known = tfds.list_builders(with_community_datasets=False)
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=3)
        hint = f"Similar names are {', '.join(near)}." if near else "https://www.tensorflow.org/datasets lists them."
        raise InputError(f"TensorFlow Datasets has no set {wanted!r}. {hint}")


def find(name: str, data_dir: str | Path | None) -> Any | None:
    """The tfds builder of a set that is on disk; None if it is not. Never uses the network."""
    tfds = library()
    parse(name)
    folder = None if data_dir is None else str(Path(data_dir).expanduser())
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError:
        return None


def prepared_set(name: str, data_dir: str | Path | None) -> Any:
    """The tfds builder of a set that is prepared whole and can be read by index.

    Raises:
      MissingFile: it is not prepared, or a file of it is gone; the message says what to do.
      InputError: tfds has no such set, or it is stored in a format without random access.
    """
    tfds = library()
    builder = find(name, data_dir)
    if builder is None:
        check_known(name)  # a user's own set need not be known if it is on disk
        folder = tfds.core.constants.DATA_DIR if data_dir is None else data_dir
        raise MissingFile(f"tfds:{name} is not prepared in {folder}. To prepare it: {command(name, data_dir)}")
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise InputError(
            f"tfds:{name} is in {builder.data_dir} as {builder.info.file_format.value}, which can't be "
            f"read by index; prepare it as array_record in another folder: {command(name, 'DIR')}"
        )
    for split_info in builder.info.splits.values():
        missing = [path for path in split_info.filepaths if not path.exists()]
        if missing:
            raise MissingFile(f"{missing[0]} is missing: delete {builder.data_dir} and prepare tfds:{name} again.")
    return builder


def contents_of(builder: Any) -> dict[str, str]:
    """What a prepared set consists of: each stored split -> its numbers of examples and bytes."""
    info = builder.info
    return {
        f"{info.full_name} {each}": f"{split_info.num_examples} examples, {split_info.num_bytes} bytes"
        for each, split_info in info.splits.items()
    }


def command(name: str, data_dir: str | Path | None) -> str:
    """The command that prepares a set.

    >>> command("mnist", None)
    'etude prepare tfds:mnist --archives DIR'
    """
    only_set = parse(name)["set"]
    if only_set in ARCHIVED:
        name = only_set  # archives have one version
    archives = " --archives DIR" if name in ARCHIVED else ""
    folder = "" if data_dir is None else f" --data-dir {data_dir}"
    extra = "" if archives else " (after pip install 'etude[prepare]')"
    return f"etude prepare tfds:{name}{archives}{folder}{extra}"
