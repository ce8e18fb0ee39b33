"""Weights under the names and layouts of torchvision, timm, diffusers and the authors, and back.

`pretrained` reads and writes files, `conventions` says which images the weights are for; the other files hold the names
of one family each, or what is wrong with a file.
"""

from .conventions import Convention, convention
from .pretrained import (
    at_resolution,
    check_channels,
    from_torch,
    head_shapes,
    load,
    num_classes,
    present,
    read,
    read_metadata,
    save,
    template,
    to_torch,
)

__all__ = [
    "Convention",
    "at_resolution",
    "check_channels",
    "convention",
    "from_torch",
    "head_shapes",
    "load",
    "num_classes",
    "present",
    "read",
    "read_metadata",
    "save",
    "template",
    "to_torch",
]
