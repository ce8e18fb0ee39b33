"""Makes torchvision_resnet.npz: what torchvision's ResNets answer, in float64, with the weights of `weights.py`.

Run by hand, with torch 2.13.0 (CPU) and torchvision 0.29.1 installed: `python torchvision_resnet.py`. Its compiled
operators (which ResNets do not use) do not load beside a CPU build of torch, so their registration is skipped.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from weights import inputs, weight

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import torchvision  # noqa: E402

golden = {}
images, labels = inputs()
x, y = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double(), torch.from_numpy(labels)
for name in ("resnet18", "resnet50"):
    model = getattr(torchvision.models, name)().double()
    state = {key: torch.from_numpy(weight(key, tuple(value.shape))) for key, value in model.state_dict().items()
             if not key.endswith("num_batches_tracked")}  # fmt: skip
    model.load_state_dict(state, strict=False)
    for mode in ("eval", "train"):
        model.load_state_dict(state, strict=False)  # training moved the running averages
        model.train(mode == "train")
        model.zero_grad()
        logits = model(x)
        torch.nn.functional.cross_entropy(logits, y).backward()
        golden[f"{name}_{mode}_logits"] = logits.detach().float().numpy()
        norms = {key: float(p.grad.norm()) for key, p in model.named_parameters()}
        golden[f"{name}_{mode}_gradient_names"] = np.array(list(norms))
        golden[f"{name}_{mode}_gradient_norms"] = np.array(list(norms.values()))
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
