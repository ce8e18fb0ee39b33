"""What generators and discriminators share: initializers, sizes of grids, and the check of labels."""

from __future__ import annotations

from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from ...errors import InputError
from ..layers import Conv, Precise, precision

NORMAL_002 = nn.initializers.normal(0.02)  # Radford et al. 2015, section 4


# What the authors of Miyato et al. 2018 begin their residual networks with: Chainer's GlorotUniform with gain √2 in
# residual branches, and 1 elsewhere.
BRANCH = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


GLOROT = nn.initializers.glorot_uniform()


def count_halvings(shape: tuple[int, int]) -> int:
    """Number of times a grid is halved: at least twice, and until its shorter side is below 8.

    >>> count_halvings((32, 32)), count_halvings((28, 28))  # to 4×4 and to 7×7
    (3, 2)


    Args:
      shape: (height, width) of the images.
    Raises: InputError if a side becomes odd before that.
    """
    height, width = shape
    count = 0
    while count < 2 or min(height, width) >= 8:
        if height % 2 or width % 2 or min(height, width) < 1:
            raise InputError(
                f"Images of {shape[0]}×{shape[1]} pixels cannot be halved at least twice and until their shorter side "
                "is less than 8; 8×8, 28×28, 32×32, 64×64 and 48×96, for example, can."
            )
        height, width, count = height // 2, width // 2, count + 1
    return count


def conv_layer(
    module: Precise, features: int, kernel_size: int, *, name: str, init: nn.initializers.Initializer
) -> Conv:
    return Conv(
        features,
        kernel_size,
        use_bias=True,
        **precision(module),
        kernel_init=init,
        name=name,
    )


class Labeled(Protocol):
    """A module with the field `num_classes`: None where it reads no labels."""

    @property
    def num_classes(self) -> int | None: ...


def check_labels(module: Labeled, labels: jax.Array | None, batch: int) -> None:
    name = type(module).__name__
    if module.num_classes is None:
        if labels is not None:
            raise InputError(f"This {name} has no classes (num_classes is None), but was given labels.")
    elif labels is None or labels.shape != (batch,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        given = "none" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise InputError(f"This {name} needs integer labels [{batch}]; it was given {given}.")
