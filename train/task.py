"""What a training run is about: how variables begin and what "good" means for a batch.

A `Task` is two pure functions, the only thing the machinery of this room knows about a problem. Models,
losses and input normalisation are closed over by whoever builds one; `classification` builds the most common.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses, metrics

Variables = Mapping[str, Any]
Batch = Mapping[str, jax.Array]


class Aux(NamedTuple):
    """What a loss returns beside its scalar.

    model_state: the variable collections other than `params`, updated (BatchNorm's running statistics).
    metrics: name -> one value per example, `[batch]`. Whoever reduces applies the mask.
    """

    model_state: Variables
    metrics: Mapping[str, jax.Array]


@dataclass(frozen=True)
class Task:
    """A problem to train on.

    init: key -> variables: `params` and the collections of model state.
    loss: (params, model_state, batch, key, train, hyper) -> (scalar mean loss, `Aux`). hyper: the state's traced
      hyperparameters in training; {} at prediction, which depends on none.
    """

    init: Callable[[jax.Array], Variables]
    loss: Callable[[Any, Variables, Batch, jax.Array, bool, Mapping[str, jax.Array]], tuple[jax.Array, Aux]]


def example_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """One key for each example, a function of the key and of its index in the data set alone: [batch] -> [batch]."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def classification(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    preprocess: Callable[[jax.Array], jax.Array] = lambda images: images,
    label_smoothing: float = 0.0,
    traced_fields: Sequence[str] = (),
    views: Callable[[Batch], jax.Array] | None = None,
) -> Task:
    """Softmax classification of `batch["image"]` into `batch["label"]`: classes, or, of mixed examples, probabilities.

    Args:
      model: images [batch, height, width, channel] -> logits [batch, classes].
      image_shape: (height, width, channel) of one image.
      preprocess: images of the data set -> images for the model, at training and at prediction alike
        (normalisation; augmentation belongs to `make_step`).
      label_smoothing: mass moved from the label to the uniform distribution, in training only, in [0, 1).
      traced_fields: fields of the model that training takes from the hyperparameters of these names, such as
        "dropout", so that a population can vary them.
      views: at prediction, batch -> images [copies, batch, height, width, channel], whose probabilities are averaged
        (test-time augmentation); None for the image alone.
    Returns: a task whose metrics are `loss` and `accuracy` per example, both also of probabilities as labels.
    """

    def init(key):
        return model.init({"params": key}, preprocess(jnp.zeros((1, *image_shape), jnp.uint8)), train=False)

    def loss(params, model_state, batch, key, train, hyper):
        variables = {"params": params, **model_state}
        images = preprocess(batch["image"])
        if train:
            traced = model.clone(**{name: hyper[name] for name in traced_fields})
            logits, updated = traced.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=list(model_state)
            )
            model_state = {**model_state, **updated}
        elif views is None:
            logits: Any = model.apply(variables, images, train=False)
        else:
            of_views: Any = jax.lax.map(
                lambda view: model.apply(variables, preprocess(view), train=False), views(batch)
            )
            # The logarithm of the mean probability, but finite where that is too small a number.
            logits = jax.nn.logsumexp(jax.nn.log_softmax(of_views), axis=0) - math.log(len(of_views))
        per_example = losses.cross_entropy(logits, batch["label"], label_smoothing=label_smoothing if train else 0.0)
        return per_example.mean(), Aux(
            model_state, {"loss": per_example, "accuracy": metrics.accuracy(logits, batch["label"])}
        )

    return Task(init, loss)
