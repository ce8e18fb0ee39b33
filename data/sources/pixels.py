"""Encoded images to 8-bit pixels, with Pillow: the one place that reads an image, for training and for every later use.

What viewers show is what a network sees: an image is turned upright by its EXIF orientation, transparent pixels show
white, 16 bits a channel are scaled by their full range, and of several frames the first counts. Pixels without a known
range (32 bits, floating point) are refused.
"""

from __future__ import annotations

import stat
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ...errors import InputError, MissingFile

IntOrArray = TypeVar("IntOrArray", int, np.ndarray)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name
CHANNELS = tuple(_MODES)

# Formats that are pixels alone. Pillow would run other programs for some of the rest (EPS), whatever the suffix says.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_LOSSLESS = ("BMP", "GIF", "PNG", "PPM", "TIFF")
_GRAY = ("1", "L", "LA", "La")
_TURNS = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _BITS, _PHOTOMETRIC = 274, 258, 262  # tags of EXIF and TIFF


class Shape(NamedTuple):
    """The shape of an image as it will be read."""

    height: int
    width: int
    channels: int
    """1 of a gray image, 3 of one in color."""


def read_image(file: Path | BytesIO, *, name: str | None = None, channels: int | None = None) -> Image.Image:
    """One image as a viewer shows it.

    Args:
      file: path or bytes of an encoded image: AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF or WebP.
      name: what messages call the image; by default its path.
      channels: 1, 3 or 4 (whose fourth is opacity); by default 1 if the image is gray, else 3.
    Returns: the image in Pillow's mode "L", "RGB" or "RGBA", upright. Without a fourth channel, transparent pixels show
      white. An orientation that can't be read counts as upright, as viewers have it.
    Raises: InputError, which names the image, if it can't be read, is larger than Pillow allows (179 megapixels) or its
      pixels have 32 bits or are floating-point numbers; MissingFile if there is no such file.
    """
    name = str(file) if name is None else name
    with _opened(file, name) as image:
        try:
            image.load()
            turn = _TURNS.get(_orientation(image))  # of a TIFF, Pillow has turned the image and removed the tag
            image = _eight_bits(image, name)
            channels = channels or (1 if image.mode in _GRAY else 3)
            if channels != 4 and image.has_transparency_data:
                opaque = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(opaque, image.convert("RGBA"))
            image = image.convert(_MODES[channels])
            return image if turn is None else image.transpose(turn)
        except InputError:
            raise
        except Exception as error:
            raise _unreadable(name, error) from error


def read_shape(file: Path | BytesIO, *, name: str | None = None) -> Shape:
    """The shape of an image as `read_image` returns it, mostly from its header alone. Raises the same errors.

    Pixels that are damaged behind a good header are not found.
    """
    name = str(file) if name is None else name
    with _opened(file, name) as image:
        _require_range(image, name)
        gray = image.mode in _GRAY or _sixteen_bits(image) > 0
        width, height = image.size
        # The orientation of a PNG may stand behind its pixels, which are then read: only where it matters.
        if width != height and image.format != "TIFF" and _orientation(image) >= 5:
            width, height = height, width
        return Shape(height, width, 1 if gray else 3)


def read_mask(file: Path | BytesIO, *, name: str) -> np.ndarray:
    """One mask, whose pixels are numbers or colors of classes: nothing is scaled or converted.

    Args:
      file: path or bytes of a mask without loss: BMP, GIF, PNG, PPM or TIFF.
      name: what messages call it.
    Returns: int32 [height, width]. A palette image has its indices, one of 1, 8 or 16 bits its values, and one of RGB
      `color_value`s, unless it is gray throughout, when it has the gray values. 65535 of 16 bits becomes −1.
    Raises: InputError for a file that can't be read, one with loss (JPEG, WebP), with transparent pixels, or with 32
      bits or floating point a pixel.
    """
    with _opened(file, name) as image:
        if image.format not in _LOSSLESS:
            raise InputError(f"{name} is a {image.format}; a mask must be in a format without loss, such as PNG.")
        try:
            image.load()
            if image.mode in ("LA", "RGBA", "PA") and np.asarray(image.getchannel("A")).min() == 255:
                image = image.convert({"LA": "L", "RGBA": "RGB", "PA": "P"}[image.mode])
            values, mode = np.asarray(image).astype(np.int32), image.mode
        except Exception as error:
            raise _unreadable(name, error) from error
        if _sixteen_bits(image) == 16:
            return np.where(values == 2**16 - 1, -1, values)
        if mode == "RGB":
            gray = (values == values[..., :1]).all()
            return values[..., 0] if gray else color_value(*np.moveaxis(values, -1, 0))
        if mode not in ("1", "L", "P"):
            raise InputError(
                f"{name} has pixels of Pillow's mode {mode}; a mask has a palette, 1, 8 or 16 bits, or opaque RGB."
            )
        return values


