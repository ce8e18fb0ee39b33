"""Where examples come from: the type `Source`, the data sets that `load` knows by name, and how they are prepared."""

from . import prepare, scenes, tfds_library
from .annotated.coco_export import export_coco
from .annotated.letterbox import Frame, read_framed
from .annotated.rle import mask_of, run_lengths
from .catalogue import MOST_PIXELS_PER_SIDE, load, names
from .files import NO_PROGRESS, Report, shown
from .images import image_spec, labels, moments, require_images
from .pixels import decode, read_image
from .regions import with_regions
from .source import Arrays, Records, Source, in_memory, repeated, select, subset
from .splits import SPLIT_OF, assign_names

__all__ = [
    "MOST_PIXELS_PER_SIDE",
    "NO_PROGRESS",
    "SPLIT_OF",
    "Arrays",
    "Frame",
    "Records",
    "Report",
    "Source",
    "assign_names",
    "decode",
    "export_coco",
    "image_spec",
    "in_memory",
    "labels",
    "load",
    "mask_of",
    "moments",
    "names",
    "prepare",
    "read_framed",
    "read_image",
    "repeated",
    "require_images",
    "run_lengths",
    "scenes",
    "select",
    "shown",
    "subset",
    "tfds_library",
    "with_regions",
]
