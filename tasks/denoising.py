"""Diffusion models and flow matching as a task: predict the image or its noise at any noise level.

The process, the prediction and the weighting come from `diffusion`. The network may be any that takes images, times
and, if it has classes, labels (`models.DenoisingUNet`, `models.DiT`). The randomness of an example is a function of
the key and of the example's index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import data, diffusion
from ..errors import InputError
from .mean import Mean
from .task import Aux, Task, Variables, example_keys, example_weights

GOLDEN = 0.6180339887498949  # its multiples modulo 1 fill [0, 1] evenly, however many


def denoising(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    schedule: diffusion.NoiseSchedule,
    prediction: str = "v",
    weighting: diffusion.Weighting = diffusion.simple,
    num_classes: int | None = None,
    label_dropout: float = 0.1,
) -> Task:
    """Predicts `prediction` of x_t = α x_0 + σ ε, for x_0 = `batch["image"]` scaled to −1 … 1 and t uniform in (0, 1].

    Args:
      model: (x_t [batch, height, width, channel], times [batch], labels [batch] or None, train=) -> prediction.
      image_shape: (height, width, channel) of one image.
      schedule: the noise schedule, time -> (α, σ).
      prediction: a row of `diffusion.PREDICTIONS`.
      weighting: weight of the squared error at each noise level.
      num_classes: number of classes in `batch["label"]`; this number itself is the label for "no class". None trains an
        unconditional network.
      label_dropout: fraction of examples that train without their label, so that the network can be guided.
    Returns: a task whose loss is the weighted mean squared error. At prediction the times are spread evenly over the
      examples, times and noise are always the same, and no label is dropped.
    Raises: InputError for an unknown prediction, label_dropout outside [0, 1] or, from the loss, for a network whose
      output is not of the shape of the image.
    Source: Ho et al. 2020, algorithm 1; Lipman et al. 2023, equation 6, for "flow" with `diffusion.rectified_flow`.
    """
    weighting(prediction, schedule(0.5))  # fails here, and not in training, for an unknown prediction
    if not 0 <= label_dropout <= 1:
        raise InputError(f"label_dropout is {label_dropout}; it must be in [0, 1].")

    def init(key):
        labels = None if num_classes is None else jnp.zeros(1, jnp.int32)
        return model.init({"params": key}, jnp.zeros((1, *image_shape)), jnp.ones(1), labels, train=False)

    def loss(params, model_state, batch, key, train, hyper):
        del hyper
        x0 = data.to_signed_unit(batch["image"])
        example_key, dropout_key = jax.random.split(key)
        keys = example_keys(example_key, batch["index"])
        noise_keys, time_keys, label_keys = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
        noise = jax.vmap(lambda key: jax.random.normal(key, image_shape))(noise_keys)
        uniform = jax.vmap(jax.random.uniform)
        time = 1 - (uniform(time_keys) if train else batch["index"] * GOLDEN % 1)
        labels = None
        if num_classes is not None:
            dropped = uniform(label_keys) < (label_dropout if train else 0)
            labels = jnp.where(dropped, num_classes, batch["label"])

        level = schedule(time)
        wanted = diffusion.target(prediction, x0, noise, level)
        predicted: Any = model.apply(
            {"params": params, **model_state},
            diffusion.diffuse(x0, noise, level),
            time,
            labels,
            train=train,
            rngs={"dropout": dropout_key},
        )
        diffusion.check_shape(predicted, x0)
        error = ((predicted - wanted) ** 2).mean((1, 2, 3))
        return Mean.of(weighting(prediction, level) * error, example_weights(batch)), Aux(model_state, {})

    return Task(init, loss)


def predictor(model: nn.Module, variables: Variables) -> Callable[..., jax.Array]:
    """A trained network in the form that `diffusion.guided` and, without labels, `diffusion.denoiser` take.

    Args:
      model: same as `denoising`.
      variables: the trained variables.
    Returns: (x_t, times, labels or None) -> prediction.
    """

    def predict(x, time, labels=None) -> Any:
        return model.apply(variables, x, time, labels, train=False)

    return predict
