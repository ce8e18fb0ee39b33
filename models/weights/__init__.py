"""Weights under the names and layouts of torchvision, timm, diffusers and the authors, and back.

`pretrained` reads and writes files; the other files hold the names of one family each.
"""

from .pretrained import at_resolution, from_torch, load, num_classes, read, save, template, to_torch

__all__ = ["at_resolution", "from_torch", "load", "num_classes", "read", "save", "template", "to_torch"]
