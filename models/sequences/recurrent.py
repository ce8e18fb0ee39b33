"""Recurrent networks: an internal state that is carried from position to position of a sequence.

The lecture's h(t) = σ(W h(t−1) + U x(t)) is Elman's network (1990); GRU and LSTM add gates, so that a state can also be
kept. A cell is a row of `CELLS`: how wide its gates are, how many states it has, and one step. All else is shared: what
the inputs add is computed for all positions at once, and the steps run under `scan_products`. Of padded sequences,
padding changes nothing: neither the states nor, backwards, where a sequence begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError, unknown_name
from ..layers import Dropout, check_positive, get_activation, precision
from .scan import scan_products

State = tuple[jax.Array, ...]
"""The states of a cell, [batch, features] each. The first is what it answers."""


class Cell(NamedTuple):
    """One step of a recurrent network, and the shapes that it needs."""

    gates: int
    """What x and h add is so many times as wide as the state."""
    states: int
    """Number of states."""
    keep: int | None
    """Number of the gate by which a state is kept where it is 1; None for a cell without one."""
    step: Callable[[State, jax.Array, jax.Array, Callable], State]
    """(states before, what x adds [batch, gates · features], what h adds, activation) -> states after."""


def elman_step(state: State, from_input: jax.Array, from_hidden: jax.Array, activation: Callable) -> State:
    """h(t) = σ(U x(t) + W h(t−1)) (Elman 1990; the lecture's slide)."""
    del state
    return (activation(from_input + from_hidden),)


def gru_step(state: State, from_input: jax.Array, from_hidden: jax.Array, activation: Callable) -> State:
    """Gated recurrent unit (Cho et al. 2014), with the reset gate behind the matrix, as in cuDNN and torch.

    r, z = sigmoid(…), n = σ(U_n x + r ⊙ W_n h), h(t) = (1 − z) ⊙ n + z ⊙ h(t−1). The gates lie in this order.
    """
    (hidden,) = state
    reset_x, update_x, new_x = jnp.split(from_input, 3, -1)
    reset_h, update_h, new_h = jnp.split(from_hidden, 3, -1)
    update = nn.sigmoid(update_x + update_h)
    new = activation(new_x + nn.sigmoid(reset_x + reset_h) * new_h)
    return ((1 - update) * new + update * hidden,)


def lstm_step(state: State, from_input: jax.Array, from_hidden: jax.Array, activation: Callable) -> State:
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    i, f, g, o = sigmoid, sigmoid, σ, sigmoid of U x + W h; c(t) = f ⊙ c(t−1) + i ⊙ g; h(t) = o ⊙ σ(c(t)).
    """
    _, memory = state
    take, keep, new, show = jnp.split(from_input + from_hidden, 4, -1)
    memory = nn.sigmoid(keep) * memory + nn.sigmoid(take) * activation(new)
    return nn.sigmoid(show) * activation(memory), memory


CELLS = {"elman": Cell(1, 1, None, elman_step), "gru": Cell(3, 1, 1, gru_step), "lstm": Cell(4, 2, 1, lstm_step)}


class Recurrent(nn.Module):
    """Layers of recurrent cells over a sequence, each over what the one before answers.

    With two directions, the answers of both stand side by side. Parameters are those of torch.nn.RNN, GRU and LSTM.

    Attributes:
      features: width of a state.
      cell: "elman", "gru" or "lstm".
      depth: number of layers.
      bidirectional: a second network in each layer reads the sequence from its end.
      activation: σ of the states, a name of `layers.ACTIVATIONS`.
      use_bias: add biases. The slide has none.
      forget_bias: initial bias of the gate that keeps the state: the forget gate of an LSTM, the update gate of a GRU.
        0 keeps half of it at first, 1 about three quarters, as Jozefowicz et al. 2015 recommend for an LSTM.
      dropout: dropout rate between layers, drawn from the stream "dropout"; may be traced.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    features: int
    cell: str = "lstm"
    depth: int = 1
    bidirectional: bool = False
    activation: str = "tanh"
    use_bias: bool = True
    forget_bias: float = 0.0
    dropout: float | jax.Array = 0.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @property
    def directions(self) -> int:
        """2, or 1 where sequences are read forward alone."""
        return 2 if self.bidirectional else 1

    def initial_state(self, batch: int) -> State:
        """States before the first position: zeros, [depth · directions, batch, features] each."""
        shape = (self.depth * self.directions, batch, self.features)
        return (jnp.zeros(shape, self.dtype),) * CELLS[self.cell].states

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        state: State | None = None,
        *,
        segments: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, State]:
        """[batch, length, width] -> [batch, length, directions · features], and the states at the end.

        Args:
          x: sequences; what stands behind their ends has no effect.
          lengths: [batch] integers, number of positions of each; None for all.
          segments: [batch, length] integers, instead of lengths, where several sequences stand in a row: their numbers
            1, 2, …, and 0 behind the last one (`data.text.pack`). The states begin at 0 with each.
          state: states before the first position, as `initial_state` gives them; None for those. To go on where another
            call ended, give what it answered.
          train: apply dropout.
        Returns: (answers, 0 behind the end of a sequence; states after its last position, [depth · directions, batch,
          features] each, a layer's backward direction behind its forward one).
        Raises: InputError if x is not of rank 3, a size is not positive, lengths or states do not fit, or the cell or
          the activation is unknown.
        """
        check_positive(self, "features", "depth")
        self._check(x, lengths, segments, state)
        x = x.astype(self.dtype)
        state = self.initial_state(len(x)) if state is None else state
        inside = None if lengths is None else jnp.arange(x.shape[1])[None] < lengths[:, None]
        restarts: tuple[jax.Array | None, ...] = (None, None)
        if segments is not None:
            inside, restarts = segments > 0, _restarts(segments)
        if inside is not None:
            x = jnp.where(inside[..., None], x, 0)  # else a gradient of 0 times NaN
        ends = []
        for layer in range(self.depth):
            if layer:
                x = Dropout(self.dropout)(x, train)
            answers = []
            for direction in range(self.directions):
                own = tuple(each[layer * self.directions + direction].astype(self.dtype) for each in state)
                read = Direction(
                    self.features,
                    self.cell,
                    self.activation,
                    self.use_bias,
                    self.forget_bias,
                    **precision(self),
                    name=f"layer{layer}{'_reverse' if direction else ''}",
                )
                answer, end = read(x, inside, restarts[direction], own, reverse=bool(direction))
                answers.append(answer)
                ends.append(end)
            x = jnp.concatenate(answers, -1)
        return x, tuple(jnp.stack(each) for each in zip(*ends, strict=True))

    def _check(self, x: jax.Array, lengths: jax.Array | None, segments: jax.Array | None, state: State | None) -> None:
        if self.cell not in CELLS:
            raise unknown_name("cell", self.cell, CELLS)
        get_activation(self.activation)
        if self.forget_bias and (CELLS[self.cell].keep is None or not self.use_bias):
            raise InputError(f"forget_bias is {self.forget_bias}; only an LSTM or a GRU with biases has it.")
        if x.ndim != 3:
            raise InputError(f"Sequences must be [batch, length, width]; they were given as {x.shape}.")
        if lengths is not None and (lengths.shape != x.shape[:1] or not jnp.issubdtype(lengths.dtype, jnp.integer)):
            raise InputError(
                f"Lengths of {x.shape[0]} sequences are integers [batch]; got {lengths.shape} {lengths.dtype}."
            )
        if segments is not None and (lengths is not None or segments.shape != x.shape[:2]):
            raise InputError(f"Give lengths or segments {x.shape[:2]}; segments are {segments.shape}.")
        wanted = [each.shape for each in jax.eval_shape(lambda: self.initial_state(len(x)))]
        if state is not None and [each.shape for each in state] != wanted:
            raise InputError(f"States of shapes {[each.shape for each in state]} were given; they must be {wanted}.")


