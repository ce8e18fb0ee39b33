"""Checkpoints: orbax writes and commits them, and a digest of every array proves what comes back.

A checkpoint is a tree of arrays and a record (JSON: what the loop needs beside the state). Orbax commits it by an
atomic rename, so that a killed save leaves nothing that looks like a checkpoint; but it restores a flipped bit without
a word. So each checkpoint carries a digest per array, made before it is written and compared after it is read. A
checkpoint that fails in any way is moved aside, never deleted, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError, MissingFile

# Elsewhere imported where it is used: orbax takes half a second, for which --help and a refusal need not wait.
if TYPE_CHECKING:
    import orbax.checkpoint as ocp

DISK_SIGNS = ("No space left", "Disk quota", "Read-only file system", "Input/output error", "No such file")
KEPT = 2  # number of newest checkpoints kept: the second is there in case the first turns out damaged


class Restored(NamedTuple):
    """A checkpoint that was read and found whole."""

    step: int
    """Its name."""
    tree: Any
    """The arrays, on the host."""
    record: dict[str, Any]
    """What was saved beside them."""


class Checkpoints:
    """The newest two checkpoints of one run.

    Saving is asynchronous: `save` returns once the arrays are copied. `close` waits for the last save.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None] = lambda message: None):
        """Opens (or makes) the folder.

        Args:
          folder: holds the checkpoints, one folder per step.
          warn: receives one sentence for every damaged checkpoint.
        """
        self._folder = Path(folder).absolute()
        self._warn = warn
        self._manager = self._open()

    def steps(self) -> list[int]:
        """The committed steps, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any, record: Mapping[str, Any]) -> None:
        """Begins to save a tree of arrays under the name of a step; a step that is saved already is left as it is.

        Args:
          step: number of steps that led here.
          tree: arrays on the devices or the host, with the shapes they have outside of a layout.
          record: what else the run must remember; anything that JSON can hold.
        Raises: InputError if the disk refuses it, or the folder was removed.
        """
        import orbax.checkpoint as ocp

        if not self._folder.exists():
            raise InputError(f"A checkpoint can't be written to {self._folder}: the folder was removed.")
        if step in self._manager.all_steps():
            return
        arrays = _to_host(tree)
        # A copy: orbax writes it later, when the caller may have gone on with its lists.
        record = {"state": _digests(arrays), "record": json.loads(json.dumps(record))}
        record["digest"] = _digest(json.dumps(record, sort_keys=True).encode())
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)),
            )

    def restore(self, template: Any, step: int | None = None) -> Restored | None:
        """The newest whole checkpoint, or the newest up to and including `step`.

        Args:
          template: a tree of the same structure, shapes and dtypes; its values are not read.
          step: the newest step wanted.
        Returns: the tree on the host with its record, or None if there is no whole checkpoint.
        Raises: InputError if the newest whole checkpoint has another structure than the template.
        """
        self._manager.wait_until_finished()
        wanted = _abstract(template)
        for candidate in reversed(self.steps()):
            if step is not None and candidate > step:
                continue
            try:
                read = _read(self._manager, candidate)
            except _Damaged as error:
                self._set_aside(candidate, str(error))
                continue
            except Exception as error:  # orbax raises many types, bare Exception among them, for a damaged file
                self._set_aside(candidate, f"orbax cannot read it: {type(error).__name__}")
                continue
            return Restored(candidate, _from_host(read["state"], wanted), read["record"]["record"])
        return None

    def close(self) -> None:
        """Waits for the last save."""
        self._manager.close()

    def wait(self) -> None:
        """Waits until what was saved is committed. Raises InputError if the disk refuses it."""
        with self._writing():
            self._manager.wait_until_finished()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a refusal of the disk into an InputError: orbax raises many types for it, from other threads too."""
        try:
            yield
        except Exception as error:
            chain = " ".join(str(each) for each in (error, error.__cause__, error.__context__) if each)
            if not isinstance(error, OSError) and not any(sign in chain for sign in DISK_SIGNS):
                raise
            free = f"{shutil.disk_usage(self._folder).free:,} bytes are free" if self._folder.exists() else "it is gone"
            reason = chain.splitlines()[0]
            raise InputError(f"A checkpoint can't be written to {self._folder} ({free}): {reason}.") from error

    def _open(self) -> ocp.CheckpointManager:
        import orbax.checkpoint as ocp

        return ocp.CheckpointManager(
            self._folder,
            item_names=("state", "record"),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=KEPT,
                cleanup_tmp_directories=True,
            ),
        )

    def _set_aside(self, step: int, reason: str) -> None:
        """Moves a damaged checkpoint out of the way, so that its step can be saved again."""
        aside = self._folder.with_name(self._folder.name + "_damaged")
        aside.mkdir(exist_ok=True)
        target = aside / str(step)
        number = 1
        while target.exists():
            number += 1
            target = aside / f"{step}.{number}"
        self._manager.close()
        (self._folder / str(step)).rename(target)
        self._manager = self._open()
        self._warn(f"The checkpoint of step {step} is damaged ({reason}); moved to {target}.")


