"""Diffusion models and flow matching as a task: predict what is image and what is noise, at any noise level.

The process, the prediction and the weighting are choices of `diffusion`; the network is any that is called with images,
times and, if it has classes, labels (`models.denoising_unet`, `models.dit`). All randomness of an example is a function
of the key and the example's index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import data, diffusion
from .task import Aux, Task, Variables, example_keys

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
      schedule: of the noise.
      prediction: a row of `diffusion.PREDICTIONS`.
      weighting: of the squared error at each noise level.
      num_classes: condition on `batch["label"]`, with this number as the label of none; None for no condition.
      label_dropout: part of the examples that train without their label, so that the network can be guided.
    Returns: a task with the metric `loss`, the weighted mean squared error per example. At prediction the times are
      spread evenly over the examples and, as the noise, always the same, and no label is dropped.
    Raises: ValueError for an unknown prediction, or label_dropout outside [0, 1].
    Source: Ho et al. 2020, algorithm 1; Lipman et al. 2023, equation 6, for "flow" with `diffusion.rectified_flow`.
    """
    weighting(prediction, schedule(0.5))  # an unknown prediction must not come out in training
    if not 0 <= label_dropout <= 1:
        raise ValueError(f"label_dropout is {label_dropout}; it must be in [0, 1].")

    def init(key):
        labels = None if num_classes is None else jnp.zeros(1, jnp.int32)
        return model.init({"params": key}, jnp.zeros((1, *image_shape)), jnp.ones(1), labels, train=False)

    def loss(params, model_state, batch, key, train, hyper):
        del hyper
        x0 = data.to_unit(batch["image"])
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
            {"params": params, **model_state}, diffusion.diffuse(x0, noise, level), time, labels,
            train=train, rngs={"dropout": dropout_key},
        )  # fmt: skip
        error = ((predicted - wanted) ** 2).mean((1, 2, 3))
        per_example = weighting(prediction, level) * error
        return per_example.mean(), Aux(model_state, {"loss": per_example})

    return Task(init, loss)


def predictor(model: nn.Module, variables: Variables) -> Callable[..., jax.Array]:
    """A trained network as `diffusion.guided` and, without labels, `diffusion.denoiser` want it.

    Args:
      model: as of `denoising`.
      variables: its own.
    Returns: (x_t, times, labels or None) -> prediction.
    """

    def predict(x, time, labels=None) -> Any:
        return model.apply(variables, x, time, labels, train=False)

    return predict
