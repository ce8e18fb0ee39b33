"""Networks: flax.linen modules and the pure functions they are made of. Knows nothing of training.

Chapters are `layers`, `classifiers`, `dense`, `generative`, `sequences`, `weights` and `inspection`. The catalogue
(`create`, `names`, `entry`) has every network by its name; every network's class is here as well.
"""

from . import classifiers, dense, generative, inspection, layers, sequences, weights
from .catalogue import (
    Entry,
    array_and_label,
    array_and_time,
    create,
    entry,
    entry_of,
    example_inputs,
    families,
    fields,
    names,
    one_array,
)
from .classifiers import MLP, VGG, AlexNet, ConvNet, FIDInception, PreActResNet, ResNet, ResNet9, ViT
from .dense import FCN, FCNResNet, GridDetector, SegNet, UNet
from .description import describe, holds_code, rebuild
from .generative import (
    VQVAE,
    ConvVAE,
    DCGANDiscriminator,
    DCGANGenerator,
    DenoisingUNet,
    DenseVAE,
    DiT,
    ResNetDiscriminator,
    ResNetGenerator,
)
from .inspection import (
    ReceptiveField,
    Window,
    count_flops,
    count_parameters,
    penultimate,
    receptive_field,
    summary,
)
from .sequences import Recurrent
from .weights import pretrained

__all__ = [
    "FCN",
    "MLP",
    "VGG",
    "VQVAE",
    "AlexNet",
    "ConvNet",
    "ConvVAE",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DenoisingUNet",
    "DenseVAE",
    "DiT",
    "Entry",
    "FCNResNet",
    "FIDInception",
    "GridDetector",
    "PreActResNet",
    "ReceptiveField",
    "Recurrent",
    "ResNet",
    "ResNet9",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "SegNet",
    "UNet",
    "ViT",
    "Window",
    "array_and_label",
    "array_and_time",
    "classifiers",
    "count_flops",
    "count_parameters",
    "create",
    "dense",
    "describe",
    "entry",
    "entry_of",
    "example_inputs",
    "families",
    "fields",
    "generative",
    "holds_code",
    "inspection",
    "layers",
    "names",
    "one_array",
    "penultimate",
    "pretrained",
    "rebuild",
    "receptive_field",
    "sequences",
    "summary",
    "weights",
]
