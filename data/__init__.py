"""Where examples come from, in which order training sees them, and how they are augmented on device.

`load` returns a `Source`: examples by index, nothing random. `epoch_order` and `stream` decide the order, which is a
function of the seed and the epoch alone. `augment` changes images on device, and `scenes` renders them there. Nothing
here uses the network, except `prepare` for sets that only TensorFlow Datasets can make, and no reader of files is
imported before one needs it.
"""

from . import augment, text
from .augment import geometry, mixing
from .batches import in_order, stream
from .order import epoch_batches, epoch_order, repeat_last
from .scaling import to_pixels, to_signed_unit
from .sources import (
    MOST_PIXELS_PER_SIDE,
    NO_PROGRESS,
    Arrays,
    Frame,
    Records,
    Report,
    Source,
    decode,
    export_coco,
    image_spec,
    in_memory,
    labels,
    load,
    mask_of,
    moments,
    names,
    prepare,
    read_framed,
    read_image,
    repeated,
    require_images,
    run_lengths,
    scenes,
    select,
    subset,
    with_regions,
)

__all__ = [
    "MOST_PIXELS_PER_SIDE",
    "NO_PROGRESS",
    "Arrays",
    "Frame",
    "Records",
    "Report",
    "Source",
    "augment",
    "decode",
    "epoch_batches",
    "epoch_order",
    "export_coco",
    "geometry",
    "image_spec",
    "in_memory",
    "in_order",
    "labels",
    "load",
    "mask_of",
    "mixing",
    "moments",
    "names",
    "prepare",
    "read_framed",
    "read_image",
    "repeat_last",
    "repeated",
    "require_images",
    "run_lengths",
    "scenes",
    "select",
    "stream",
    "subset",
    "text",
    "to_pixels",
    "to_signed_unit",
    "with_regions",
]
