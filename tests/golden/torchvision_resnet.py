"""Makes torchvision_resnet.npz: what torchvision's ResNets answer, in float64, with the weights of `weights.py`.

Run by hand, with torch 2.13.0 (CPU) and torchvision 0.29.1 installed: `python torchvision_resnet.py`. Its compiled
operators (which ResNets do not use) do not load beside a CPU build of torch, so their registration is skipped.
"""

import sys
import types
from pathlib import Path

import numpy as np
from torch_answers import answers

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import torchvision

golden = {}
for name in ("resnet18", "resnet50"):
    golden |= answers(getattr(torchvision.models, name)(), name)
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
