"""Where examples come from, in which order, and how they are changed on device.

`load` gives a `Source`: examples by index, nothing random. `epoch_order` and `stream` give the order in which
training sees them, a function of the seed alone. `augment` has the changes made on device. Nothing here
touches the network, and nothing is imported before a set needs it.
"""

from . import augment
from .catalogue import load, names
from .order import epoch_order, in_order, stream
from .source import Source, moments, subset

__all__ = ["Source", "augment", "epoch_order", "in_order", "load", "moments", "names", "stream", "subset"]