def read_checkpoint(folder: Path, step: int) -> Restored:
    """One checkpoint of a run, of whatever structure: arrays by their paths, "best/params/…". Changes nothing there.

    Args:
      folder: holds the checkpoints.
      step: its name.
    Returns: the arrays, flat, on the host, and the record.
    Raises: MissingFile if there is no such checkpoint; InputError if it is damaged.
    """
    import orbax.checkpoint as ocp

    if not (Path(folder) / str(step)).is_dir():
        raise MissingFile(f"There is no checkpoint of step {step} in {folder}.")
    options = ocp.CheckpointManagerOptions(create=False)  # read_only=True would warn of each of its own settings
    manager = ocp.CheckpointManager(Path(folder).absolute(), item_names=("state", "record"), options=options)
    try:
        read = _read(manager, step)
    except _Damaged as error:
        raise InputError(f"The checkpoint of step {step} in {folder} is damaged: {error}.") from None
    except Exception as error:  # whatever orbax raises, as in `restore`
        reason = f"orbax cannot read it ({type(error).__name__})"
        raise InputError(f"The checkpoint of step {step} in {folder} is damaged: {reason}.") from error
    finally:
        manager.close()
    return Restored(step, read["state"], read["record"]["record"])


def _read(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Reads a checkpoint as flat host arrays; raises `_Damaged` on a wrong digest, or whatever orbax does."""
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(record=ocp.args.JsonRestore())
    record = dict(manager.restore(step, args=args)["record"])
    digest = record.pop("digest", None)
    if digest != _digest(json.dumps(record, sort_keys=True).encode()):
        raise _Damaged("its record does not match its digest")
    # Restored by what the record says and not by what the run wants, so that damage does not look like a mismatch.
    template = {
        name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)) for name, (_, shape, dtype) in record["state"].items()
    }
    args = ocp.args.Composite(state=ocp.args.StandardRestore(_host_zeros(template)))
    arrays = {name: np.asarray(value) for name, value in manager.restore(step, args=args)["state"].items()}
    wrong = sorted(name for name, entry in _digests(arrays).items() if entry != record["state"][name])
    if wrong or arrays.keys() != record["state"].keys():
        raise _Damaged(f"{len(wrong)} arrays do not match their digests, {', '.join(wrong[:3])} among them")
    return {"state": arrays, "record": record}


class _Damaged(Exception):
    """A checkpoint was read, but not what was written."""


def _to_host(tree: Any) -> dict[str, np.ndarray]:
    """Tree -> {path: host copy}; a copy, because the buffers of a state are donated to the next step."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.array(_without_key(leaf), copy=True) for path, leaf in leaves}


def _from_host(arrays: Mapping[str, np.ndarray], wanted: Any) -> Any:
    """{path: array} -> tree of the wanted structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(wanted)
    names = {_name(path): leaf for path, leaf in leaves}
    missing, unknown = sorted(names.keys() - arrays.keys()), sorted(arrays.keys() - names.keys())
    if missing or unknown:
        raise InputError(f"The checkpoint is of another run: it lacks {missing[:5]} and has besides {unknown[:5]}.")
    restored = []
    for path, leaf in leaves:
        array, data = arrays[_name(path)], jax.eval_shape(_without_key, leaf)
        if (array.shape, array.dtype) != (data.shape, data.dtype):
            raise InputError(
                f"The checkpoint is of another run: {_name(path)} is {array.dtype}{list(array.shape)}, "
                f"wanted {data.dtype}{list(data.shape)}."
            )
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        restored.append(jax.random.wrap_key_data(jnp.asarray(array)) if is_key else array)
    return jax.tree_util.tree_unflatten(structure, restored)


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _without_key(leaf):
    """A typed PRNG key as the numbers it is made of; anything else as it is."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _host_zeros(template: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Orbax restores onto the host where the template is a numpy array; broadcast zeros take no memory."""
    return {name: np.broadcast_to(np.zeros((), s.dtype), s.shape) for name, s in template.items()}


def _digests(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:
    """name -> [digest, shape, dtype] of each array."""
    return {
        name: [_digest(np.ascontiguousarray(array)), list(array.shape), str(array.dtype)]
        for name, array in arrays.items()
    }


def _digest(content) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
