"""Sequences out of a network that says what may come next: greedily, by beam search, or drawn at random.

Each takes a `step`: (what it carries, tokens [batch], position) -> (logits [batch, vocabulary], what it carries), and
runs as one compiled loop, which stops when all sequences have ended. A sequence ends with the token `end`; behind it
stands `PAD`, which is never chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError
from .transformer import PAD

Step = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]


class Decoded(NamedTuple):
    """Sequences that were made, the best first."""

    tokens: jax.Array
    """[batch, length] or [batch, beam, length] int32, without the begin, with the end where it was reached."""
    log_probability: jax.Array
    """[batch] or [batch, beam] float32: sum over the tokens, the end's included."""


def greedy(step: Step, carried: Any, batch: int, *, begin: int, end: int, length: int) -> Decoded:
    """The likeliest token at each position, given those before.

    Args:
      step: same as above.
      carried: what the first step is given.
      batch: number of sequences.
      begin: token before the first one.
      end: token that ends a sequence.
      length: greatest number of tokens.
    Raises: InputError if the length is not positive.
    """
    return sample(step, carried, batch, None, begin=begin, end=end, length=length)


def sample(
    step: Step,
    carried: Any,
    batch: int,
    key: jax.Array | None,
    *,
    begin: int,
    end: int,
    length: int,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array = 1.0,
) -> Decoded:
    """A token drawn at each position, given those before.

    Args:
      step, carried, batch, begin, end, length: same as in `greedy`.
      key: of the draws; None takes the likeliest tokens.
      temperature: > 0, divides the logits. May be traced.
      top_k: only so many of the likeliest tokens are drawn; None for all.
      top_p: only the likeliest tokens that have so much probability together are drawn (nucleus sampling). May be
        traced.
    Returns: tokens, and their log probability under the network itself.
    Raises: InputError if the length, a concrete temperature, top_k or top_p is not valid.
    Source: Fan et al. 2018 (top-k); Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751, nucleus).
    """
    _check(length)
    keys = None if key is None else jax.random.split(key, length)

    def advance(at, state):
        carried, tokens, done, total = state
        logits, carried = step(carried, _before(tokens, at, begin), at)
        logits = _without_padding(logits)
        if keys is None:
            chosen = logits.argmax(-1)
        else:
            chosen = jax.random.categorical(keys[at], likely(logits / temperature, top_k=top_k, top_p=top_p))
        chosen = jnp.where(done, PAD, chosen.astype(jnp.int32))
        each = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], -1)[:, 0]
        total = total + jnp.where(done, 0.0, each)
        return carried, tokens.at[:, at].set(chosen), done | (chosen == end), total

    tokens, done = jnp.full((batch, length), PAD, jnp.int32), jnp.zeros(batch, bool)
    _, tokens, _, total = _until_done(advance, (carried, tokens, done, jnp.zeros(batch, jnp.float32)), length)
    return Decoded(tokens, total)


def likely(logits: jax.Array, *, top_k: int | None = None, top_p: float | jax.Array = 1.0) -> jax.Array:
    """Logits [batch, vocabulary] of the likeliest tokens alone: −∞ for all others.

    Args:
      logits: [batch, vocabulary].
      top_k: number of tokens that stay, those of equal logits with them; None for all.
      top_p: the fewest tokens that have so much probability together stay. At least one does.
    Raises: InputError if top_k is not positive or a concrete top_p is not in (0, 1].
    """
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}; it must be at least 1.")
    if not isinstance(top_p, jax.Array) and not 0 < top_p <= 1:
        raise InputError(f"top_p is {top_p}; it must be in (0, 1].")
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    order = jnp.argsort(-logits, axis=-1)
    probability = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
    before = jnp.cumsum(probability, -1) - probability
    stays = jnp.take_along_axis(before < top_p, jnp.argsort(order, axis=-1), -1)
    return jnp.where(stays, logits, -jnp.inf)


