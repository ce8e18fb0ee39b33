"""Makes timm_resnet.npz: what timm's ResNet-D and pre-activation networks answer, in float64, by `weights.py`.

Run by hand, with torch 2.13.0 (CPU), torchvision 0.29.1 and timm 1.0.31 installed: `python timm_resnet.py`.
torchvision's compiled operators do not load beside a CPU build of torch, so their registration is skipped.
"""

import sys
import types
from pathlib import Path

import numpy as np
from torch_answers import answers

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import timm

NAMES = {"resnet18d": "resnet18d", "preact_resnet18": "resnetv2_18", "preact_resnet50": "resnetv2_50"}

golden = {}
for ours, theirs in NAMES.items():
    golden |= answers(timm.create_model(theirs), ours)
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