def color_value(red: IntOrArray, green: IntOrArray, blue: IntOrArray) -> IntOrArray:
    """The value of a mask's pixel of this color, each of 0 … 255. No value of 16 bits is as large.

    >>> hex(color_value(1, 2, 3))
    '0x1010203'
    """
    return 2**24 + 2**16 * red + 2**8 * green + blue


def decode(file: Path | BytesIO, shape: tuple[int, int, int], *, name: str, image_size: int | None) -> np.ndarray:
    """Reads one image as the array that a source promised.

    Args:
      file: same as `read_image`.
      shape: (height, width, channels) that it must have, with 1, 3 or 4 channels; other modes are converted.
      name: what messages call the image.
      image_size: resize and crop to this many pixels per side; None to take the image as it is.
    Returns: uint8, of that shape.
    Raises: InputError, which names the image, if it can't be read or has another height or width.
    """
    image = read_image(file, name=name, channels=shape[2])
    if image_size is not None:
        image = resize(image, image_size)
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, shape[2])
    if pixels.shape != shape:
        raise another_size(name, (image.height, image.width), shape[:2])
    return pixels


def another_size(name: str, found: tuple[int, int], wanted: tuple[int, int]) -> InputError:
    """The error for an image of another (height, width) than the others have."""
    return InputError(
        f"{name} is {found[1]}×{found[0]} pixels where {wanted[1]}×{wanted[0]} were expected; for "
        "images that differ in size give an image size (--image-size) to resize and crop all of them to."
    )


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resizes the shorter side to `size` pixels and crops the center: a square image."""
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # Crops and resizes in one call, with antialiasing, so that nothing is resized only to be cut off.
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _opened(file: Path | BytesIO, name: str) -> Image.Image:
    """An image whose header was read."""
    if isinstance(file, Path):
        require_file(file, name)
    Image.init()
    try:
        return Image.open(file, formats=[each for each in _FORMATS if each in Image.OPEN])
    except Image.DecompressionBombError:
        raise InputError(f"{name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; scale it down.") from None
    except Exception as error:  # whatever Pillow's many decoders raise at a broken file
        raise _unreadable(name, error) from error


def require_file(path: Path, name: str) -> None:
    """Raises InputError unless the path leads to a regular file: opening a named pipe would wait forever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        where = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise MissingFile(f"{name} {where}.") from None
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror}.") from None
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "named pipe" if stat.S_ISFIFO(mode) else "device or socket"
        raise InputError(f"{name} is a {kind}; wanted is the file of an image.")


def _unreadable(name: str, error: Exception) -> InputError:
    if isinstance(error, Image.UnidentifiedImageError):
        return InputError(f"{name} can't be read as an image: its content is of no format that is known here.")
    return InputError(f"{name} can't be read as an image: {str(error) or type(error).__name__}.")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # of a damaged EXIF block, Pillow raises all kinds of errors
        return 1


def _sixteen_bits(image: Image.Image) -> int:
    """Number of bits of a gray image with more than 8, whose range is known: 16 or 12; else 0."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_BITS, (16,))
        return bits[0] if isinstance(bits, tuple) else bits
    # Pillow gives these as 32-bit numbers, though the file has 16; of PGM it has scaled them to the full range.
    return 16 if image.mode == "I" and image.format in ("PNG", "PPM") else 0


def _require_range(image: Image.Image, name: str) -> None:
    if image.mode.startswith(("I", "F")) and not _sixteen_bits(image):
        raise InputError(
            f"{name} has pixels of 32 bits or floating point (Pillow's mode {image.mode}), whose range is not known; "
            "convert it to 8 or 16 bits a channel."
        )


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """The image with 8 bits a channel: gray ones of 16 bits are scaled by the full range, which Pillow would clip."""
    _require_range(image, name)
    bits = _sixteen_bits(image)
    if not bits:
        return image
    values = np.asarray(image).astype(np.float32)
    scaled = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # 0 is white, which Pillow knows for 8 bits alone
        scaled = 255 - scaled
    gray = Image.fromarray(scaled)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        opacity = np.where(values == transparent, 0, 255).astype(np.uint8)
        gray.putalpha(Image.fromarray(opacity))
    return gray
