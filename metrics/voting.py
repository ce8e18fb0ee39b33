"""Votes: one prediction out of many, of augmented copies of an image or of the members of an ensemble."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..errors import InputError


def mean_vote(probabilities: jax.Array) -> jax.Array:
    """Soft vote: the mean of the copies' class probabilities. A confident copy counts more than an undecided one.

    Args:
      probabilities: [copies, batch, classes].
    Returns: [batch, classes] float32 probabilities. Their logarithms can serve as logits.
    Raises: InputError for another rank, or if there are no copies or no classes.

    >>> probabilities = jnp.array([[[0.4, 0.6]], [[0.4, 0.6]], [[1.0, 0.0]]])  # two narrow votes, one sure vote
    >>> print(mean_vote(probabilities).round(3), majority_vote(probabilities))
    [[0.6 0.4]] [1]
    """
    _check("mean_vote", probabilities)
    return probabilities.mean(0, dtype=jnp.float32)


def majority_vote(probabilities: jax.Array) -> jax.Array:
    """Hard vote: the class that most copies rank first. Every copy counts the same, however sure it is.

    Args:
      probabilities: [copies, batch, classes]. Among equal probabilities, a copy votes for the first.
    Returns: [batch] int32. Among classes with equally many votes, the one with the greatest mean probability.
    Raises: InputError for another rank, or if there are no copies or no classes.
    """
    _check("majority_vote", probabilities)
    votes = jax.nn.one_hot(probabilities.argmax(-1), probabilities.shape[-1], dtype=jnp.int32).sum(0)
    leading = votes == votes.max(-1, keepdims=True)
    return jnp.where(leading, mean_vote(probabilities), -1).argmax(-1).astype(jnp.int32)


def _check(function: str, probabilities: jax.Array) -> None:
    if probabilities.ndim != 3 or not probabilities.shape[0] or not probabilities.shape[2]:
        raise InputError(
            f"{function} expects probabilities [copies, batch, classes] of at least one copy and class; got "
            f"{list(probabilities.shape)}."
        )
