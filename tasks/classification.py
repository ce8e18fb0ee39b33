"""Softmax classification as a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import losses, metrics
from .mean import Mean
from .task import Aux, Batch, Task, example_weights


def classification(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    reads: str = "image",
    preprocess: Callable[[jax.Array], jax.Array] = lambda images: images,
    label_smoothing: float = 0.0,
    class_weights: np.ndarray | Sequence[float] | None = None,
    traced_fields: Sequence[str] = (),
    views: Callable[[Batch], jax.Array] | None = None,
    trained: Callable[[tuple[str, ...]], bool] | None = None,
) -> Task:
    """Softmax classification of images, or of texts, into `batch["label"]`: classes, or the probabilities of mixed
    examples.

    Args:
      model: images [batch, height, width, channel], or tokens [batch, length] -> logits [batch, classes].
      input_shape: (height, width, channel) of one image, or (length,) of tokens.
      reads: name of the array of a batch that the model classifies, such as "image" or "text".
      preprocess: images of the data set -> images for the model, in training and at prediction alike (normalization;
        augmentation is an argument of `train.make_step`).
      label_smoothing: probability that is moved from the label to the uniform distribution, in training only, in
        [0, 1).
      class_weights: how much an example of each class counts in the loss, [classes], in training only; None for all
        alike. An example of mixed classes counts by the mean of their weights.
      traced_fields: fields of the model that training takes from the hyperparameters of these names, such as
        "dropout", so that a population can vary them.
      views: batch -> images [copies, batch, height, width, channel], whose predicted probabilities are averaged
        (test-time augmentation); None predicts from the image alone.
      trained: path of a parameter, such as ("head", "kernel") -> whether it is trained; None trains all. The others
        get no gradient, and in training the network runs as at prediction: a frozen network normalizes with the
        statistics that it has, and drops nothing. `train.only` keeps weight decay from the others.
    Returns: a task with the metric `accuracy`; loss and accuracy also take probabilities as labels.
    """

    def init(key):
        return model.init({"params": key}, preprocess(jnp.zeros((1, *input_shape), jnp.uint8)), train=False)

    def loss(params, model_state, batch, key, train, hyper):
        variables = {"params": params, **model_state}
        images = preprocess(batch[reads])
        if train and trained is not None:
            held = {**variables, "params": held_constant(params, trained)}
            logits: Any = model.apply(held, images, train=False)
        elif train:
            traced = model.clone(**{name: hyper[name] for name in traced_fields})
            logits, updated = traced.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=list(model_state)
            )
            model_state = {**model_state, **updated}
        elif views is None:
            logits = model.apply(variables, images, train=False)
        else:
            of_views: Any = jax.lax.map(
                lambda view: model.apply(variables, preprocess(view), train=False), views(batch)
            )
            # The logarithm of the mean probability, but finite where that is too small a number.
            logits = jax.nn.logsumexp(jax.nn.log_softmax(of_views), axis=0) - math.log(len(of_views))
        per_example = losses.cross_entropy(logits, batch["label"], label_smoothing=label_smoothing if train else 0.0)
        weights = example_weights(batch)
        counts = weights
        if train and class_weights is not None:
            of_class, label = jnp.asarray(class_weights, jnp.float32), batch["label"]
            counts = weights * (of_class[label] if jnp.issubdtype(label.dtype, jnp.integer) else label @ of_class)
        accuracy = Mean.of(metrics.accuracy(logits, batch["label"]), weights)
        return Mean.of(per_example, counts), Aux(model_state, {"accuracy": accuracy})

    return Task(init, loss)


def held_constant(params: Any, trained: Callable[[tuple[str, ...]], bool]) -> Any:
    """Parameters of which those that are not trained get no gradient."""

    def hold(path, x):
        return x if trained(tuple(key.key for key in path)) else jax.lax.stop_gradient(x)

    return jax.tree_util.tree_map_with_path(hold, params)
