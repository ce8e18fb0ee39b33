"""Rendered scenes: drawn objects over sky, grass, water and sand, with exact truth for every pixel.

A scene is a function of a key: `render.scene` draws it on device. `sprites` has the objects, `stuff` the background,
`poses` says which rotations and sizes belong to which split, `split` makes a `Source` of it, and `caption` says in
English what is on a picture.
"""

from .caption import caption
from .poses import Poses
from .render import MAX_OBJECTS, SIZES, scene
from .split import classes_of, load
from .sprites import ATTRIBUTION, GROUPS, KINDS, Sprites, sprites
from .stuff import STUFF

__all__ = [
    "ATTRIBUTION",
    "GROUPS",
    "KINDS",
    "MAX_OBJECTS",
    "SIZES",
    "STUFF",
    "Poses",
    "Sprites",
    "caption",
    "classes_of",
    "load",
    "scene",
    "sprites",
]
