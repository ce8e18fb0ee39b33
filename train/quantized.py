"""The vector-quantised autoencoder as a task, and the way from images to codes and back for what models codes next."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import data, losses
from .task import Aux, Task, Variables

COMMITMENT = 0.25  # β of van den Oord et al. 2017, section 3.2


def vector_quantized(model: nn.Module, image_shape: tuple[int, int, int]) -> Task:
    """Minimises (x − x̂)² + (sg(z) − e)² + β (z − sg(e))², each a mean over entries, images being scaled to [−1, 1].

    The middle term is 0 where the codes follow averages. β is hyper["commitment"], which a population may vary; where
    there is none, as at prediction, it is 0.25.

    Args:
      model: images -> (outputs, `models.vqvae.Quantized`).
      image_shape: (height, width, channel) of one image.
    Returns: a task with metrics per example: `loss`, `reconstruction` and `commitment` (without β). In training also
      `perplexity` of the codes' use, of the batch as a whole; at prediction rows must not depend on the batch, and
      `images_to_codes` has the codes to count.
    Source: van den Oord et al. 2017, "Neural discrete representation learning", equation 3.
    """

    def init(key):
        return model.init({"params": key}, jnp.zeros((1, *image_shape)), train=False)

    def loss(params, model_state, batch, key, train, hyper):
        variables = {"params": params, **model_state}
        images = data.to_unit(batch["image"])
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
        metrics = {"loss": per_example, "reconstruction": reconstruction, "commitment": quantized.commitment}
        if train:
            metrics["perplexity"] = jnp.full(len(images), quantized.perplexity)
        return per_example.mean(), Aux(model_state, metrics)

    return Task(init, loss)


def images_to_codes(model: nn.Module, variables: Variables, images: jax.Array) -> jax.Array:
    """Images as grids of numbers of codes. For a split, `map_examples` takes it in a function of a batch.

    Args:
      model: with a method encode_indices(images).
      variables: as the task makes them.
      images: uint8 [batch, height, width, channel].
    Returns: int32 [batch, rows, columns].
    """
    indices: Any = model.apply(variables, data.to_unit(images), method="encode_indices")
    return indices


def codes_to_images(model: nn.Module, variables: Variables, indices: jax.Array) -> jax.Array:
    """What grids of codes look like.

    Args:
      model: with a method decode_indices(indices).
      variables: as the task makes them.
      indices: integers [batch, rows, columns].
    Returns: uint8 [batch, height, width, channel].
    """
    outputs: Any = model.apply(variables, indices, method="decode_indices")
    return data.to_pixels(outputs)
