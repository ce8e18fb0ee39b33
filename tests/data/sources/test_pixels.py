"""How one image is read: upright, opaque, 8 bits a channel, or refused with its name."""

import os
import struct
from io import BytesIO

import numpy as np
import pytest
from etude import data
from etude.data.sources.pixels import read_shape
from PIL import Image

RAMP = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
SCALED = np.rint(RAMP / 257).astype(np.uint8)


def pixels(file, **options):
    return np.asarray(data.read_image(file, **options))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bits_are_scaled_by_their_full_range(tmp_path, suffix):
    file = tmp_path / f"ramp.{suffix}"
    Image.fromarray(RAMP).save(file)
    np.testing.assert_array_equal(pixels(file), SCALED)
    assert read_shape(file) == (3, 4, 1)


def test_sixteen_bits_of_which_zero_is_white_are_inverted(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "ramp.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(pixels(tmp_path / "ramp.tif"), 255 - SCALED)


def test_twelve_bits_are_scaled_by_their_full_range(tmp_path):
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(content)  # the pixels 0xfff and 0x800
    assert pixels(tmp_path / "a.tif").tolist() == [[255, 128]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_refused_by_name(tmp_path, dtype):
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "wide.tif")
    for read in (data.read_image, read_shape):
        with pytest.raises(ValueError, match=r"wide\.tif has pixels of 32 bits.*8 or 16 bits"):
            read(tmp_path / "wide.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, suffix, orientation):
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :8] = 255  # the corner that tells the orientations apart, in blocks that survive a lossy format
    exif = Image.Exif()
    exif[274] = orientation
    file = tmp_path / f"turned.{suffix}"
    Image.fromarray(np.stack([stored] * 3, -1)).save(file, exif=exif)
    upright = {  # what EXIF 2.3 says of the stored rows and columns
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored[::-1].T,
        7: stored[::-1, ::-1].T,
        8: stored[:, ::-1].T,
    }[orientation]
    assert read_shape(file) == (*upright.shape, 3)
    np.testing.assert_array_equal(pixels(file, channels=1) > 127, upright > 127)


def test_an_orientation_that_cannot_be_read_is_upright():
    file = BytesIO()
    Image.new("RGB", (2, 3)).save(file, "JPEG", exif=b"Exif\0\0rubbish")
    assert data.read_image(file, name="a").size == (2, 3)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L", "RGB", "I;16"])
def test_transparent_pixels_are_white(tmp_path, mode):
    file = tmp_path / "hole.png"
    hidden, seen = {"LA": ((9, 0), (50, 255)), "RGBA": ((9, 9, 9, 0), (50, 50, 50, 255))}.get(mode, (0, 1))
    if mode == "RGB":
        hidden, seen = (9, 9, 9), (50, 50, 50)
    image = Image.new(mode, (2, 1), hidden)
    image.putpixel((1, 0), seen if mode != "I;16" else 50 * 257)
    if mode == "P":
        image.putpalette([9, 9, 9, 50, 50, 50])
    if mode == "L":
        image.putpixel((1, 0), 50)
    image.save(file, **({} if "A" in mode else {"transparency": hidden}))
    assert pixels(file, channels=1).tolist() == [[255, 50]]


def test_a_fourth_channel_keeps_the_opacity(tmp_path):
    Image.new("RGBA", (1, 1), (1, 2, 3, 4)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png", channels=4).tolist() == [[[1, 2, 3, 4]]]


def test_too_large_an_image_is_refused_by_its_header(tmp_path):
    file = tmp_path / "large.pgm"
    file.write_bytes(b"P5 20000 20000 255\n")
    for read in (data.read_image, read_shape):
        with pytest.raises(ValueError, match=r"large\.pgm has more than 178,956,970 pixels"):
            read(file)


RUBBISH = {
    "empty": b"",
    "text": b"no image",
    "ppm": b"P6 " + b"9" * 5000,
    "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(40),
    "gif": b"GIF89a" + b"\xff" * 20,
    "tiff": b"II*\0" + b"\xff" * 40,
    "bmp": b"BM" + b"\xff" * 60,
    "webp": b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 30,
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n{} loop\n",
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_of_every_format_is_refused_by_name(tmp_path, kind):
    (tmp_path / "x.png").write_bytes(RUBBISH[kind])
    for read in (data.read_image, read_shape):
        with pytest.raises(ValueError, match=r"x\.png can't be read as an image"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is a named pipe"),
        (os.mkdir, "is a folder"),
        (lambda path: os.symlink("nowhere", path), "is a link to a file that does not exist"),
        (lambda path: os.symlink(path, path), "can't be read: Too many levels"),
        (lambda path: None, "does not exist"),
    ],
)
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make, message):
    make(tmp_path / "x.png")
    with pytest.raises(ValueError, match=rf"x\.png {message}"):
        data.read_image(tmp_path / "x.png")
