"""Losses of generative adversarial networks, per example: what the two players minimise, and penalties on gradients.

A discriminator gives each image a score f; where it is read as a probability, D = 1 / (1 + e^(−f)) is that of the image
being real. A loss is a pair of functions of scores, a row of `ADVERSARIAL_LOSSES`; a penalty is a function of the
discriminator itself, a row of `GRADIENT_PENALTIES`. What is minimised is their mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .classification import log_loss

Scores = Callable[[jax.Array], jax.Array]


class AdversarialLoss(NamedTuple):
    """What either player minimises.

    discriminator: (scores of real images, scores of as many fake ones) -> loss, one for each pair.
    generator: scores of fake images -> loss of each.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


def non_saturating_discriminator(real_scores: jax.Array, fake_scores: jax.Array) -> jax.Array:
    """−log D(x) − log(1 − D(G(z))) in nats: the log-losses of telling real from fake.

    It is least at f = log p(x) / q(x), with p the density of real and q that of fake images, and its expectation is
    log 4 − 2 JSD(p, q) there: log 4 where the generator is perfect.

    Args:
      real_scores: f(x), [batch, ...], any float type; computed in float32.
      fake_scores: f(G(z)), of the same shape.
    Returns: float32, as the scores; stable at extreme scores.
    Raises: ValueError if the shapes differ.
    Source: Goodfellow et al. 2014, equation (1), proposition 1 and theorem 1, with the opposite sign.
    """
    _check_pairs("non_saturating_discriminator", real_scores, fake_scores)
    return log_loss(real_scores, jnp.ones_like(real_scores)) + log_loss(fake_scores, -jnp.ones_like(fake_scores))


def non_saturating_generator(fake_scores: jax.Array) -> jax.Array:
    """−log D(G(z)) in nats.

    The generator of the minimax game would minimise log(1 − D(G(z))), whose gradient vanishes where the discriminator
    is sure of itself. This one's is largest there, and the equilibrium is the same.

    Args:
      fake_scores: f(G(z)), [batch, ...], any float type; computed in float32.
    Returns: float32, as the scores; stable at extreme scores.
    Source: Goodfellow et al. 2014, end of section 3.
    """
    return log_loss(fake_scores, jnp.ones_like(fake_scores))


def hinge_discriminator(real_scores: jax.Array, fake_scores: jax.Array) -> jax.Array:
    """max(0, 1 − f(x)) + max(0, 1 + f(G(z))): what is beyond the margin no longer counts.

    Args, returns and raises: as of `non_saturating_discriminator`.
    Source: Lim & Ye 2017, "Geometric GAN"; Miyato et al. 2018, section 4.
    """
    _check_pairs("hinge_discriminator", real_scores, fake_scores)
    return jax.nn.relu(1 - real_scores.astype(jnp.float32)) + jax.nn.relu(1 + fake_scores.astype(jnp.float32))


def hinge_generator(fake_scores: jax.Array) -> jax.Array:
    """−f(G(z)), which has no margin.

    Args and returns: as of `non_saturating_generator`.
    Source: as of `hinge_discriminator`.
    """
    return -fake_scores.astype(jnp.float32)


def wasserstein_discriminator(real_scores: jax.Array, fake_scores: jax.Array) -> jax.Array:
    """f(G(z)) − f(x), whose largest negative mean over all 1-Lipschitz f is the earth mover's distance.

    The loss itself does not keep f Lipschitz: a penalty or spectral normalisation has to.

    Args, returns and raises: as of `non_saturating_discriminator`.
    Source: Arjovsky, Chintala, Bottou 2017, equation (2).
    """
    _check_pairs("wasserstein_discriminator", real_scores, fake_scores)
    return fake_scores.astype(jnp.float32) - real_scores.astype(jnp.float32)


def wasserstein_generator(fake_scores: jax.Array) -> jax.Array:
    """−f(G(z)).

    Args and returns: as of `non_saturating_generator`.
    Source: as of `wasserstein_discriminator`.
    """
    return -fake_scores.astype(jnp.float32)


ADVERSARIAL_LOSSES: Mapping[str, AdversarialLoss] = {
    "non_saturating": AdversarialLoss(non_saturating_discriminator, non_saturating_generator),
    "hinge": AdversarialLoss(hinge_discriminator, hinge_generator),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, wasserstein_generator),
}


def gradient_penalty(score_fn: Scores, real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
    """(‖∇f(x̂)‖ − 1)² at x̂ = εx + (1 − ε)G(z), a random place between a real and a fake image, ε ~ U(0, 1).

    Args:
      score_fn: f, images -> scores [batch]. The score of an image must depend on it alone: no BatchNorm.
      real: x, [batch, height, width, channel] float.
      fake: G(z), of the same shape.
      key: one key, or one for each example, [batch]: then what is drawn for an example does not depend on its place.
    Returns: [batch] float32. The gradient of the norm is taken as 0 where the norm is 0, not as NaN.
    Raises: ValueError if the shapes differ, or keys are not one or as many as images.
    Source: Gulrajani et al. 2017, equation (3) and algorithm 1; the paper's weight is 10.
    """
    if real.shape != fake.shape or not real.ndim:
        raise ValueError(
            f"gradient_penalty wants real and fake images of one shape; they are {real.shape}, {fake.shape}."
        )
    if key.shape not in ((), real.shape[:1]):
        raise ValueError(
            f"gradient_penalty wants one key or {len(real)}, one for each image; it was given {key.shape}."
        )
    keys = jax.random.split(key, len(real)) if key.ndim == 0 else key
    part = jax.vmap(jax.random.uniform)(keys).reshape(-1, *[1] * (real.ndim - 1))
    squared = _squared_gradients(score_fn, part * real + (1 - part) * fake)
    flat = squared == 0
    norms = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squared)))
    return (norms - 1) ** 2


def r1_penalty(score_fn: Scores, real: jax.Array) -> jax.Array:
    """½ ‖∇f(x)‖² at real images: 0 where the discriminator is at rest, unlike `gradient_penalty`.

    Args:
      score_fn: f, images -> scores [batch]. The score of an image must depend on it alone: no BatchNorm.
      real: x, [batch, height, width, channel] float.
    Returns: [batch] float32.
    Source: Mescheder, Geiger, Nowozin 2018, equation (9), without its weight γ; the paper's is 10.
    """
    return _squared_gradients(score_fn, real) / 2


# name -> (score_fn, real images, fake images, key) -> [batch], before its weight.
GRADIENT_PENALTIES: Mapping[str, Callable[[Scores, jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "wgan_gp": gradient_penalty,
    "r1": lambda score_fn, real, fake, key: r1_penalty(score_fn, real),
}


def _squared_gradients(score_fn: Scores, images: jax.Array) -> jax.Array:
    """‖∇f‖² of each image, [batch] float32."""
    gradients = jax.grad(lambda images: score_fn(images).sum())(images).astype(jnp.float32)
    return (gradients**2).sum(range(1, images.ndim))


def _check_pairs(function: str, real_scores: jax.Array, fake_scores: jax.Array) -> None:
    if real_scores.shape != fake_scores.shape:
        raise ValueError(
            f"{function} wants as many scores of real as of fake images; they are {real_scores.shape}, "
            f"{fake_scores.shape}."
        )
