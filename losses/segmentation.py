"""Losses of dense classes: one class for each pixel, and pixels of unknown class that count nothing.

Labels are integers, and a negative one (−1) marks a pixel that is ignored: it changes neither a loss nor a gradient.
`dense_cross_entropy` has a loss for each pixel. `dice_loss` and `lovasz_softmax_loss` measure the overlap of regions,
and have a loss for each class of each image; `classes_present` says which of them have something to overlap with. The
focal losses are in `focal`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from ..errors import InputError


def dense_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy −log softmax(logits)_label of each pixel in nats; 0 where the label is negative.

    Args:
      logits: [..., classes], any float type; computed in float32.
      labels: [...] integers below `classes`; negative ones are ignored.
    Returns: [...] float32. Divide sums by the number of labels that are not negative.
    Raises: InputError if shapes do not fit or labels are not integers.

    >>> logits = jnp.array([[[0.0, 0.0], [20.0, 0.0], [5.0, 5.0]]])
    >>> print(dense_cross_entropy(logits, jnp.array([[0, 1, -1]])).round(3))
    [[ 0.693 20.     0.   ]]
    """
    known = _check("dense_cross_entropy", logits, labels)
    logits = jnp.where(known[..., None], logits.astype(jnp.float32), 0)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return jnp.where(known, losses, 0)


def dice_loss(logits: jax.Array, labels: jax.Array, *, smooth: float | jax.Array = 1.0) -> jax.Array:
    """1 − (2 Σ p g + s) / (Σ p + Σ g + s) of each class, over the pixels of an image.

    p is the softmax's probability of the class, and g is 1 where it is the label. On hard predictions it is 1 − the
    Dice coefficient (the F1 of pixels), but for s. The paper squares p and g in the denominator; this is the usual
    form, and that of `optax.losses.dice_loss`, whose `smooth` is s / 2.

    Args:
      logits: [batch, ..., classes], any float type; computed in float32.
      labels: [batch, ...] integers below `classes`; negative ones are ignored.
      smooth: s > 0, in pixels: a class that is neither there nor predicted has loss 0. May be traced.
    Returns: [batch, classes] float32, in [0, 1).
    Raises: InputError if shapes do not fit or labels are not integers.
    Source: Milletari et al. 2016 (V-Net), section 3.
    """
    probabilities, truth = _probabilities_and_truth("dice_loss", logits, labels)
    pixels = tuple(range(1, labels.ndim))
    overlap, total = (probabilities * truth).sum(pixels), (probabilities + truth).sum(pixels)
    return 1 - (2 * overlap + smooth) / (total + smooth)


def lovasz_softmax_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The Lovász extension of 1 − IoU of each class, at the errors of an image's pixels.

    The error of a pixel is 1 − p where the class is the label and p elsewhere, with p its softmax's probability. The
    extension interpolates between the sets of wrong pixels: on hard predictions it is exactly 1 − IoU.

    Args:
      logits: [batch, ..., classes], any float type; computed in float32.
      labels: [batch, ...] integers below `classes`; negative ones are ignored.
    Returns: [batch, classes] float32, in [0, 1]. For a class that no pixel has, it is the largest p; the authors leave
      such classes out of the mean, which is what `classes_present` is for.
    Raises: InputError if shapes do not fit or labels are not integers.
    Source: Berman et al. 2018, equations (8) to (11) and algorithm 1.
    """
    probabilities, truth = _probabilities_and_truth("lovasz_softmax_loss", logits, labels)
    errors = jnp.abs(truth - probabilities).reshape(len(labels), -1, logits.shape[-1])  # [batch, pixels, classes]
    # Ignored pixels have error 0 and so come last, where they change the weight of no pixel that has an error.
    order = jnp.argsort(jax.lax.stop_gradient(-errors), axis=1)
    truth = jnp.take_along_axis(truth.reshape(errors.shape), order, 1)
    return (jnp.take_along_axis(errors, order, 1) * _lovasz_weights(truth)).sum(1)


def _lovasz_weights(truth: jax.Array) -> jax.Array:
    """By how much 1 − IoU grows with each pixel that joins the wrong ones, [batch, pixels, classes].

    With I pixels of the class still right and a union of U: a missed one takes the loss from 1 − I/U to 1 − (I − 1)/U,
    and a false one to 1 − I/(U + 1). The differences are written out, since subtracting nearly equal losses in float32
    leaves few digits of them.
    """
    total = truth.sum(1, keepdims=True)
    right = total - jnp.cumsum(truth, 1)  # after the pixel
    union = total + jnp.cumsum(1 - truth, 1)
    before = union - 1  # of a false pixel
    false = jnp.where(before > 0, right / (jnp.maximum(before, 1) * union), 1)  # the first pixel of an absent class
    return jnp.where(truth > 0, 1 / jnp.maximum(union, 1), false)


def classes_present(labels: jax.Array, num_classes: int) -> jax.Array:
    """Which classes an image has: the weights of the losses of each class.

    Args:
      labels: [batch, ...] integers; negative ones are no class.
      num_classes: number of classes.
    Returns: [batch, num_classes] bool.
    """
    return jax.nn.one_hot(labels, num_classes, dtype=bool).any(range(1, labels.ndim))


def _probabilities_and_truth(function, logits, labels):
    """Both [batch, ..., classes] float32, and 0 for ignored pixels."""
    if not labels.ndim:
        raise InputError(f"{function} expects labels [batch, ...]; got a single one.")
    known = _check(function, logits, labels)
    logits = jnp.where(known[..., None], logits.astype(jnp.float32), 0)
    probabilities = jnp.where(known[..., None], jax.nn.softmax(logits), 0)
    return probabilities, jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)


def _check(function, logits, labels):
    """Which pixels have a label."""
    if not logits.ndim or labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"{function} expects logits [..., classes] and integer labels [...]; "
            f"got {logits.shape} and {labels.shape} {labels.dtype}."
        )
    return labels >= 0
