"""Layers that networks share, and the functions they are made of.

Each function takes arrays and returns arrays; each module holds the parameters of one. Networks import from here.
"""

from .activations import ACTIVATIONS, Activation, gelu, gelu_tanh, get_activation, leaky_relu, swish
from .attention import GLOROT, KeyValues, MultiHeadAttention, attention, attention_weights, cudnn_takes
from .checks import check_images, check_positive
from .convolution import HE_FAN_OUT, LECUN, Conv, conv
from .cpu_convolution import CONV, lax_conv
from .dropout import Dropout, dropout, stochastic_depth
from .local import LocallyConnected, conv1d, convolutionalize, dense_matrix_of, local_grid, locally_connected
from .norms import GroupNorm, batch_norm, group_norm, layer_norm, local_response_norm, num_groups
from .positions import RelativeBias, interpolate_positions, relative_buckets, rotary, sincos, sincos2d
from .precision import Precise, Precision, precision
from .remat import is_expensive
from .resampling import (
    ConvTranspose,
    adaptive_average_pool,
    average_pool,
    conv_transpose,
    max_pool,
    upscale_bilinear,
    upscale_bilinear_corners,
    upscale_nearest,
)
from .time_embedding import Conditioning, cosines_first, sines_first
from .transformer import MLP, Block, Memory, run_blocks
from .unpooling import bed_of_nails, bilinear_kernel, max_pool_with_places, max_unpool, pixel_shuffle

__all__ = [
    "ACTIVATIONS",
    "CONV",
    "GLOROT",
    "HE_FAN_OUT",
    "LECUN",
    "MLP",
    "Activation",
    "Block",
    "Conditioning",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "GroupNorm",
    "KeyValues",
    "LocallyConnected",
    "Memory",
    "MultiHeadAttention",
    "Precise",
    "Precision",
    "RelativeBias",
    "adaptive_average_pool",
    "attention",
    "attention_weights",
    "average_pool",
    "batch_norm",
    "bed_of_nails",
    "bilinear_kernel",
    "check_images",
    "check_positive",
    "conv",
    "conv1d",
    "conv_transpose",
    "convolutionalize",
    "cosines_first",
    "cudnn_takes",
    "dense_matrix_of",
    "dropout",
    "gelu",
    "gelu_tanh",
    "get_activation",
    "group_norm",
    "interpolate_positions",
    "is_expensive",
    "lax_conv",
    "layer_norm",
    "leaky_relu",
    "local_grid",
    "local_response_norm",
    "locally_connected",
    "max_pool",
    "max_pool_with_places",
    "max_unpool",
    "num_groups",
    "pixel_shuffle",
    "precision",
    "relative_buckets",
    "rotary",
    "run_blocks",
    "sincos",
    "sincos2d",
    "sines_first",
    "stochastic_depth",
    "swish",
    "upscale_bilinear",
    "upscale_bilinear_corners",
    "upscale_nearest",
]
