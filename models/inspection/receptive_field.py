"""Receptive fields (fields of view): which inputs an output of a stack of convolutions and poolings can depend on.

Windows are rectangles, so one axis at a time suffices: a layer is four numbers, and weights do not matter.
Without strides the field grows by (kernel − 1) a layer, O(K · L); a stride doubles what all layers above it add, so
with pooling it grows exponentially with the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import InputError


@dataclass(frozen=True)
class Window:
    """A convolution or pooling along one axis.

    Attributes:
      kernel: number of entries that it reads.
      stride: steps between its outputs.
      dilation: steps between the entries that it reads.
      padding: number of entries added before the first; those after the last do not move the field.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0

    def __post_init__(self):
        if min(self.kernel, self.stride, self.dilation) < 1:
            raise InputError(f"kernel, stride and dilation must be at least 1; given is {self}.")


@dataclass(frozen=True)
class ReceptiveField:
    """The field of every output of a stack.

    Attributes:
      size: number of inputs from the first to the last that an output reads. Layers with dilation, or whose stride
        exceeds their kernel, can skip some between.
      jump: number of inputs between the fields of neighboring outputs, the product of the strides.
      start: first input of output 0's field; negative where it lies in the padding.
    """

    size: int
    jump: int
    start: int

    def of(self, output: int) -> range:
        """The inputs from the first to the last of an output's field; those outside the input are padding."""
        first = self.start + output * self.jump
        return range(first, first + self.size)


def receptive_field(layers: Sequence[Window]) -> ReceptiveField:
    """The receptive field of a stack.

    Three 3×3 convolutions see what one 7×7 convolution sees; pooling between them doubles what later ones add.

    >>> receptive_field([Window(3)] * 3).size
    7
    >>> receptive_field([Window(3), Window(2, stride=2), Window(3), Window(3)]).size
    12

    Args:
      layers: windows from the input to the output. An empty sequence is the identity.
    Returns: the field in entries of the input. It bounds what a network can see; how much each entry
      matters depends on the weights, and the border of the field usually matters little.
    Source: Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", Distill.
    """
    size, jump, start = 1, 1, 0
    for layer in layers:
        size += (layer.kernel - 1) * layer.dilation * jump
        start -= layer.padding * jump
        jump *= layer.stride
    return ReceptiveField(size, jump, start)
