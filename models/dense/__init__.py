"""Networks with an answer for every place of an image, and what is around them: grids, suppression, letterboxes."""

from .convolutional import convolutional_kernels, convolutionalized
from .fcn import FCN, FCNResNet, with_classifier
from .grid import Level, anchor_boxes, cell_centers, cell_levels, grid_levels
from .letterbox import Letterbox, letterbox, letterbox_of
from .segnet import SegNet
from .suppression import Decay, Kept, gaussian_decay, hard_decay, linear_decay, non_max_suppression
from .trunks import TRUNKS, AlexNetTrunk, ResNetTrunk, Trunk, VGGTrunk
from .unet import UNet, center_crop, output_size

__all__ = [
    "FCN",
    "TRUNKS",
    "AlexNetTrunk",
    "Decay",
    "FCNResNet",
    "Kept",
    "Letterbox",
    "Level",
    "ResNetTrunk",
    "SegNet",
    "Trunk",
    "UNet",
    "VGGTrunk",
    "anchor_boxes",
    "cell_centers",
    "cell_levels",
    "center_crop",
    "convolutional_kernels",
    "convolutionalized",
    "gaussian_decay",
    "grid_levels",
    "hard_decay",
    "letterbox",
    "letterbox_of",
    "linear_decay",
    "non_max_suppression",
    "output_size",
    "with_classifier",
]
