"""Networks with an answer for every place of an image, and what is around them: grids, suppression, letterboxes."""

from .convolutional import convolutional_kernels, convolutionalized
from .decoding import Candidates, assemble_masks, crop_to_boxes, decode, mask_logits
from .fcn import FCN, FCNResNet, with_classifier
from .fusion import Panoptic, panoptic_fusion
from .grid import Level, anchor_boxes, cell_centers, cell_levels, cell_strides, grid_levels
from .grid_detector import GridDetector, GridOutputs, cell_boxes
from .letterbox import Letterbox, letterbox, letterbox_of
from .segnet import SegNet
from .suppression import Decay, Kept, gaussian_decay, hard_decay, linear_decay, non_max_suppression
from .trunks import TRUNKS, AlexNetTrunk, ResNetTrunk, Trunk, VGGTrunk
from .turns import over_turns
from .unet import UNet, center_crop, mirror_padded, output_size

__all__ = [
    "FCN",
    "TRUNKS",
    "AlexNetTrunk",
    "Candidates",
    "Decay",
    "FCNResNet",
    "GridDetector",
    "GridOutputs",
    "Kept",
    "Letterbox",
    "Level",
    "Panoptic",
    "ResNetTrunk",
    "SegNet",
    "Trunk",
    "UNet",
    "VGGTrunk",
    "anchor_boxes",
    "assemble_masks",
    "cell_boxes",
    "cell_centers",
    "cell_levels",
    "cell_strides",
    "center_crop",
    "convolutional_kernels",
    "convolutionalized",
    "crop_to_boxes",
    "decode",
    "gaussian_decay",
    "grid_levels",
    "hard_decay",
    "letterbox",
    "letterbox_of",
    "linear_decay",
    "mask_logits",
    "mirror_padded",
    "non_max_suppression",
    "output_size",
    "over_turns",
    "panoptic_fusion",
    "with_classifier",
]
