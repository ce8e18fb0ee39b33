"""The cost of a prediction: floating-point operations, counted from shapes alone.

JAX traces the network, and the matrix products and convolutions of the program are added up: those in a loop as often
as it runs, and of several branches those of the most expensive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from ...errors import InputError
from ..catalogue import Inputs, example_inputs, fields
from ..layers import CONV, lax_conv


def count_flops(model: nn.Module, input_shape: Sequence[int], inputs: Inputs | None = None) -> int:
    """Floating-point operations of one forward pass at prediction, of one input; allocates nothing.

    A multiply-add is two operations; papers that print "FLOPs" often mean multiply-adds, half as many. Matrix
    products and convolutions count, also those of attention and of adaptive average pooling. Elementwise operations and
    windows do not: activations, normalization, softmax, other pooling. Zeros that pad an image count, as they do
    in published numbers; zeros between the pixels of a transposed convolution do not.

    >>> from etude import models
    >>> count_flops(models.create("linear", num_classes=10), (8, 8, 1))  # 64 · 10 multiply-adds
    1280

    Args:
      model: the network.
      input_shape: shape of one example: (height, width, channel) of an image, (length,) of a vector.
      inputs: as in `catalogue.Entry`; by default those of the network's class.
    Raises: InputError if `input_shape` is not one to three positive numbers, or if products are computed in a loop
      whose length depends on the data.
    """
    if "dtype" in fields(model):
        # In half precision a GPU's fused attention would hide its products; float32 has no such kernel.
        model = model.clone(dtype=jnp.float32)
    arguments = example_inputs(model, input_shape, inputs)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), *arguments)
    return _of_program(jax.make_jaxpr(partial(model.apply, train=False))(variables, *arguments).jaxpr)


def _of_program(program: core.Jaxpr) -> int:
    return sum(COUNTS.get(equation.primitive.name, _of_parts)(equation) for equation in program.eqns)


def _of_parts(equation: core.JaxprEqn) -> int:
    """Of whatever calls other programs, once each: jit, remat, custom derivatives."""
    return sum(map(_of_program, _programs(equation.params)))


def _programs(params: Any) -> Iterator[core.Jaxpr]:
    """The programs among an equation's parameters."""
    for leaf in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr)):
        if isinstance(leaf, core.ClosedJaxpr):
            yield leaf.jaxpr
        elif isinstance(leaf, core.Jaxpr):
            yield leaf


def _of_product(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    terms = math.prod(_shape(equation.invars[0])[axis] for axis in contracted)
    return 2 * math.prod(_shape(equation.outvars[0])) * terms


def _of_our_convolution(equation: core.JaxprEqn) -> int:
    program = jax.make_jaxpr(partial(lax_conv, **equation.params))(*(variable.aval for variable in equation.invars))
    return _of_program(program.jaxpr)


def _of_convolution(equation: core.JaxprEqn) -> int:
    """2 · outputs · taps of the kernel · channels of a group, less the taps that meet zeros between the pixels."""
    params, kernel, y = equation.params, _shape(equation.invars[1]), _shape(equation.outvars[0])
    _, kernel_axes, y_axes = params["dimension_numbers"]
    batch, features = (y[axis] for axis in y_axes[:2])
    meetings = [
        _meetings(y[y_axis], kernel[kernel_axis], stride, kernel_dilation, x_dilation, low)
        for y_axis, kernel_axis, stride, kernel_dilation, x_dilation, (low, _) in zip(
            y_axes[2:],
            kernel_axes[2:],
            params["window_strides"],
            params["rhs_dilation"],
            params["lhs_dilation"],
            params["padding"],
            strict=True,
        )
    ]
    return 2 * batch * features * kernel[kernel_axes[1]] * math.prod(meetings)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _meetings(outputs: int, taps: int, stride: int, kernel_dilation: int, x_dilation: int, low: int) -> int:
    """How often, along one axis, a tap of the kernel meets a place that is no zero between pixels."""
    places = stride * np.arange(outputs)[:, None] + kernel_dilation * np.arange(taps) - low
    return int((places % x_dilation == 0).sum())


def _of_loop(equation: core.JaxprEqn) -> int:
    if _of_parts(equation):
        raise InputError("Products in a loop whose length depends on the data cannot be counted.")
    return 0


COUNTS: dict[str, Callable[[core.JaxprEqn], int]] = {
    "dot_general": _of_product,
    "conv_general_dilated": _of_convolution,
    CONV.name: _of_our_convolution,
    "scan": lambda equation: equation.params["length"] * _of_parts(equation),
    "while": _of_loop,
    "cond": lambda equation: max(map(_of_program, _programs(equation.params))),
}
