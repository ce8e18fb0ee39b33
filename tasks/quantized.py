"""The vector-quantized autoencoder as a task, and the maps from images to codes and back for a model of codes."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import data, losses
from .mean import Mean
from .task import Aux, Task, Variables, example_weights

COMMITMENT = 0.25  # β of van den Oord et al. 2017, section 3.2


def vector_quantized(model: nn.Module, image_shape: tuple[int, int, int]) -> Task:
    """Minimizes (x − x̂)² + (sg(z) − e)² + β (z − sg(e))², each a mean over entries, images being scaled to [−1, 1].

    The middle term is 0 where the codes follow moving averages. β is hyper["commitment"], which a population may vary;
    without one, and at prediction, β is 0.25.

    Args:
      model: images -> (outputs, `models.generative.Quantized`).
      image_shape: (height, width, channel) of one image.
    Returns: a task with the metrics `reconstruction` and `commitment` (without β) and, in training, `perplexity`: how
      many codes the batch uses. At prediction an example must not depend on its batch; count the codes that
      `images_to_codes` gives.
    Source: van den Oord et al. 2017, "Neural discrete representation learning", equation 3.
    """

    def init(key):
        return model.init({"params": key}, jnp.zeros((1, *image_shape)), train=False)

    def loss(params, model_state, batch, key, train, hyper):
        variables = {"params": params, **model_state}
        images = data.to_signed_unit(batch["image"])
        if train:
            (outputs, quantized), updated = model.apply(
                variables, images, train=True, rngs={"revive": key}, mutable=list(model_state)
            )
            model_state = {**model_state, **updated}
        else:
            answer: Any = model.apply(variables, images, train=False)
            outputs, quantized = answer
        reconstruction = losses.squared_loss(outputs, images).mean((1, 2, 3))
        beta = hyper.get("commitment", COMMITMENT)
        per_example = reconstruction + quantized.codebook + beta * quantized.commitment
        weights = example_weights(batch)
        metrics = {
            "reconstruction": Mean.of(reconstruction, weights),
            "commitment": Mean.of(quantized.commitment, weights),
        }
        if train:
            metrics["perplexity"] = Mean.of(jnp.full(len(images), quantized.perplexity), weights)
        return Mean.of(per_example, weights), Aux(model_state, metrics)

    return Task(init, loss)


def images_to_codes(model: nn.Module, variables: Variables, images: jax.Array) -> jax.Array:
    """Encodes images as grids of code indices. For a whole split, wrap it in a function for `train.map_examples`.

    Args:
      model: a module with the method encode_indices(images).
      variables: the task's variables.
      images: uint8 [batch, height, width, channel].
    Returns: int32 [batch, rows, columns].
    """
    indices: Any = model.apply(variables, data.to_signed_unit(images), method="encode_indices")
    return indices


def codes_to_images(model: nn.Module, variables: Variables, indices: jax.Array) -> jax.Array:
    """Decodes grids of code indices into images.

    Args:
      model: a module with the method decode_indices(indices).
      variables: the task's variables.
      indices: integers [batch, rows, columns].
    Returns: uint8 [batch, height, width, channel].
    """
    outputs: Any = model.apply(variables, indices, method="decode_indices")
    return data.to_pixels(outputs)
