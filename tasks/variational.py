"""The variational autoencoder as a task, and the importance-weighted bound that judges it afterwards.

A model encodes images to a Gaussian over latents and decodes latents to outputs (`models.ConvVAE`). A row of
`LIKELIHOODS` turns the outputs into the probability of an image: it scales the images, gives the reconstruction term of
the bound, and may have one learned parameter of its own, a scale. The randomness of an example is a function of the key
and of the example's index, so numbers depend neither on batches nor on how samples are cut into chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses
from ..errors import InputError
from ..models.generative import reparameterize
from .mean import Mean
from .task import Aux, Batch, Task, Variables, example_keys, example_weights


@dataclass(frozen=True)
class Likelihood:
    """The distribution of an image given a decoder's outputs."""

    low: float
    """Images are scaled to [low, 1] for the encoder and for `nll`."""
    nll: Callable[[jax.Array, Any, jax.Array], jax.Array]
    """(outputs, log scale, images) -> nats [batch]; outputs and images are [batch, height, width, channel]."""
    means: Callable[[jax.Array], jax.Array] = lambda outputs: outputs
    """outputs -> mean images, in [low, 1] if the outputs stay in that range."""
    log_scale: float | None = None
    """Initial value of the learned logarithm of the scale; None if the distribution has no scale."""


# Scales begin at about the error of predicting the mean image.
LIKELIHOODS: Mapping[str, Likelihood] = {
    # A probability of black and white images; of gray ones neither that nor a density.
    "bernoulli": Likelihood(
        0.0, lambda outputs, _, images: losses.bernoulli_nll(outputs, images), means=jax.nn.sigmoid
    ),
    # A density with σ² = ½: ‖image − output‖² and a constant, the lecture's loss.
    "squared_error": Likelihood(-1.0, lambda outputs, _, images: losses.gaussian_nll(outputs, math.log(0.5), images)),
    # A density whose σ is learned (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders").
    "gaussian": Likelihood(
        -1.0, lambda outputs, s, images: losses.gaussian_nll(outputs, 2 * s, images), log_scale=-1.0
    ),
    # Probabilities of 8-bit images: the two that make bits per dimension honest.
    "discretized_gaussian": Likelihood(
        -1.0, lambda outputs, s, images: losses.discretized_gaussian_nll(outputs, 2 * s, images), log_scale=-1.0
    ),
    "discretized_logistic": Likelihood(
        -1.0, lambda outputs, s, images: losses.discretized_logistic_nll(outputs, s, images), log_scale=-1.5
    ),
}


BINARIZATIONS = ("static", "dynamic")


BINARY = 0x62  # the draw of black and white, besides that of the latents


def binarize(batch: Batch, key: jax.Array | None = None) -> Batch:
    """A batch whose pixels are black or white, drawn with their gray as the probability of white.

    Args:
      batch: "image" [batch, height, width, channel], 0 … 255, and "index" int [batch].
      key: one key; None always draws the same of an example.
    Returns: the batch with images of 0 and 255, of the type they had. The draw of an example is a function of the key
      and its index.
    Source: Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks", section 4.

    >>> batch = {"image": jnp.array([[[[0], [255]]]], jnp.uint8), "index": jnp.zeros(1, int)}
    >>> print(binarize(batch)["image"].ravel())
    [  0 255]
    """
    images = batch["image"]
    # A key of its own, as the latents of an example are drawn with the key as it is.
    keys = example_keys(jax.random.fold_in(jax.random.key(0) if key is None else key, BINARY), batch["index"])
    threshold = jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:]))(keys)
    return {**batch, "image": jnp.where(255 * threshold < images, 255, 0).astype(images.dtype)}


def variational_autoencoder(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    likelihood: str = "bernoulli",
    binarized: str | None = None,
) -> Task:
    """Maximizes the evidence lower bound of `batch["image"]`, by one draw of the latents for each example.

    Training minimizes −E log p(x | z) + β KL(q(z | x) ‖ p(z)) with β = hyper["beta"], which a population may vary
    (Higgins et al. 2017, "β-VAE"). Without one, and at prediction, β is 1 and the loss is the negative bound. The draw
    of an example is a function of the key and of `batch["index"]`.

    Args:
      model: a module with the methods encode(images) -> (mean, log variance) and decode(latents) -> outputs, without
        model state.
      image_shape: (height, width, channel) of one image.
      likelihood: a key of `LIKELIHOODS`. Its learned scale is in `params["likelihood"]`.
      binarized: "static" draws each image black and white once, "dynamic" anew whenever it is trained on; None leaves
        images gray. At prediction both draw the same, that of `binarize` without a key.
    Returns: a task whose loss is in nats, with β. Its metrics are `elbo`, the bound; the terms `reconstruction` =
      −log p(x | z) and `kl`, all in nats; and `bits_per_dim` = −elbo / (log 2 · pixels · channels), which can be
      compared with other models only if the likelihood is a probability of the images.
    Raises: InputError for an unknown likelihood or way to binarize.
    Source: Kingma & Welling 2013, "Auto-encoding variational Bayes", equations 3 and 10.
    """
    row = _row(likelihood)
    if binarized is not None and binarized not in BINARIZATIONS:
        raise InputError(f"binarized is {binarized!r}; valid are None, {', '.join(BINARIZATIONS)}.")
    dims = math.prod(image_shape)

    def init(key):
        variables: Any = model.init({"params": key}, jnp.zeros((1, *image_shape)), train=False)
        if row.log_scale is None:
            return variables
        learned = {"log_scale": jnp.float32(row.log_scale)}
        return {**variables, "params": {**variables["params"], "likelihood": learned}}

    def loss(params, model_state, batch, key, train, hyper):
        variables = {"params": params, **model_state}
        if binarized is not None:
            batch = binarize(batch, key if train and binarized == "dynamic" else None)
        images = _scaled(batch["image"], row)
        posterior: Any = model.apply(variables, images, method="encode")
        mean, log_variance = posterior
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(example_keys(key, batch["index"]))
        outputs: Any = model.apply(variables, reparameterize(mean, log_variance, noise), method="decode")
        reconstruction = row.nll(outputs, _log_scale(params, row), images)
        kl = losses.gaussian_kl(mean, log_variance)
        weights = example_weights(batch)
        per_example = {
            "elbo": -(reconstruction + kl),
            "reconstruction": reconstruction,
            "kl": kl,
            "bits_per_dim": losses.bits_per_dim(reconstruction + kl, dims),
        }
        metrics = {name: Mean.of(values, weights) for name, values in per_example.items()}
        return Mean.of(reconstruction + hyper.get("beta", 1.0) * kl, weights), Aux(model_state, metrics)

    return Task(init, loss)


