"""Losses of generative adversarial networks, one value per example: the losses of both players, and gradient penalties.

A discriminator gives each image a score f. Read as a probability, D = 1 / (1 + e^(−f)) says that the image is real. A
loss is a pair of functions of scores, a row of `ADVERSARIAL_LOSSES`. A penalty is a function of the discriminator
itself, a row of `GRADIENT_PENALTIES`. Training minimizes their means over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..errors import InputError
from .classification import log_loss

Scores = Callable[[jax.Array], jax.Array]
"""A discriminator: images [batch, ...] -> scores [batch]."""


class AdversarialLoss(NamedTuple):
    """The losses that the two players minimize."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    """(scores of real images, scores of as many fake ones) -> loss of each pair."""
    generator: Callable[[jax.Array], jax.Array]
    """Scores of fake images -> loss of each."""


def non_saturating_discriminator(real_scores: jax.Array, fake_scores: jax.Array) -> jax.Array:
    """−log D(x) − log(1 − D(G(z))) in nats: the log-losses of telling real from fake.

    Let p be the density of real images and q that of fake ones. The best discriminator is f = log p(x) / q(x). Its
    expected loss is log 4 − 2 JSD(p, q), which is log 4 if the generator is perfect.

    Args:
      real_scores: f(x), [batch, ...], any float type; computed in float32.
      fake_scores: f(G(z)), same shape.
    Returns: float32, same shape; stable at extreme scores.
    Raises: InputError if the shapes differ.
    Source: Goodfellow et al. 2014, equation (1), proposition 1 and theorem 1, with the opposite sign.

    >>> loss = non_saturating_discriminator(jnp.array([0.0, 10.0]), jnp.array([0.0, -10.0]))
    >>> print(loss.round(3))  # a discriminator that cannot tell, and one that is right
    [1.386 0.   ]
    """
    _check_pairs("non_saturating_discriminator", real_scores, fake_scores)
    return log_loss(real_scores, jnp.ones_like(real_scores)) + log_loss(fake_scores, -jnp.ones_like(fake_scores))


def non_saturating_generator(fake_scores: jax.Array) -> jax.Array:
    """−log D(G(z)) in nats.

    In the minimax game the generator would minimize log(1 − D(G(z))), whose gradient vanishes where the discriminator
    is sure. The gradient of this loss is largest there, and the equilibrium is the same.

    Args:
      fake_scores: f(G(z)), [batch, ...], any float type; computed in float32.
    Returns: float32, same shape; stable at extreme scores.
    Source: Goodfellow et al. 2014, end of section 3.
    """
    return log_loss(fake_scores, jnp.ones_like(fake_scores))


def hinge_discriminator(real_scores: jax.Array, fake_scores: jax.Array) -> jax.Array:
    """max(0, 1 − f(x)) + max(0, 1 + f(G(z))): scores beyond the margin have no gradient.

    Args, Returns, Raises: same as `non_saturating_discriminator`.
    Source: Lim & Ye 2017, "Geometric GAN"; Miyato et al. 2018, section 4.
    """
    _check_pairs("hinge_discriminator", real_scores, fake_scores)
    return jax.nn.relu(1 - real_scores.astype(jnp.float32)) + jax.nn.relu(1 + fake_scores.astype(jnp.float32))


def hinge_generator(fake_scores: jax.Array) -> jax.Array:
    """−f(G(z)), without a margin.

    Args, Returns: same as `non_saturating_generator`.
    Source: same as `hinge_discriminator`.
    """
    return -fake_scores.astype(jnp.float32)


def wasserstein_discriminator(real_scores: jax.Array, fake_scores: jax.Array) -> jax.Array:
    """f(G(z)) − f(x): over all 1-Lipschitz f, the least mean is minus the earth mover's distance.

    The loss itself does not keep f Lipschitz. A gradient penalty or spectral normalization has to.

    Args, Returns, Raises: same as `non_saturating_discriminator`.
    Source: Arjovsky, Chintala, Bottou 2017, equation (2).
    """
    _check_pairs("wasserstein_discriminator", real_scores, fake_scores)
    return fake_scores.astype(jnp.float32) - real_scores.astype(jnp.float32)


def wasserstein_generator(fake_scores: jax.Array) -> jax.Array:
    """−f(G(z)).

    Args, Returns: same as `non_saturating_generator`.
    Source: same as `wasserstein_discriminator`.
    """
    return -fake_scores.astype(jnp.float32)


ADVERSARIAL_LOSSES: Mapping[str, AdversarialLoss] = {
    "non_saturating": AdversarialLoss(non_saturating_discriminator, non_saturating_generator),
    "hinge": AdversarialLoss(hinge_discriminator, hinge_generator),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, wasserstein_generator),
}
"""name -> the losses of both players."""


def gradient_penalty(score_fn: Scores, real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
    """(‖∇f(x̂)‖ − 1)² at x̂ = εx + (1 − ε)G(z), a random point between a real and a fake image, ε ~ U(0, 1).

    Args:
      score_fn: f, images -> scores [batch]. The score of an image must depend on that image alone: no BatchNorm.
      real: x, [batch, height, width, channel], float.
      fake: G(z), same shape.
      key: one key, or one key per example, [batch]. With one per example, the ε of an example does not depend on its
        position in the batch.
    Returns: [batch] float32. Where the norm is 0, its gradient is taken as 0 rather than NaN.
    Raises: InputError if the shapes differ, or if there is neither one key nor one per image.
    Source: Gulrajani et al. 2017, equation (3) and algorithm 1. The paper's weight is 10.

    >>> steep = lambda images: 3 * images.sum((1, 2, 3))  # slope 3 in each pixel
    >>> real, fake = jnp.ones((2, 1, 1, 1)), jnp.zeros((2, 1, 1, 1))
    >>> print(gradient_penalty(steep, real, fake, jax.random.key(0)))  # (3 − 1)²
    [4. 4.]
    """
    if real.shape != fake.shape or not real.ndim:
        raise InputError(
            f"gradient_penalty expects real and fake images of one shape; got {real.shape} and {fake.shape}."
        )
    if key.shape not in ((), real.shape[:1]):
        raise InputError(
            f"gradient_penalty expects one key or {len(real)}, one per image; got keys of shape {key.shape}."
        )
    keys = jax.random.split(key, len(real)) if key.ndim == 0 else key
    epsilon = jax.vmap(jax.random.uniform)(keys).reshape(-1, *[1] * (real.ndim - 1))
    squared = _squared_gradients(score_fn, epsilon * real + (1 - epsilon) * fake)
    flat = squared == 0
    norms = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squared)))
    return (norms - 1) ** 2


def r1_penalty(score_fn: Scores, real: jax.Array) -> jax.Array:
    """½ ‖∇f(x)‖² at real images: 0 for a flat discriminator, unlike `gradient_penalty`.

    Args:
      score_fn: f, images -> scores [batch]. The score of an image must depend on that image alone: no BatchNorm.
      real: x, [batch, height, width, channel], float.
    Returns: [batch] float32.
    Source: Mescheder, Geiger, Nowozin 2018, equation (9), without its weight γ. The paper's γ is 10.

    >>> print(r1_penalty(lambda images: 3 * images.sum((1, 2, 3)), jnp.ones((2, 1, 1, 1))))
    [4.5 4.5]
    """
    return _squared_gradients(score_fn, real) / 2


GRADIENT_PENALTIES: Mapping[str, Callable[[Scores, jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "wgan_gp": gradient_penalty,
    "r1": lambda score_fn, real, fake, key: r1_penalty(score_fn, real),
}
"""name -> (score_fn, real images, fake images, key) -> penalty [batch], not yet weighted."""


def _squared_gradients(score_fn: Scores, images: jax.Array) -> jax.Array:
    """‖∇f‖² of each image, [batch] float32."""
    gradients = jax.grad(lambda images: score_fn(images).sum())(images).astype(jnp.float32)
    return (gradients**2).sum(range(1, images.ndim))


def _check_pairs(function: str, real_scores: jax.Array, fake_scores: jax.Array) -> None:
    if real_scores.shape != fake_scores.shape:
        raise InputError(
            f"{function} expects scores of real and fake images of one shape; got {real_scores.shape} and "
            f"{fake_scores.shape}."
        )
