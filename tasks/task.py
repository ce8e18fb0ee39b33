"""What a training run is about: how variables begin, what is minimized, and which numbers are reported.

These types are all that the machinery of `train` knows about a problem. A `Task` is two pure functions; models, losses
and input normalization are closed over by whoever builds one. A `Game` is for two players with a loss each. An
`Evaluation` and a `RowEvaluation` say how numbers about a whole split come about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .mean import Mean

Variables = Mapping[str, Any]
Batch = Mapping[str, jax.Array]
Hyper = Mapping[str, jax.Array]


class Aux(NamedTuple):
    """What a loss returns beside its `Mean`."""

    model_state: Variables
    """The variable collections other than `params`, updated (the running statistics of BatchNorm)."""
    metrics: Mapping[str, Mean]
    """Name -> `Mean` over the batch."""


@dataclass(frozen=True)
class Task:
    """A problem to train on: one network (or several) that minimizes one loss."""

    init: Callable[[jax.Array], Variables]
    """key -> variables: `params` and the collections of model state."""
    loss: Callable[[Any, Variables, Batch, jax.Array, bool, Hyper], tuple[Mean, Aux]]
    """(params, model_state, batch, key, train, hyper) -> (loss, `Aux`). Every mean weighs its examples by
    `example_weights(batch)`. hyper: the state's traced hyperparameters in training; {} at prediction, which depends on
    none."""
    evaluation: Evaluation | None = None
    """What is reported at prediction; None for the loss and its metrics, each a mean over the split."""


PlayerLoss = Callable[[Any, Variables, Batch, jax.Array, Hyper], tuple[Mean, Aux]]


@dataclass(frozen=True)
class Game:
    """A problem for two players who take turns.

    Their variables have the player's name at the top of each collection.
    """

    init: Callable[[jax.Array], Variables]
    """key -> variables: `params` and the collections of model state, each {player: tree}."""
    discriminator_loss: PlayerLoss
    """(params, model_state, batch, key, hyper) -> (loss, `Aux`), in training. params and model_state are those of both
    players; only the discriminator's are meant to be differentiated, and are updated in `Aux`."""
    generator_loss: PlayerLoss
    """The same for the generator. It reads nothing of the batch but labels and indices."""
    evaluation: Evaluation
    """What is reported at prediction."""


GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclass(frozen=True)
class Evaluation:
    """Numbers about a split that come from sums: accuracy, mean IoU, log-likelihood."""

    statistics: Callable[[Variables, Batch], Any]
    """(variables, batch) -> a tree of arrays, which are added over the batches on the devices. An example of weight 0
    (`example_weights`) adds nothing: ragged batches are filled up with such examples."""
    report: Callable[[Any], Mapping[str, float]]
    """The sums over the split, as float64 arrays on the host -> name -> number."""


@dataclass(frozen=True)
class RowEvaluation:
    """Numbers about a split that need every example at once: mean average precision, BLEU."""

    rows: Callable[[Variables, Batch], Mapping[str, jax.Array]]
    """(variables, batch) -> {name: [batch, …]}. Row i depends on example i alone."""
    report: Callable[[Mapping[str, np.ndarray]], Mapping[str, float]]
    """{name: [examples, …]} on the host, in the order of the split -> name -> number."""


def example_weights(batch: Batch) -> jax.Array:
    """The weight of each example, [batch] float32: batch["weight"], or ones where the batch has none."""
    if "weight" in batch:
        return jnp.asarray(batch["weight"], jnp.float32)
    return jnp.ones(len(next(iter(batch.values()))), jnp.float32)


def example_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """One key for each example, a function of the key and of its index in the data set alone: [batch] -> [batch]."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def evaluation(task: Task | Game) -> Evaluation:
    """What a task reports of a split at prediction: its own evaluation, or the means of its loss and metrics."""
    if task.evaluation is not None:
        return task.evaluation
    loss_of = task.loss

    def statistics(variables, batch):
        model_state = {name: value for name, value in variables.items() if name != "params"}
        # Nothing is random at prediction: the key is there for the signature.
        loss, aux = loss_of(variables["params"], model_state, batch, jax.random.key(0), False, {})
        return {"loss": loss, **aux.metrics}

    return Evaluation(statistics, report_means)


def report_means(means: Mapping[str, Mean]) -> dict[str, float]:
    """{name: `Mean` on the host} -> {name: number}; NaN where nothing was counted."""
    return {
        name: float(mean.total) / float(mean.weight) if float(mean.weight) else float("nan")
        for name, mean in means.items()
    }
