"""The folder of a run: its config, its environment, its result, and the lock that keeps it to one process.

config.json       re-runs the run exactly: `etude <experiment> --config config.json`
network.json     what it takes to use the network, such as the names of the classes
data.json         what the data consisted of: a run goes on with the same data alone
environment.json  versions, devices, git revision of the first start; under "resumed" those of later ones
metrics.jsonl     one record per logged step and per validation
tensorboard/      the same for TensorBoard
checkpoints/      the newest two and the best
figures/          *.png and *.pdf
result.json       {"metrics": {name: number}, "claims": [...], "figures": [...]}; present when the run is done
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from ..errors import InputError, listed, writing
from .config import read_json

LOCK, DATA = "run.lock", "data.json"
FRAME = frozenset(
    {
        *("config.json", "config.json.partial", "environment.json", "environment.json.partial"),
        *("network.json", "notes.json", DATA, LOCK),
    }
)
MOST_PARTS = 10_000  # files of a data set that data.json names one by one


@contextmanager
def run_folder(
    path: Path,
    config: Mapping[str, Any],
    reread: Callable[[Path], Mapping[str, Any]],
    contents: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """Opens a run's folder, which the first start makes, and holds it until the block ends.

    If the first start fails by an InputError before anything was trained, the folder is removed again.

    Args:
      path: the folder.
      config: everything that the run's numbers depend on, as JSON can hold it.
      reread: file -> what a `config.json` says in the words of `config`, whichever version wrote it.
      contents: of the run's data, as a `Source` has them; None if they are not known.
    Yields: the folder, absolute.
    Raises: InputError if another process holds the folder, if it can't be written, holds files that are no run's, or
      belongs to another config or to data that have changed.
    """
    path = Path(path).absolute()
    _require_a_run_or_nothing(path)
    try:
        made = _make_folders(path)
        lock = (path / LOCK).open("a")
    except OSError as error:
        raise InputError(
            f"The run folder {path} can't be written: {error.strerror}. Choose another with --out."
        ) from None
    with lock:
        try:
            # The kernel lets go of the lock when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another process is writing the run folder {path}. Wait for it, or choose another with --out."
            ) from None
        first = not (path / "config.json").exists()
        if not first:
            _require_config(path, json.loads(json.dumps(config)), reread)
        if contents:
            _require_contents(path, contents)
        if first:
            write_json(path / "config.json", _with_fingerprint(config, contents))
        if not (path / "result.json").exists():
            _note_environment(path / "environment.json")
        try:
            yield path
        except InputError:
            if first and all(file.name in FRAME or not file.stat().st_size for file in _files(path)):
                shutil.rmtree(path)
                for folder in made:
                    with contextlib.suppress(OSError):  # something else may be in it by now
                        folder.rmdir()
            raise


def read_result(path: Path) -> dict[str, Any] | None:
    """The result of a finished run's folder; None while there is none.

    Raises: InputError if the file is damaged.
    """
    file = Path(path) / "result.json"
    if not file.exists():
        return None
    result = _read_kept(file, "Remove it, and the same command writes it again.")
    if not isinstance(result.get("metrics"), dict):
        raise InputError(f"{file} is damaged: it holds no metrics. Remove it, and the same command writes it again.")
    return result


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically: a reader finds the old file or the new one, never a part.

    Raises: InputError if the disk refuses it.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)


def environment() -> dict[str, Any]:
    """What the run runs on: versions, devices, git revision (None outside a checkout)."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "devices": [device.device_kind for device in jax.devices()],
        "cpus": os.cpu_count(),
        "git": _git_revision(),
        "command": sys.argv,
    }


def _require_a_run_or_nothing(path: Path) -> None:
    """Raises InputError if a folder holds files and is no run's; nothing in it is touched."""
    if not path.is_dir() or (path / "config.json").exists():
        return
    foreign = sorted(each.name for each in path.iterdir() if each.name not in FRAME and not each.name.startswith("."))
    if foreign:
        raise InputError(
            f"{path} is no folder of a run and holds other files ({', '.join(foreign[:3])}"
            f"{', …' if len(foreign) > 3 else ''}). Choose a new or empty one with --out."
        )


