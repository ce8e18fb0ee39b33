"""What networks that translate make of texts, and where they look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from .. import tasks
from ..data.text import BEGIN, END, PAD, Tokenizer
from ..errors import InputError
from ..models import sequences
from .arrays import in_batches
from .valid import COUNT, NON_NEGATIVE

AT_ONCE = 64  # texts that are translated together: a beam of 4 makes 256 rows of them
AT_ONCE_ON_CPU = 16  # whose keys and values stay in the processor's cache


@dataclass(frozen=True)
class SearchOptions:
    """How a translation is searched for."""

    TITLE: ClassVar[str] = "search"

    beam: Annotated[int, COUNT] = 4
    """Number of beginnings that are kept; 1 takes the likeliest token each time."""
    length_penalty: Annotated[float, NON_NEGATIVE] = 0.6
    """Exponent by which longer translations are preferred."""


def translate(
    model: Any,
    tokenizer: Tokenizer,
    length: int,
    search: SearchOptions = SearchOptions(),
    best: int = 1,
) -> Callable[[tasks.Variables, np.ndarray], list[list[str]]]:
    """(variables, tokens of sources [texts, source]) -> the best translations of each that a beam search finds.

    It is compiled once for all calls.

    Args:
      model: a translator, with `start` and `step`; a beam needs its `carried_axes`, and is faster if it has
        `carried_fixed` (see `models.RecurrentTranslator`).
      tokenizer: makes texts of tokens.
      length: greatest number of tokens of a translation.
      search: width of the beam, and length penalty.
      best: number of translations of each, at most as many as the beam is wide, the best first.
    Raises: InputError if more are wanted, or the network lacks one of these.
    """
    if best > search.beam:
        raise InputError(f"{best} translations of a text are wanted of a beam of {search.beam}; give a wider --beam.")
    needed = ("start", "step") if search.beam == 1 else ("start", "step", "carried_axes")
    lacking = [each for each in needed if not hasattr(model, each)]
    if lacking:
        raise InputError(
            f"{type(model).__name__} cannot write translations with a beam of {search.beam}: it has no "
            f"{' and no '.join(lacking)}; models.RecurrentTranslator shows what they are."
        )

    @jax.jit
    def found(variables: tasks.Variables, source: jax.Array) -> jax.Array:
        def step(carried, tokens, at):
            return model.apply(variables, carried, tokens, at, method="step")

        start = model.apply(variables, source, length, method="start")
        ends = {"begin": BEGIN, "end": END, "length": length}
        if search.beam == 1:
            return sequences.greedy(step, start, len(source), **ends).tokens[:, None]
        decoded = sequences.beam_search(
            step,
            start,
            len(source),
            beam=search.beam,
            length_penalty=search.length_penalty,
            axes=model.carried_axes,
            fixed=getattr(model, "carried_fixed", False),
            **ends,
        )
        return decoded.tokens[:, :best]

    def of(variables: tasks.Variables, sources: np.ndarray) -> list[list[str]]:
        if not len(sources):
            return []
        at_once = AT_ONCE_ON_CPU if jax.default_backend() == "cpu" else AT_ONCE
        longest_last = np.argsort((sources != PAD).sum(1), kind="stable")  # batches stop when their longest one ends
        rows = in_batches(lambda rows: found(variables, rows), sources[longest_last], size=at_once)
        return [tokenizer.decode(each) for each in rows[np.argsort(longest_last)]]

    return of


def attention_map(
    model: Any, variables: tasks.Variables, tokenizer: Tokenizer, source: str, target: str
) -> tuple[list[str], list[str], np.ndarray]:
    """Where a translator looks: the tokens of a source, those of its translation, and the weights [target, source]."""
    ours, theirs = tokenizer.encode([source, target])
    before = np.concatenate([[BEGIN], theirs[:-1]])
    weights = model.apply(variables, jnp.asarray(ours[None]), jnp.asarray(before[None]), method="attend")
    read, written = (tokenizer.token_texts(each.tolist()) for each in (ours, theirs))
    return read, written, np.asarray(weights[0], np.float32)
