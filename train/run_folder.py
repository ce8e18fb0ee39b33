"""The folder of a run: its config, its environment, its result, and the lock that keeps it to one process.

config.json       re-runs the run exactly
environment.json  versions, devices, git revision
metrics.jsonl     one record per logged step and per validation
tensorboard/      the same for TensorBoard
checkpoints/      the newest two and the best
figures/          *.png
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
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax


@contextmanager
def run_folder(path: Path, config: Mapping[str, Any]):
    """Opens a run's folder, making it at the first start, and holds it until the block ends.

    Args:
      path: the folder.
      config: everything the run's numbers depend on, as JSON can hold it.
    Yields: the folder, absolute.
    Raises: ValueError if another process holds the folder, if it belongs to another config, or if it is not a
      run's folder but has files; OSError's PermissionError or NotADirectoryError if it can't be written.
    """
    path = Path(path).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "run.lock").open("a")
    except (PermissionError, NotADirectoryError, FileExistsError, OSError) as error:
        raise ValueError(
            f"The run folder {path} can't be written: {error.strerror}. Choose another with --out."
        ) from None
    with lock:
        try:
            # The kernel lets go of it when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another process is writing the run folder {path}. Wait for it, or choose another with --out."
            ) from None
        _same_config(path, json.loads(json.dumps(config)))
        write_json(path / "environment.json", environment())
        yield path


def read_result(path: Path) -> dict[str, Any] | None:
    """The result of a finished run's folder, None while there is none."""
    file = Path(path) / "result.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically: a reader finds the old one or the new one, never a part."""
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


def _same_config(path: Path, config: dict[str, Any]) -> None:
    """Writes the config at the first start; raises ValueError if the folder already has a different one."""
    file = path / "config.json"
    if not file.exists():
        write_json(file, config)
        return
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        raise ValueError(f"{file} is damaged. Choose another folder with --out.") from None
    names = sorted(there.keys() | config.keys())
    changed = [name for name in names if there.get(name) != config.get(name)]
    if changed:
        changes = ", ".join(f"{name} {there.get(name)!r} there, {config.get(name)!r} here" for name in changed)
        raise ValueError(f"The run folder {path} belongs to another config ({changes}). Choose another with --out.")


def _git_revision() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        revision = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip()