def importance_weighted_bound(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: jax.Array,
    samples: int,
    *,
    likelihood: str = "bernoulli",
    chunk: int = 10,
) -> jax.Array:
    """log (1/k) Σ_i p(x, z_i) / q(z_i | x) with k draws z_i of q: on average below log p(x), and closer for larger k.

    With k = 1 it is an estimate of the evidence lower bound. Draw i of an example is a function of the key, of the
    example's index and of i: chunks change nothing but memory, and the draws for a smaller k are the first ones.
    For a whole split, give `train.map_examples` the function `lambda variables, batch: {"bound":
    importance_weighted_bound(…)}`.

    Args:
      model, likelihood: same as `variational_autoencoder`.
      variables: the task's variables.
      batch: "image" uint8 [batch, height, width, channel] and "index" int [batch].
      key: one key.
      samples: k, at least 1.
      chunk: number of draws per example that are decoded at once, at least 1.
    Returns: [batch] float32, nats.
    Raises: InputError for an unknown likelihood, or `samples` or `chunk` below 1.
    Source: Burda et al. 2016, "Importance weighted autoencoders", equation 8.
    """
    row = _row(likelihood)
    if samples < 1 or chunk < 1:
        raise InputError(f"samples is {samples} and chunk {chunk}; both must be at least 1.")
    chunk = min(chunk, samples)
    images = _scaled(batch["image"], row)
    posterior: Any = model.apply(variables, images, method="encode")
    mean, log_variance = posterior
    keys, log_scale = example_keys(key, batch["index"]), _log_scale(variables["params"], row)
    repeated = jnp.broadcast_to(images, (chunk, *images.shape)).reshape(-1, *images.shape[1:])

    def draw(number):
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), mean.shape[1:]))(keys)

    def add_chunk(total, first):
        numbers = first + jnp.arange(chunk)
        noise = jax.vmap(draw)(numbers)  # [chunk, batch, latent]
        z = reparameterize(mean, log_variance, noise)
        outputs: Any = model.apply(variables, z.reshape(-1, z.shape[-1]), method="decode")
        log_likelihood = -row.nll(outputs, log_scale, repeated).reshape(z.shape[:2])
        # log p(z) − log q(z | x), in which 2π cancels.
        log_weights = log_likelihood + 0.5 * (noise**2 + log_variance - z**2).sum(-1)
        log_weights = jnp.where((numbers < samples)[:, None], log_weights, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_weights, axis=0)), None

    nothing = jnp.full(len(images), -jnp.inf)
    total, _ = jax.lax.scan(add_chunk, nothing, jnp.arange(0, samples, chunk))
    return total - math.log(samples)


def encode_images(
    model: nn.Module, variables: Variables, images: jax.Array, *, likelihood: str = "bernoulli"
) -> tuple[jax.Array, jax.Array]:
    """Encodes images as distributions over latents.

    Args:
      model, variables, likelihood: same as `importance_weighted_bound`.
      images: uint8 [batch, height, width, channel].
    Returns: mean and log variance of the latents, [batch, latent] each.
    Raises: InputError for an unknown likelihood.
    """
    posterior: Any = model.apply(variables, _scaled(images, _row(likelihood)), method="encode")
    return posterior


def decode_images(
    model: nn.Module, variables: Variables, latents: jax.Array, *, likelihood: str = "bernoulli"
) -> jax.Array:
    """Decodes latents to the mean image of the likelihood. Standard normal latents give new images.

    Args:
      model, variables, likelihood: same as `importance_weighted_bound`.
      latents: [batch, latent].
    Returns: uint8 [batch, height, width, channel].
    Raises: InputError for an unknown likelihood.
    """
    row = _row(likelihood)
    outputs: Any = model.apply(variables, latents, method="decode")
    pixels = 255 * (row.means(outputs) - row.low) / (1 - row.low)
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def _row(likelihood: str) -> Likelihood:
    if likelihood not in LIKELIHOODS:
        raise InputError(f"likelihood is {likelihood!r}; valid are: {', '.join(LIKELIHOODS)}.")
    return LIKELIHOODS[likelihood]


def _scaled(images: jax.Array, row: Likelihood) -> jax.Array:
    """0 … 255, uint8 or float -> [row.low, 1] float32."""
    return images.astype(jnp.float32) * ((1 - row.low) / 255) + row.low


def _log_scale(params: Any, row: Likelihood) -> Any:
    return None if row.log_scale is None else params["likelihood"]["log_scale"]
