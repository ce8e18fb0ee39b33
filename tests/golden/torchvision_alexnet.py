"""Makes torchvision_alexnet.npz: what AlexNet answers in torch, in float64, with the weights of `weights.py`.

The one-tower network is torchvision's; the original one, which it lacks, is put together from torch's layers. Hidden
dense layers are narrow here, so that comparing takes seconds; everything else is as published. Besides, torch's
adaptive average pooling of ramps of several sizes.

Run by hand, with torch 2.13.0 (CPU) and torchvision 0.29.1 installed: `python torchvision_alexnet.py`. Its compiled
operators (which AlexNet does not use) do not load beside a CPU build of torch, so their registration is skipped.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch_answers import answers

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import torchvision

HIDDEN = (96, 80)


def narrow(flat):
    """A classifier of torchvision's structure, without dropout."""
    first, second = HIDDEN
    return nn.Sequential(
        nn.Dropout(0), nn.Linear(flat, first), nn.ReLU(),
        nn.Dropout(0), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 1000),
    )  # fmt: skip


class Original(nn.Module):
    """The network of 2012, its convolutions at torchvision's places."""

    def __init__(self):
        super().__init__()
        # torch divides the sum of squares by the size, which is 5.
        self.norm, self.pool = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2), nn.MaxPool2d(3, 2)
        self.features = nn.ModuleDict({
            "0": nn.Conv2d(3, 96, 11, 4, 2),
            "3": nn.Conv2d(96, 256, 5, padding=2, groups=2),
            "6": nn.Conv2d(256, 384, 3, padding=1),
            "8": nn.Conv2d(384, 384, 3, padding=1, groups=2),
            "10": nn.Conv2d(384, 256, 3, padding=1, groups=2),
        })  # fmt: skip
        self.classifier = narrow(256 * 6 * 6)

    def forward(self, x):
        for place in ("0", "3"):
            x = self.pool(self.norm(self.features[place](x).relu()))
        for place in ("6", "8", "10"):
            x = self.features[place](x).relu()
        return self.classifier(nn.functional.adaptive_avg_pool2d(self.pool(x), 6).flatten(1))


one_tower = torchvision.models.alexnet(dropout=0)
one_tower.classifier = narrow(256 * 6 * 6)
golden = answers(one_tower, "alexnet") | answers(Original(), "alexnet_original")
for height, width in ((13, 6), (3, 20), (1, 7)):
    ramp = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    golden[f"pooled_{height}_{width}"] = nn.functional.adaptive_avg_pool2d(ramp, 6)[0, 0].numpy()
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
