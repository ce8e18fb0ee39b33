"""One prediction out of many: of augmented copies of an image at test time, or of the members of an ensemble."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def mean_vote(probabilities: jax.Array) -> jax.Array:
    """The mean of the copies' class probabilities: a confident copy counts for more than an undecided one.

    Args:
      probabilities: [copies, batch, classes].
    Returns: [batch, classes] float32; its logarithm has the form of logits.
    Raises: ValueError for another rank, or no copies or classes.
    """
    _check("mean_vote", probabilities)
    return probabilities.mean(0, dtype=jnp.float32)


def majority_vote(probabilities: jax.Array) -> jax.Array:
    """The class that most copies find the likeliest: every copy counts the same, however sure it is.

    Args:
      probabilities: [copies, batch, classes]. Of equal ones, a copy votes for the first.
    Returns: [batch] int32. Of classes with equally many votes, the one of greater mean probability.
    Raises: ValueError for another rank, or no copies or classes.
    """
    _check("majority_vote", probabilities)
    votes = jax.nn.one_hot(probabilities.argmax(-1), probabilities.shape[-1], dtype=jnp.int32).sum(0)
    leading = votes == votes.max(-1, keepdims=True)
    return jnp.where(leading, mean_vote(probabilities), -1).argmax(-1).astype(jnp.int32)


def _check(function: str, probabilities: jax.Array) -> None:
    if probabilities.ndim != 3 or not probabilities.shape[0] or not probabilities.shape[2]:
        raise ValueError(
            f"{function} wants probabilities [copies, batch, classes] of at least one copy and class, got "
            f"{list(probabilities.shape)}."
        )