class Direction(nn.Module):
    """One layer that reads sequences in one direction; `Recurrent` says what its attributes are."""

    features: int
    cell: str
    activation: str
    use_bias: bool
    forget_bias: float
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, inside: jax.Array | None, restart: jax.Array | None, state: State, *, reverse: bool
    ) -> tuple[jax.Array, State]:
        """[batch, length, width], states [batch, features] -> answers, states.

        inside and restart, bool [batch, length] or None, say where the state changes, and before which positions it
        becomes 0.
        """
        cell, activation = CELLS[self.cell], get_activation(self.activation)
        width = cell.gates * self.features
        by_gate = _orthogonal_gates(cell.gates)
        input_kernel = self._param("input_kernel", nn.initializers.glorot_uniform(), (x.shape[-1], width))
        hidden_kernel = self._param("hidden_kernel", by_gate, (self.features, width))
        bias = _bias_of_gate(cell.keep, self.features, self.forget_bias)
        from_input = jnp.einsum("blw,wg->lbg", x, input_kernel)
        hidden_bias = jnp.zeros((), self.dtype)
        if self.use_bias:
            from_input = from_input + self._param("input_bias", bias, (width,))
            hidden_bias = self._param("hidden_bias", nn.initializers.zeros, (width,))

        def step(product, state, added, where):
            here, again = where
            if again is not None:
                state = tuple(jnp.where(again[:, None], 0, each) for each in state)
            after = cell.step(state, added, product("hidden", state[0]), activation)
            if here is None:
                return after, after[0]
            kept = here[:, None]
            after = tuple(jnp.where(kept, new, old) for new, old in zip(after, state, strict=True))
            return after, jnp.where(kept, after[0], 0)

        products = {"hidden": lambda shared, h: h @ shared[0] + shared[1]}
        where = tuple(None if each is None else each.T for each in (inside, restart))
        shared = hidden_kernel, hidden_bias
        end, answers = scan_products(step, products, shared, state, from_input, where, reverse=reverse)
        return answers.swapaxes(0, 1), end

    def _param(self, name: str, init: Callable, shape: tuple[int, ...]) -> jax.Array:
        return self.param(name, init, shape, self.param_dtype).astype(self.dtype)


def _restarts(segments: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Positions, bool [batch, length], where a sequence begins behind another one, read forward and backward."""
    changes = (segments[:, 1:] != segments[:, :-1]) & (segments[:, 1:] > 0)
    return jnp.pad(changes, ((0, 0), (1, 0))), jnp.pad(changes, ((0, 0), (0, 1)))


def _orthogonal_gates(gates: int) -> Callable:
    """Initializer of [features, gates · features]: an orthogonal matrix for each gate, so that states keep their norm.

    Source: Saxe et al. 2014 (https://arxiv.org/abs/1312.6120).
    """

    def init(key, shape, dtype):
        one = nn.initializers.orthogonal()
        return jnp.concatenate([one(each, (shape[0], shape[0]), dtype) for each in jax.random.split(key, gates)], 1)

    return init


def _bias_of_gate(gate: int | None, features: int, value: float) -> Callable:
    """Initializer of [gates · features]: a value for one gate, 0 for the others."""

    def init(key, shape, dtype):
        del key
        own = jnp.arange(shape[0]) // features == (-1 if gate is None else gate)
        return jnp.where(own, value, 0).astype(dtype)

    return init
