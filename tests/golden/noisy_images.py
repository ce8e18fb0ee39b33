"""What denoising networks are asked on both sides of a comparison."""

import numpy as np


def noisy_images():
    """(images [4, 16, 16, 4], steps [4] of 1000, labels [4] of 5 classes and none, noise [4, 16, 16, 8])."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 16, 16, 4)).astype(np.float32)
    noise = rng.standard_normal((4, 16, 16, 8)).astype(np.float32)
    return images, np.array([0.0, 17.0, 250.5, 999.0]), np.array([0, 3, 4, 5]), noise
