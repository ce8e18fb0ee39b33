"""Networks that classify: arrays [batch, ...] -> logits [batch, num_classes].

`FIDInception` gives the features of the Fréchet Inception Distance; the others are for training.
"""

from . import resnet, vgg
from .alexnet import AlexNet
from .inception import FIDInception
from .mlp import MLP, ConvNet
from .resnet import PreActResNet, ResNet
from .resnet9 import ResNet9
from .resnet_blocks import BasicBlock, BottleneckBlock, PlainBlock, PreActBasicBlock, PreActBottleneckBlock
from .vgg import VGG
from .vit import ViT

__all__ = [
    "MLP",
    "VGG",
    "AlexNet",
    "BasicBlock",
    "BottleneckBlock",
    "ConvNet",
    "FIDInception",
    "PlainBlock",
    "PreActBasicBlock",
    "PreActBottleneckBlock",
    "PreActResNet",
    "ResNet",
    "ResNet9",
    "ViT",
    "resnet",
    "vgg",
]
