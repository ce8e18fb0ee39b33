"""What a run keeps of its network, so that it can be used when it is trained: `network.json` in the run's folder.

`fit` writes it as training begins and, when training is done, says in it which checkpoint counts. `load_network`
reads it and gives the network with its best variables. An exported file of weights holds the same values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from .. import models, tasks, train
from ..data import Source
from ..data.text import Tokenizer
from ..errors import InputError, MissingFile, listed
from ..models import pretrained
from .config import read_json
from .folder import read_result, write_json

FILE = "network.json"
ROLES = {  # role -> command that uses it
    "classifier": "classify",
    "segmenter": "segment",
    "detector": "detect",
    "translator": "translate",
    "text_classifier": "classify_text",
    "language_model": "generate",
}
OF_TEXTS = ("translator", "text_classifier", "language_model")
NEEDED = frozenset({"data", "model", "fields", "classes", "shape", "mean", "std"})
EXPORTED = NEEDED | {"role", "is_thing", "tokenizer"}  # what a file of weights says too


@dataclass(frozen=True)
class SavedNetwork:
    """What a network is, what it reads and what it tells apart."""

    data: str
    """Name of the data set that it was trained on."""
    model: str
    """Name of the network."""
    fields: Mapping[str, Any]
    """Fields of the network that differ from those of the name, as `models.describe` gives them."""
    classes: tuple[str, ...]
    """Names of the classes, if there are any."""
    shape: tuple[int, ...]
    """(height, width, channel) of the images; the most tokens of a text, or (source, target) of a pair."""
    mean: tuple[float, ...]
    """What is subtracted from each channel of pixels in [0, 1]; empty for texts."""
    std: tuple[float, ...]
    """What they are divided by then; empty for texts."""
    role: str = "classifier"
    """What it is for, as `models.entry` says: a key of `ROLES`."""
    is_thing: tuple[bool, ...] = ()
    """Which classes are of objects that can be counted, and not of stuff; empty if the data set does not say."""
    tokenizer: str = ""
    """JSON of the tokenizer of a network that reads texts, as `tokenizers` reads it."""
    weights: Mapping[str, Any] = field(default_factory=dict)
    """Where training began, if not at random: "path" of the weights, "digest" of their arrays, "note", a sentence
    about what became of them, and "counts", numbers of parameters by name."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """When training is done: "step", the checkpoint that counts, and "seeds", one for each member."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channel) of the images, of a network that reads images."""
        height, width, channel = self.shape
        return height, width, channel

    @classmethod
    def of(
        cls, model: nn.Module, name: str | None, source: Source, mean: np.ndarray, std: np.ndarray, role: str
    ) -> SavedNetwork:
        """What there is to keep of a network.

        Args:
          model: the network.
          name: what `models.create` made it of, or None for a user's own.
          source: the training split.
          mean, std: of each channel.
          role: what it is for.
        """
        name, fields = models.describe(model, name)
        moments = tuple(np.asarray(mean).tolist()), tuple(np.asarray(std).tolist())
        shape = source.element_spec["image"].shape
        return cls(source.name, name, fields, source.classes, shape, *moments, role=role, is_thing=source.is_thing)

    @classmethod
    def of_texts(
        cls,
        model: nn.Module,
        name: str | None,
        source: Source,
        role: str,
        tokenizer: Tokenizer,
        lengths: Sequence[int],
    ) -> SavedNetwork:
        """What there is to keep of a network that reads texts.

        Args:
          model, name, source, role: same as in `of`.
          tokenizer: made its tokens.
          lengths: the most tokens of a text, or of a source and a target.
        """
        name, fields = models.describe(model, name)
        none: tuple[float, ...] = ()
        return cls(
            source.name, name, fields, source.classes, tuple(lengths), none, none, role, tokenizer=tokenizer.json
        )

    def write(self, folder: Path) -> None:
        """Writes the file, or leaves it as an earlier start of the run wrote it.

        Raises: InputError if the run began with other weights than are there now.
        """
        if not (folder / FILE).exists():
            write_json(folder / FILE, asdict(self))
            return
        there = read_saved(folder).weights
        if there.get("digest") != self.weights.get("digest"):
            began = there.get("path", "random numbers")
            raise InputError(
                f"The run in {folder} began with the weights {began}, which have changed since. Give the run another "
                "--name, or put the old file back."
            )

    def announce(self, note: Callable[[str], None]) -> None:
        """Notes in one sentence what training begins with, unless that is random."""
        if self.weights:
            note(self.weights["note"])

    def finish(self, folder: Path, step: int, seeds: np.ndarray) -> None:
        """Says in the file that training is done: which checkpoint counts, and the seed of each member."""
        write_json(folder / FILE, asdict(replace(self, trained={"step": int(step), "seeds": seeds.tolist()})))


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that is ready to be used."""

    saved: SavedNetwork
    """What it is."""
    model: nn.Module
    """images [batch, height, width, channel] -> what a network of its role answers."""
    variables: tasks.Variables
    """Those of the best validation."""
    member: str
    """Which member of a population it is; "" if there was one alone."""


def read_saved(folder: Path) -> SavedNetwork:
    """What a run's folder says of its network.

    Raises: MissingFile if there is no such folder; InputError if there is no network in it, or the file is damaged.
    """
    if not folder.is_dir():
        raise MissingFile(f"There is no run {folder}.")
    if not (folder / FILE).is_file():
        parts = sorted(str(path.parent) for path in folder.glob(f"*/{FILE}"))
        if parts:
            raise InputError(f"{folder} is not the run of one network; name one of its folders: {listed(parts)}.")
        raise InputError(
            f"{folder} holds no network to be used: it has no {FILE}, which every experiment writes that trains "
            "classifiers, segmenters, detectors or networks that read texts."
        )
    return from_plain(read_json(folder / FILE), folder / FILE)


def from_plain(plain: Mapping[str, Any], path: Path) -> SavedNetwork:
    """What JSON holds of a network.

    Args:
      plain: field -> value.
      path: where it is from, for the message.
    Raises: InputError if a field is missing or has a value that it can't have.
    """
    role = plain.get("role", "classifier")
    if role not in ROLES:
        raise InputError(f"{path} is damaged: it says no role that can be used.")
    texts = role in OF_TEXTS
    valid = {
        "data": lambda x: isinstance(x, str),
        "model": lambda x: isinstance(x, str),
        "fields": lambda x: isinstance(x, Mapping),
        "classes": lambda x: _list_of(str, x) and (len(x) > 0 or role in ("translator", "language_model")),
        "shape": lambda x: _list_of(int, x) and len(x) in ((1, 2) if texts else (3,)) and min(x) >= 1,
        "mean": lambda x: _list_of((int, float), x) and all(map(math.isfinite, x)),
        "std": lambda x: _list_of((int, float), x) and all(0 < each < math.inf for each in x),
    }
    for name, holds in valid.items():
        if name not in plain or not holds(plain[name]):
            raise InputError(f"{path} is damaged: it says no {name} that can be used.")
    weights, trained = plain.get("weights", {}), plain.get("trained", {})
    if not isinstance(weights, Mapping) or not isinstance(trained, Mapping):
        raise InputError(f"{path} is damaged: weights and trained must be objects.")
    if trained and not (type(trained.get("step")) is int and _list_of(int, trained.get("seeds"))):
        raise InputError(f"{path} is damaged: it does not say which checkpoint counts.")
    channels = 0 if texts else plain["shape"][2]
    if not len(plain["mean"]) == len(plain["std"]) == channels:
        raise InputError(f"{path} is damaged: mean and std must be of {channels} channel(s).")
    is_thing, tokenizer = tuple(plain.get("is_thing", ())), plain.get("tokenizer", "")
    if len(is_thing) not in (0, len(plain["classes"])):
        raise InputError(f"{path} is damaged: it says no is_thing that can be used.")
    if texts:
        _check_tokenizer(tokenizer, plain["fields"], path)
    lists = {name: tuple(plain[name]) for name in ("classes", "shape", "mean", "std")}
    return SavedNetwork(
        plain["data"],
        plain["model"],
        plain["fields"],
        **lists,
        role=role,
        is_thing=is_thing,
        tokenizer=tokenizer,
        weights=weights,
        trained=trained,
    )


def load_network(folder: Path, role: str | None = "classifier") -> TrainedNetwork:
    """The network of a finished run, with the variables of the best validation; of a population, the best member.

    Args:
      folder: the run's or, where a run trained several networks, that of one of them.
      role: a key of `ROLES`; None for any.
    Raises: MissingFile; InputError if there is no network, it has another role, training is not done, the checkpoint
      that counts is missing or damaged, or the network can't be made again.
    """
    saved = read_saved(folder)
    if role is not None and saved.role != role:
        raise InputError(f"The network of the run in {folder} is a {saved.role}; etude {ROLES[saved.role]} uses it.")
    if not saved.trained or ((folder / "config.json").exists() and not (folder / "result.json").exists()):
        raise InputError(f"The run in {folder} is not finished; the command that began it goes on with it.")
    model = models.rebuild(saved.model, saved.fields)
    restored = train.read_checkpoint(folder / "checkpoints", saved.trained["step"])
    arrays, member, seeds = _best(restored.tree), "", saved.trained["seeds"]
    if np.ndim(restored.record["best_epoch"]):
        number = _best_member(restored.record)
        arrays = {name: array[number] for name, array in arrays.items()}
        hyper = {name.removeprefix("state/hyper/"): x[number] for name, x in restored.tree.items() if "hyper/" in name}
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in hyper.items())
        member = f"member {number + 1} of {len(seeds)}, with the best validation: seed {seeds[number]}, {numbers}"
    return TrainedNetwork(saved, model, _fitted(arrays, model, saved, folder), member)


def best_part(folder: Path) -> Path:
    """The folder of a run's network; of a run of several, the one whose loss on validation is least.

    Args:
      folder: the run's, or that of one of its networks.
    Returns: a folder for `load_network`: the same, if its result does not tell which network is best.
    """
    result = None if (folder / FILE).exists() else read_result(folder)
    numbers = {} if result is None else result["metrics"]
    losses = {path.parent: numbers.get(f"{path.parent.name}_validation_loss") for path in folder.glob(f"*/{FILE}")}
    known = {part: loss for part, loss in losses.items() if loss is not None}
    return min(known, key=known.__getitem__) if known else folder


def to_metadata(saved: SavedNetwork) -> dict[str, str]:
    """What a file of weights says of the network, as the texts that such a file can hold."""
    values = {name: value for name, value in asdict(saved).items() if name in EXPORTED}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def saved_in(path: Path) -> SavedNetwork | None:
    """What a file of weights says of its network; None if it says nothing, as published files do.

    Raises: InputError if what it says can't be used.
    """
    texts = pretrained.read_metadata(path)
    if not texts.keys() >= NEEDED:
        return None
    plain = ("data", "model", "role", "tokenizer")
    try:
        values = {name: texts[name] if name in plain else json.loads(texts[name]) for name in EXPORTED if name in texts}
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: its metadata are no JSON ({error}).") from None
    return from_plain(values, path)


def model_in(path: Path, saved: SavedNetwork, named: str | None = None) -> nn.Module:
    """The network of a file of weights.

    A file comes from anywhere, so that what it says imports nothing: a network of one's own must be named.

    Args:
      path: the file, for messages.
      saved: what it says.
      named: the network's name, if the user gave one.
    Raises: InputError if the network can't be made of its name and of plain values.
    """
    if named is None and ":" in saved.model:
        raise InputError(f"{path} is of a network of your own, {saved.model}; name it with --model to import it.")
    code = [name for name, value in saved.fields.items() if models.holds_code(value)]
    if code:
        raise InputError(f"{path} is of a network with code of its own ({listed(code)}), which no file can hold.")
    return models.rebuild(named or saved.model, saved.fields)


def _best(tree: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """path -> array of the variables to predict with, in the arrays of a checkpoint of `train.fit`."""
    best = {name.removeprefix("best/"): array for name, array in tree.items() if name.startswith("best/")}
    if best:
        return best
    kept = "state/ema/" if any(name.startswith("state/ema/") for name in tree) else "state/"
    named = {name.removeprefix(kept): array for name, array in tree.items() if name.startswith(kept)}
    return {
        name.removeprefix("model_state/"): array
        for name, array in named.items()
        if name.startswith(("params/", "model_state/"))
    }


def _best_member(record: Mapping[str, Any]) -> int:
    """The member of the highest score, the first of equals."""
    if record["score"] is None:
        raise InputError("The members of this population were never validated, so that none of them is the best.")
    scores = list(zip(*record["score"], strict=True))
    return max(range(len(scores)), key=lambda i: (all(map(math.isfinite, scores[i])), scores[i]))


def _fitted(arrays: Mapping[str, np.ndarray], model: nn.Module, saved: SavedNetwork, folder: Path) -> Any:
    """Arrays by their paths as variables of the network; raises InputError if they are those of another one."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(pretrained.template(model, saved.shape))
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    wanted = {name: leaf.shape for name, (_, leaf) in zip(names, leaves, strict=True)}
    differing = sorted(name for name in wanted.keys() | arrays.keys() if wanted.get(name) != _shape(arrays.get(name)))
    if differing:
        raise InputError(
            f"The network of the run in {folder} is another one than {saved.model} is now; these differ: "
            f"{listed(differing)}."
        )
    return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in names])


def _shape(array: np.ndarray | None) -> tuple[int, ...] | None:
    return None if array is None else array.shape


def _check_tokenizer(json_text: Any, fields: Mapping[str, Any], path: Path) -> None:
    """Raises InputError unless the text is a tokenizer that has as many tokens as the network knows."""
    try:
        found = Tokenizer(json_text).vocab_size
    except (InputError, TypeError) as error:
        raise InputError(f"{path} is damaged: it holds no tokenizer that can be used ({error}).") from None
    if fields.get("vocab_size", found) != found:
        raise InputError(
            f"The tokenizer in {path} has {found} tokens and the network {fields['vocab_size']}: the weights were "
            "trained with another one."
        )


def _list_of(kind: Any, value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(x, kind) and not isinstance(x, bool) for x in value)
