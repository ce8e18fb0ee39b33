"""Weights by rule, the same on both sides of a comparison: a function of a parameter's torchvision name and shape."""

import zlib

import numpy as np


def weight(name, shape):
    """An array of torch's layout: He-scaled kernels, normalisation scales near 1, positive variances."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise = rng.standard_normal(shape)
    if name.endswith("running_var"):
        value = 1 + 0.2 * np.abs(noise)
    elif len(shape) > 1:
        value = noise * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("weight"):
        value = 0.7 + 0.1 * noise
    else:
        value = 0.1 * noise
    return value.astype(np.float32)


def inputs():
    """(images [4, 64, 64, 3], labels [4])."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 64, 64, 3)).astype(np.float32), np.array([3, 141, 592, 653])


def segmented():
    """(images [2, 41, 56, 3], labels [2, 41, 56] of 21 classes, −1 in a tenth of the pixels)."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((2, 41, 56, 3)).astype(np.float32), rng.integers(0, 21, (2, 41, 56))
    return images, np.where(rng.random(labels.shape) < 0.1, -1, labels).astype(np.int32)
