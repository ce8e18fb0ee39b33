"""Translation by recurrent networks: one reads the source, another writes the target, with and without attention.

Without attention, all that is known of the source is the state in which the reader ends (Sutskever, Vinyals & Le 2014).
With it, each position of the target looks at all positions of the source (Bahdanau, Cho & Bengio 2015).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import unknown_name
from ..layers import Dropout, check_positive, precision
from .recurrent import CELLS, Recurrent, State
from .transformer import PAD, begins, embedded, embedding

ATTENTIONS = ("none", "additive", "dot")


class Carried(NamedTuple):
    """What a writer carries from position to position, and what it looks at."""

    keys: jax.Array
    """[batch, source, width], with which the state is compared."""
    values: jax.Array
    """[batch, source, 2 · width], what the reader says."""
    segments: jax.Array
    """int [batch, source], which sentence of a row each position belongs to; 0 for padding."""
    state: State
    """Of the writer, [depth, batch, width] each."""
    attended: jax.Array
    """[batch, 2 · width], what the last position looked at."""


class Packed(NamedTuple):
    """What positions of a target need to know where several sentences stand in a row: [batch, target, …]."""

    segment: jax.Array
    """int [batch, target], which sentence it belongs to."""
    begins: jax.Array
    """bool [batch, target], whether it is its first position."""
    state: State
    """The states before that position, [batch, target, depth, width] each."""


class RecurrentTranslator(nn.Module):
    """Tokens of a source and of the target so far -> logits of the target's next tokens.

    The reader reads in both directions. The writer begins with a state made of the reader's last ones. With attention,
    its state is compared with every position of the source; the mean of these, weighted by a softmax, helps to choose
    the token, and is given to the next position ("input feeding").

    Attributes:
      vocab_size: number of tokens, of both languages.
      width: width of the tokens, of the writer's state, and of the reader's in each direction.
      depth: number of layers of the reader, and of the writer.
      cell: "elman", "gru" or "lstm".
      attention: "none", "additive": vᵀtanh(W h + U k) (Bahdanau et al. 2015), or "dot": h · K k (Luong et al. 2015,
        "general").
      dropout: dropout rate of the embedded tokens, between layers and before the output; may be traced.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    vocab_size: int
    width: int = 256
    depth: int = 1
    cell: str = "gru"
    attention: str = "additive"
    dropout: float | jax.Array = 0.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    carried_axes: ClassVar[Any] = Carried(0, 0, 0, 1, 0)  # type: ignore[arg-type]
    """Axis of the batch in what `start` gives and `step` carries, for `decoding.beam_search`."""

    def setup(self):
        check_positive(self, "vocab_size", "width", "depth")
        if self.attention not in ATTENTIONS:
            raise unknown_name("attention", self.attention, ATTENTIONS)
        if self.cell not in CELLS:
            raise unknown_name("cell", self.cell, CELLS)
        layers = {"cell": self.cell, "depth": self.depth, "dropout": self.dropout, **precision(self)}
        self.embed = embedding(self)
        self.reader, self.writer = Recurrent(self.width, bidirectional=True, **layers), Recurrent(self.width, **layers)
        self.bridge = self._dense(CELLS[self.cell].states * self.depth * self.width)
        self.output, self.drop = self._dense(self.width), Dropout(self.dropout)
        if self.attention != "none":
            # A bias would move all scores of a softmax alike (dot), or stand beside the query's (additive).
            self.keys = self._dense(self.width, use_bias=False)
        if self.attention == "additive":
            self.query, self.energy = self._dense(self.width), self._dense(1)

    def __call__(
        self,
        source: jax.Array,
        target: jax.Array,
        source_segments: jax.Array | None = None,
        target_segments: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Tokens [batch, source], [batch, target] -> logits [batch, target, vocab_size] of what follows each.

        Several sentences may stand in a row: segments, int of the same shapes, are their numbers 1, 2, …, and 0 for
        padding (`data.text.pack`). None for one sentence in each row.
        """
        return self._logits(self._write(source, target, source_segments, target_segments, train)[0])

    def attend(self, source: jax.Array, target: jax.Array) -> jax.Array:
        """Tokens -> how much each position of the target looks at each of the source: [batch, target, source]."""
        return self._write(source, target, None, None, False)[1]

    def start(self, source: jax.Array, length: int) -> Carried:
        """What `step` needs for tokens [batch, source]; the length of the target does not matter."""
        del length
        return self._read(source, None, False)

    def step(self, carried: Carried, tokens: jax.Array, at: jax.Array | int) -> tuple[jax.Array, Carried]:
        """One position of the target: tokens [batch] -> logits [batch, vocab_size], what to carry."""
        del at
        carried, (answer, _) = self._position(carried, embedded(self.embed, tokens[:, None])[:, 0], None, False)
        return self._logits(answer), carried

    def _read(self, source: jax.Array, segments: jax.Array | None, train: bool) -> Carried:
        segments = (source != PAD).astype(jnp.int32) if segments is None else segments
        x = self.drop(embedded(self.embed, source), train)
        values, _ = self.reader(x, segments=segments, train=train)
        keys = values[..., :0] if self.attention == "none" else self.keys(values)
        first = self._first_states(values, segments, jnp.ones((len(source), 1), segments.dtype))
        state = tuple(each[:, 0].swapaxes(0, 1) for each in first)
        return Carried(keys, values, segments, state, jnp.zeros_like(values[:, 0]))

    def _first_states(self, values: jax.Array, segments: jax.Array, wanted: jax.Array) -> State:
        """States of the writer before some sentences, int [batch, n], made of where the reader ended in both
        directions: [batch, n, depth, width] each."""
        same = segments[:, None] == wanted[..., None]
        first, last = same.argmax(-1), same.shape[-1] - 1 - same[..., ::-1].argmax(-1)
        forward, backward = jnp.split(values, 2, -1)
        ends = (jnp.take_along_axis(x, at[..., None], 1) for x, at in ((forward, last), (backward, first)))
        states = jnp.tanh(self.bridge(jnp.concatenate([*ends], -1)))
        shape = (*wanted.shape, CELLS[self.cell].states, self.depth, self.width)
        return tuple(each[:, :, 0] for each in jnp.split(states.reshape(shape), shape[2], 2))

    def _write(
        self,
        source: jax.Array,
        target: jax.Array,
        source_segments: jax.Array | None,
        target_segments: jax.Array | None,
        train: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """What each position of the target answers [batch, target, width], and looks at [batch, target, source]."""
        x, carried = self.drop(embedded(self.embed, target), train), self._read(source, source_segments, train)
        packed = None
        if target_segments is not None:
            states = self._first_states(carried.values, carried.segments, target_segments)
            packed = Packed(target_segments, begins(target_segments), states)
        write = nn.scan(
            lambda module, carried, position: module._position(carried, *position, train),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )
        return write(self, carried, (x, packed))[1]

    def _position(
        self, carried: Carried, x: jax.Array, packed: Packed | None, train: bool
    ) -> tuple[Carried, tuple[jax.Array, jax.Array]]:
        """A position's embedded token [batch, width] -> what to carry, (its answer [batch, width], its weights)."""
        looks, inside = self.attention != "none", carried.segments > 0
        if packed is not None:
            inside = carried.segments == packed.segment[:, None]
            first = tuple(each.swapaxes(0, 1) for each in packed.state)
            state = (jnp.where(packed.begins[:, None], new, old) for new, old in zip(first, carried.state, strict=True))
            attended = jnp.where(packed.begins[:, None], 0, carried.attended)
            carried = carried._replace(state=tuple(state), attended=attended)
        x = jnp.concatenate([x, carried.attended], -1) if looks else x
        answer, state = self.writer(x[:, None], state=carried.state, train=train)
        answer, attended, weights = answer[:, 0], carried.attended, jnp.zeros(inside.shape, self.dtype)
        if looks:
            weights = self._weights(answer, carried.keys, inside)
            attended = jnp.einsum("bs,bsw->bw", weights, carried.values)
            answer = jnp.concatenate([answer, attended], -1)
        answer = self.drop(jnp.tanh(self.output(answer)), train)
        return carried._replace(state=state, attended=attended), (answer, weights)

    def _weights(self, answer: jax.Array, keys: jax.Array, inside: jax.Array) -> jax.Array:
        """[batch, source], of sum 1."""
        if self.attention == "additive":
            energy = self.energy(jnp.tanh(self.query(answer)[:, None] + keys))[..., 0]
        else:
            energy = jnp.einsum("bw,bsw->bs", answer, keys)
        return jax.nn.softmax(jnp.where(inside, energy, 0.7 * jnp.finfo(energy.dtype).min))

    def _logits(self, answer: jax.Array) -> jax.Array:
        logits = self.embed.attend(answer)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _dense(self, features: int, *, use_bias: bool = True) -> nn.Dense:
        return nn.Dense(features, use_bias=use_bias, **precision(self), kernel_init=nn.initializers.glorot_uniform())
