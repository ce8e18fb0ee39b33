"""Translation by recurrent networks: one reads the source, another writes the target, with and without attention.

Without attention, all that is known of the source is the state in which the reader ends (Sutskever, Vinyals & Le 2014).
With it, each position of the target looks at all positions of the source (Bahdanau, Cho & Bengio 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import unknown_name
from ..layers import Dropout, check_positive, precision
from .recurrent import CELLS, Recurrent, State
from .scan import Product, scan_products
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


class Shared(NamedTuple):
    """What all positions of a target use."""

    layers: tuple[Mapping[str, jax.Array], ...]
    """Parameters of the writer's layers."""
    keys: jax.Array
    """[batch, source, width]."""
    values: jax.Array
    """[batch, source, 2 · width]."""
    query: Mapping[str, jax.Array] | None
    """Parameters that turn a state into a query, for additive attention."""
    energy: Mapping[str, jax.Array] | None
    """Parameters that turn query and key into a score, for additive attention."""


class Position(NamedTuple):
    """What one position of the target adds."""

    x: jax.Array
    """Its embedded token, [batch, width]."""
    kept: jax.Array
    """What dropout multiplies the states by, [depth − 1, batch, width]."""
    first: State | None = None
    """The states to begin with if a sentence begins here, [depth, batch, width] each."""


class Place(NamedTuple):
    """Where one position of the target stands."""

    inside: jax.Array
    """bool [batch, source], which positions of the source belong to its sentence."""
    begins: jax.Array | None = None
    """bool [batch], whether a sentence begins here; None where each has a row of its own."""


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
      attention: "none", "additive": vᵀtanh(W h + U k) (Bahdanau et al. 2015), or "dot": h · K k / √width (Luong et al.
        2015, "general"; scaled as in Vaswani et al. 2017, since large scores make the softmax look at one position
        before it has learned which).
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
    carried_fixed: ClassVar[Any] = Carried(True, True, True, False, False)  # type: ignore[arg-type]
    """Which of it no step changes."""

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
        shared, products = self._shared(carried), _products(self.depth)
        x = embedded(self.embed, tokens[:, None])[:, 0]
        position = Position(x, jnp.ones((self.depth - 1, 1, 1), self.dtype))
        (state, attended, _), (answer, _) = self._step()(
            lambda name, x: products[name](shared, x),
            self._first(carried),
            position,
            Place(carried.segments > 0),
        )
        return self._logits(self._answer(answer, False)), carried._replace(state=state, attended=attended)

    def _read(self, source: jax.Array, segments: jax.Array | None, train: bool) -> Carried:
        segments = (source != PAD).astype(jnp.int32) if segments is None else segments
        x = self.drop(embedded(self.embed, source), train)
        values, _ = self.reader(x, segments=segments, train=train)
        keys = values[..., :0] if self.attention == "none" else self.keys(values)
        if self.attention == "dot":
            keys = keys * self.width**-0.5
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
        begin, first = None, None
        inside = jnp.broadcast_to((carried.segments > 0)[:, None], (*target.shape, source.shape[1]))
        if target_segments is not None:
            states = self._first_states(carried.values, carried.segments, target_segments)
            first = tuple(each.transpose(1, 2, 0, 3) for each in states)
            begin, inside = begins(target_segments).T, carried.segments[:, None] == target_segments[:, :, None]
        kept = self.drop(jnp.ones((target.shape[1], self.depth - 1, len(x), self.width), self.dtype), train)
        shared = self._shared(carried)
        moving, held = Position(x.swapaxes(0, 1), kept, first), Place(inside.swapaxes(0, 1), begin)
        _, (answers, weights) = scan_products(
            self._step(), _products(self.depth), shared, self._first(carried), moving, held
        )
        return self._answer(answers.swapaxes(0, 1), train), weights.swapaxes(0, 1)

    def _step(self) -> Callable:
        """One position, for `scan_products`."""
        return partial(_position, step=CELLS[self.cell].step, depth=self.depth, attention=self.attention)

    def _first(self, carried: Carried) -> tuple[State, jax.Array, jax.Array | None]:
        """What `_position` carries. Keys that are added to a query are there, since their gradient by position would be
        as large as all that the tanh of the sum answers; it is added up step by step."""
        return carried.state, carried.attended, carried.keys if self.attention == "additive" else None

    def _shared(self, carried: Carried) -> Shared:
        if self.is_initializing():  # parameters are made where modules are called
            state = carried.state[0][0]
            self.writer(jnp.concatenate([state, *self._looked_at(carried.attended)], -1)[:, None])
            if self.attention == "additive":
                self.energy(self.query(state))
        names = ("query", "energy") if self.attention == "additive" else ()
        of = {
            name: jax.tree.map(lambda x: x.astype(self.dtype), getattr(self, name).variables["params"])
            for name in ("writer", *names)
        }
        layers = tuple(of["writer"][f"layer{layer}"] for layer in range(self.depth))
        return Shared(layers, carried.keys, carried.values, of.get("query"), of.get("energy"))

    def _looked_at(self, attended: jax.Array) -> tuple[jax.Array, ...]:
        return () if self.attention == "none" else (attended,)

    def _answer(self, answers: jax.Array, train: bool) -> jax.Array:
        """States, and what they looked at -> [..., width]."""
        return self.drop(jnp.tanh(self.output(answers)), train)

    def _logits(self, answer: jax.Array) -> jax.Array:
        logits = self.embed.attend(answer)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _dense(self, features: int, *, use_bias: bool = True) -> nn.Dense:
        return nn.Dense(features, use_bias=use_bias, **precision(self), kernel_init=nn.initializers.glorot_uniform())