def beam_search(
    step: Step,
    carried: Any,
    batch: int,
    *,
    begin: int,
    end: int,
    length: int,
    beam: int = 4,
    length_penalty: float | jax.Array = 0.6,
    axes: Any = 0,
    fixed: Any = False,
) -> Decoded:
    """The best sequences that keeping the few best beginnings at each position finds.

    A sequence counts by log P / ((5 + tokens) / 6)^α. One that has ended keeps its place while it is among the best.
    With a beam of 1 the answer is that of `greedy`; with one as wide as there are beginnings it is the best of all.

    Args:
      step: same as above, for sequences [batch · beam].
      carried: what the first step is given for sequences [batch]; it is repeated for the beam here.
      batch: number of sequences.
      begin, end, length: same as in `greedy`.
      beam: number of beginnings that are kept.
      length_penalty: α ≥ 0: the greater, the longer the answers. May be traced.
      axes: axis of the batch in what is carried: a number, or a tree of numbers, as `jax.vmap` takes them.
      fixed: whether `step` hands parts of it on as they are, such as what is known of a source: a bool, or a tree of
        them. These are alike for all beginnings of a sequence, and not moved when the best are chosen.
    Returns: [batch, beam, length], the best first, and their log probabilities.
    Raises: InputError if beam or length is not positive.
    Source: Wu et al. 2016 (https://arxiv.org/abs/1609.08144), equation (14), without coverage.
    """
    _check(length)
    if beam < 1:
        raise InputError(f"beam is {beam}; it must be at least 1.")
    each = jnp.arange(batch)[:, None]
    axes, fixed = jax.tree.broadcast(axes, carried), jax.tree.broadcast(fixed, carried)
    carried = jax.tree.map(lambda x, axis: jnp.repeat(x, beam, axis), carried, axes)

    def advance(at, state):
        carried, tokens, done, count, total = state
        logits, carried = step(carried, _before(tokens, at, begin).reshape(-1), at)
        of_token = jax.nn.log_softmax(_without_padding(logits)).reshape(batch, beam, -1)
        only_padding = jnp.where(jnp.arange(of_token.shape[-1]) == PAD, 0.0, -jnp.inf)
        totals = total[..., None] + jnp.where(done[..., None], only_padding, of_token)
        count = jnp.where(done, count, at + 1)
        scores = totals / ((5 + count[..., None]) / 6) ** length_penalty
        _, best = jax.lax.top_k(scores.reshape(batch, -1), beam)
        parent, token = jnp.divmod(best, of_token.shape[-1])
        tokens = tokens[each, parent].at[..., at].set(token.astype(jnp.int32))
        done, count = done[each, parent] | (token == end), count[each, parent]
        rows = (each * beam + parent).reshape(-1)
        carried = jax.tree.map(lambda x, axis, stays: x if stays else jnp.take(x, rows, axis), carried, axes, fixed)
        return carried, tokens, done, count, totals.reshape(batch, -1)[each, best]

    shape = (batch, beam)
    tokens, done, count = jnp.full((*shape, length), PAD, jnp.int32), jnp.zeros(shape, bool), jnp.zeros(shape, int)
    total = jnp.broadcast_to(jnp.where(jnp.arange(beam) == 0, 0.0, -jnp.inf), shape)  # all beginnings are one at first
    _, tokens, _, _, total = _until_done(advance, (carried, tokens, done, count, total), length)
    return Decoded(tokens, total)


def _before(tokens: jax.Array, at: jax.Array, begin: int) -> jax.Array:
    """The token before a position: [..., length] -> [...]."""
    return jnp.where(at > 0, tokens[..., at - 1], begin)


def _until_done(advance: Callable[[jax.Array, Any], Any], state: Any, length: int) -> Any:
    """The state after state = advance(position, state) for each position, up to where all of state[2] is True."""

    def goes_on(each):
        at, state = each
        return (at < length) & ~state[2].all()

    return jax.lax.while_loop(goes_on, lambda each: (each[0] + 1, advance(*each)), (jnp.array(0), state))[1]


def _without_padding(logits: jax.Array) -> jax.Array:
    """Logits of which no padding is chosen."""
    return logits.at[..., PAD].set(-jnp.inf)


def _check(length: int) -> None:
    if length < 1:
        raise InputError(f"length is {length}; it must be at least 1.")
