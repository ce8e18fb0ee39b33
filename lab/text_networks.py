"""Networks that read texts, as a `Training`: translators, language models and classifiers, by the same path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, NamedTuple

import flax.linen as nn

from .. import tasks
from .options import BatchOptions, LayoutOptions, OptimizerOptions, UpdateOptions
from .saved_network import SavedNetwork
from .texts import Corpus
from .training import Training, make_training, named_network
from .valid import PROPER_FRACTION


@dataclass(frozen=True)
class SmoothingOptions:
    """How the loss of tokens or labels differs from their negative log probability."""

    TITLE: ClassVar[str] = "model"

    label_smoothing: Annotated[float, PROPER_FRACTION] = 0.1
    """Probability that the training target moves from the token to all tokens alike."""


class Reader(NamedTuple):
    """What a network is trained to do with texts."""

    task: Callable[[Any, int, float], tasks.Task]
    """(network, tokens in a row, label smoothing) -> the task."""
    shape: Callable[[Corpus, int], tuple[int, ...]]
    """(texts, tokens in a row) -> what `SavedNetwork.shape` has."""


READERS = {
    "translator": Reader(
        lambda network, row, smoothing: tasks.translation(network, (row, row), label_smoothing=smoothing),
        lambda corpus, row: (corpus.lengths["source"], corpus.lengths["target"]),
    ),
    "language_model": Reader(
        lambda network, row, smoothing: tasks.language_model(network, row, label_smoothing=smoothing),
        lambda corpus, row: (row,),
    ),
    "text_classifier": Reader(
        lambda network, row, smoothing: tasks.classification(network, (row,), reads="text", label_smoothing=smoothing),
        lambda corpus, row: (row,),
    ),
}


def text_training(
    role: str,
    corpus: Corpus,
    *,
    model: str | nn.Module,
    batch: BatchOptions,
    optimizer: OptimizerOptions,
    update: UpdateOptions,
    label_smoothing: float = 0.0,
    seed: int = 0,
    fields: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    layout: LayoutOptions = LayoutOptions(),
    accumulate: int = 1,
) -> tuple[Training, nn.Module]:
    """The training of the network that options name, and the network.

    Args:
      role: a key of `READERS`.
      corpus: texts, as tokens.
      model: a name of `models.names(role=role)`, or a module, which is called as `tasks.translation`,
        `tasks.language_model` or `tasks.classification` says.
      batch, optimizer, update, layout: groups of options.
      label_smoothing: probability that the training target moves from the token, or the label, to all alike.
      seed: seed of the training.
      fields: fields of the named network, such as {"width": 64}; those that the texts decide are set here.
      dtype: data type of activations and gradients.
      accumulate: number of parts of a batch.
    Raises: InputError for a name, field or number that is not valid.
    """
    name, network = None, model
    if isinstance(model, str):
        name, classes = model, corpus.train.classes
        sizes = {"vocab_size": corpus.tokenizer.vocab_size} | ({"num_classes": len(classes)} if classes else {})
        network = named_network(model, role, dtype, None, **sizes, **(fields or {}))
    assert isinstance(network, nn.Module)
    reader, row = READERS[role], next(iter(corpus.train.element_spec.values())).shape[0]
    training = make_training(
        reader.task(network, row, label_smoothing),
        corpus.train,
        corpus.validation,
        batch=batch,
        optimizer=optimizer,
        update=update,
        seed=seed,
        layout=layout,
        accumulate=accumulate,
    )
    saved = SavedNetwork.of_texts(network, name, corpus.train, role, corpus.tokenizer, reader.shape(corpus, row))
    return replace(training, saved=saved), network
