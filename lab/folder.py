"""The folder of a run: its config, its environment, its result, and the lock that keeps it to one process.

config.json       re-runs the run exactly: `etude <experiment> --config config.json`
environment.json  versions, devices, git revision
metrics.jsonl     one record per logged step and per validation
tensorboard/      the same for TensorBoard
checkpoints/      the newest two and the best
figures/          *.png and *.pdf
result.json       {"metrics": {name: number}, "claims": [...], "figures": [...]}; present when the run is done
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from ..errors import InputError


@contextmanager
def run_folder(path: Path, config: Mapping[str, Any], reread: Callable[[Path], Mapping[str, Any]]) -> Iterator[Path]:
    """Opens a run's folder, which the first start makes, and holds it until the block ends.

    Args:
      path: the folder.
      config: everything that the run's numbers depend on, as JSON can hold it.
      reread: file -> what a `config.json` says in the words of `config`, whichever version wrote it.
    Yields: the folder, absolute.
    Raises: InputError if another process holds the folder, or if it can't be written or belongs to another config.
    """
    path = Path(path).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "run.lock").open("a")
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
        _require_config(path, json.loads(json.dumps(config)), reread)
        write_json(path / "environment.json", environment())
        yield path


def read_result(path: Path) -> dict[str, Any] | None:
    """The result of a finished run's folder; None while there is none."""
    file = Path(path) / "result.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically: a reader finds the old file or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def environment() -> dict[str, Any]:
    """What the run runs on: versions, devices, git revision (None outside a checkout)."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "devices": [device.device_kind for device in jax.devices()],
        "cpus": os.cpu_count(),
        "git": _git_revision(),
        "command": sys.argv,
    }


def _require_config(path: Path, config: dict[str, Any], reread: Callable[[Path], Mapping[str, Any]]) -> None:
    """Writes the config at the first start; raises InputError if the folder already has a different one."""
    file = path / "config.json"
    if not file.exists():
        write_json(file, config)
        return
    try:
        there = json.loads(json.dumps(reread(file)))
    except InputError as error:
        raise InputError(f"{error} Choose another folder with --out.") from None
    names = sorted(there.keys() | config.keys())
    changed = [name for name in names if there.get(name) != config.get(name)]
    if changed:
        changes = ", ".join(f"{name} {there.get(name)!r} there, {config.get(name)!r} here" for name in changed)
        raise InputError(f"The run folder {path} belongs to another config ({changes}). Choose another with --out.")


def _git_revision() -> str | None:
    here = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        revision = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip()
