"""Receptive fields (fields of view): which inputs an output of a stack of convolutions and poolings can depend on.

One axis at a time, for windows are rectangles: a layer is four numbers, and a stack needs no weights to be judged.
Without strides the field grows by (kernel − 1) a layer, O(K · L); a stride doubles what all layers above it add, so
with pooling it grows exponentially with the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A convolution or pooling along one axis.

    kernel: entries it reads. stride: steps between its outputs. dilation: steps between the entries it reads.
    padding: how many entries are added before the first; those after the last do not move the field.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0

    def __post_init__(self):
        if min(self.kernel, self.stride, self.dilation) < 1:
            raise ValueError(f"kernel, stride and dilation must be at least 1; given is {self}.")


@dataclass(frozen=True)
class ReceptiveField:
    """The field of every output of a stack.

    size: from the first to the last input that an output reads, both included. Layers whose stride exceeds their
      kernel, or with dilation, can step over some between.
    jump: inputs between the fields of neighbouring outputs, the product of the strides.
    start: the first input of output 0's field; negative where that begins in the padding.
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

    Args:
      layers: from the input to the output. None of them is the identity.
    Returns: the field in entries of the input. It bounds what a network can see; how much each entry counts depends on
      the weights, and the border of the field usually counts little.
    Source: Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", Distill.
    """
    size, jump, start = 1, 1, 0
    for layer in layers:
        size += (layer.kernel - 1) * layer.dilation * jump
        start -= layer.padding * jump
        jump *= layer.stride
    return ReceptiveField(size, jump, start)
