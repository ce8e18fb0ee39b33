"""Where examples come from, in which order, and how they are changed on device.

`load` gives a `Source`: examples by index, nothing random. `epoch_order` and `stream` give the order in which
training sees them, a function of the seed alone. `augment` has the changes made to images on device, `geometry` those
that masks and boxes follow, and `mixing` those that make one example of two. Nothing here touches the network, and
nothing is imported before a set needs it.
"""

from . import augment, geometry, mixing
from .catalogue import load, names
from .order import epoch_order, in_order, stream
from .scaling import to_pixels, to_unit
from .source import Source, moments, subset

__all__ = [
    "Source",
    "augment",
    "epoch_order",
    "geometry",
    "in_order",
    "load",
    "mixing",
    "moments",
    "names",
    "stream",
    "subset",
    "to_pixels",
    "to_unit",
]
