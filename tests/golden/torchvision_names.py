"""Makes torchvision_names.npz: names and shapes of torchvision's and timm's weights, by our networks' names.

Run by hand, with torch 2.13.0 (CPU), torchvision 0.29.1 and timm 1.0.31 installed: `python torchvision_names.py`.
torchvision's compiled operators do not load beside a CPU build of torch, so their registration is skipped.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import timm
import torchvision

TORCHVISION = ("alexnet", *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
               *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)))  # fmt: skip
TIMM = {f"resnet{depth}d": f"resnet{depth}d" for depth in (18, 34, 50, 101, 152)} | {
    f"preact_resnet{depth}": f"resnetv2_{depth}" for depth in (18, 34, 50, 101, 152)
}

with torch.device("meta"):
    models = {name: getattr(torchvision.models, name)(init_weights=False) if "vgg" in name
              else getattr(torchvision.models, name)() for name in TORCHVISION}  # fmt: skip
    models |= {ours: timm.create_model(theirs) for ours, theirs in TIMM.items()}
golden = {
    name: np.array([f"{key} {tuple(x.shape)}" for key, x in sorted(model.state_dict().items())
                    if not key.endswith("num_batches_tracked")])
    for name, model in models.items()
}  # fmt: skip
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