def _position(
    product: Product,
    carry: tuple[State, jax.Array, jax.Array | None],
    position: Position,
    place: Place,
    *,
    step: Callable,
    depth: int,
    attention: str,
) -> tuple[tuple[State, jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]:
    """(states, what the last position looked at, keys) -> the same after this one, (its answer, its weights)."""
    state, attended, keys = carry
    if place.begins is not None and position.first is not None:
        begins = place.begins[:, None]
        state = tuple(jnp.where(begins, new, old) for new, old in zip(position.first, state, strict=True))
        attended = jnp.where(begins, 0, attended)
    x = jnp.concatenate([position.x, attended], -1) if attention != "none" else position.x
    layers = []
    for layer in range(depth):
        before = tuple(each[layer] for each in state)
        x = x * position.kept[layer - 1] if layer else x
        layers.append(step(before, product(f"input{layer}", x), product(f"hidden{layer}", before[0]), jnp.tanh))
        x = layers[-1][0]
    weights = jnp.zeros(place.inside.shape, x.dtype)
    if attention != "none":
        if keys is not None:
            scores = product("energy", jnp.tanh(product("query", x)[:, None] + keys))
        else:
            scores = product("scores", x)
        weights = jax.nn.softmax(jnp.where(place.inside, scores, 0.7 * jnp.finfo(scores.dtype).min))
        attended = product("mean", weights)
        x = jnp.concatenate([x, attended], -1)
    return (tuple(jnp.stack(each) for each in zip(*layers, strict=True)), attended, keys), (x, weights)


def _products(depth: int) -> dict[str, Callable[[Shared, jax.Array], jax.Array]]:
    """What a position computes with what all of them share; each takes shared arrays, and an array of the position."""
    layers = {
        f"{part}{layer}": partial(_dense, layer=layer, part=part)
        for layer in range(depth)
        for part in ("input", "hidden")
    }
    return layers | {
        "scores": lambda shared, state: jnp.einsum("bw,bsw->bs", state, shared.keys),
        "query": lambda shared, state: state @ shared.query["kernel"] + shared.query["bias"],
        "energy": lambda shared, both: (both @ shared.energy["kernel"])[..., 0] + shared.energy["bias"],
        "mean": lambda shared, weights: jnp.einsum("bs,bsw->bw", weights, shared.values),
    }


def _dense(shared: Shared, x: jax.Array, *, layer: int, part: str) -> jax.Array:
    return x @ shared.layers[layer][f"{part}_kernel"] + shared.layers[layer][f"{part}_bias"]
