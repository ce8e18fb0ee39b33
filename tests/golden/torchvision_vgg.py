"""Makes torchvision_vgg.npz: what torchvision's VGG answers, in float64, with the weights of `weights.py`.

Hidden dense layers are narrow here, so that comparing takes seconds; everything else is as published.

Run by hand, with torch 2.13.0 (CPU) and torchvision 0.29.1 installed: `python torchvision_vgg.py`. Its compiled
operators (which VGG does not use) do not load beside a CPU build of torch, so their registration is skipped.
"""

import sys
import types
from pathlib import Path

import numpy as np
from torch import nn
from torch_answers import answers

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import torchvision

golden = {}
for name in ("vgg11", "vgg11_bn"):
    model = getattr(torchvision.models, name)()
    model.classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 96), nn.ReLU(), nn.Dropout(0),
        nn.Linear(96, 80), nn.ReLU(), nn.Dropout(0), nn.Linear(80, 1000),
    )  # fmt: skip
    golden |= answers(model, name)
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