def _make_folders(path: Path) -> list[Path]:
    """Makes a folder; returns those of its parents that had to be made, the innermost first."""
    parents = [parent for parent in path.parents if not parent.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return parents


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if not file.is_dir()]


def _require_config(path: Path, config: dict[str, Any], reread: Callable[[Path], Mapping[str, Any]]) -> None:
    """Raises InputError if the folder has a different config."""
    try:
        there = json.loads(json.dumps(reread(path / "config.json")))
    except InputError as error:
        raise InputError(f"{error} Choose another folder with --out.") from None
    names = sorted(there.keys() | config.keys())
    changed = [name for name in names if there.get(name) != config.get(name)]
    if changed:
        changes = listed([f"{name} {there.get(name)!r} there, {config.get(name)!r} here" for name in changed])
        raise InputError(f"The run folder {path} belongs to another config ({changes}). Choose another with --out.")


def _with_fingerprint(config: Mapping[str, Any], contents: Mapping[str, str] | None) -> dict[str, Any]:
    return {**config, **({"data_fingerprint": fingerprint(contents)} if contents else {})}


def fingerprint(contents: Mapping[str, str]) -> str:
    """A digest of a data set's contents: two sets of the same fingerprint are the same data."""
    text = json.dumps(sorted(contents.items()))
    return f"{len(contents)} parts, {hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _require_contents(path: Path, contents: Mapping[str, str]) -> None:
    """Keeps the contents of a run's data at its first start; raises InputError, with what has changed, if they have."""
    now = _grouped(contents)
    if not (path / DATA).exists():
        _require_fingerprint(path, contents)
        write_json(path / DATA, now)
    kept = _read_kept(path / DATA, "Remove it; whether the data are the same is then read from config.json.")
    if kept == now:
        return
    changes = {
        "removed": [name for name in kept if name not in now],
        "added": [name for name in now if name not in kept],
        "changed": [name for name in now if name in kept and now[name] != kept[name]],
    }
    told = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in changes.items()
        if names
    ]
    raise InputError(
        f"The data of the run in {path} have changed since it began: {'; '.join(told)}. Restore them, or begin another "
        "run with --name or --out."
    )


def _require_fingerprint(path: Path, contents: Mapping[str, str]) -> None:
    """Raises InputError if the data are others than those that the config was written with; what changed is gone."""
    config = path / "config.json"
    kept = read_json(config).get("data_fingerprint") if config.exists() else None
    if kept not in (None, fingerprint(contents)):
        raise InputError(
            f"The data of the run in {path} have changed since it began: {fingerprint(contents)}, where config.json "
            f"has {kept}. Restore them, or begin another run with --name or --out."
        )


def _read_kept(file: Path, cure: str) -> dict[str, Any]:
    """A JSON file that an earlier start wrote. cure: what to do if it is damaged, for the message."""
    try:
        return read_json(file)
    except InputError as error:
        raise InputError(f"{error} {cure}") from None


def _grouped(contents: Mapping[str, str]) -> dict[str, str]:
    """Contents of at most a few megabytes as JSON: those of many files are put together by their folders."""
    if len(contents) <= MOST_PARTS:
        return dict(contents)
    folders: dict[str, dict[str, str]] = {}
    for name, content in contents.items():
        folders.setdefault(name.rpartition("/")[0], {})[name] = content
    return {folder: fingerprint(inside) for folder, inside in folders.items()}


def _note_environment(file: Path) -> None:
    """Writes the environment of the first start; appends those of later ones."""
    now = environment()
    if file.exists():
        before = _read_kept(file, "Remove it, and the run goes on without what it said of earlier starts.")
        write_json(file, before | {"resumed": [*before.get("resumed", []), now]})
    else:
        write_json(file, now)


def _git_revision() -> str | None:
    here = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        revision = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip()
