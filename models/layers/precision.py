"""The data types of a network, as keyword arguments for the layers inside it."""

from __future__ import annotations

from typing import Protocol, TypedDict

from jax.typing import DTypeLike


class Precise(Protocol):
    """A module with the fields `dtype` and `param_dtype`."""

    @property
    def dtype(self) -> DTypeLike: ...

    @property
    def param_dtype(self) -> DTypeLike: ...


class Precision(TypedDict):
    """Keyword arguments of a layer.

    Attributes:
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    dtype: DTypeLike
    param_dtype: DTypeLike


def precision(module: Precise) -> Precision:
    """The data types of a module, to hand on to its layers: `nn.Dense(8, **precision(self))`."""
    return {"dtype": module.dtype, "param_dtype": module.param_dtype}
