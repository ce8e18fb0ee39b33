"""Makes torchvision_fcn.npz: what torchvision's fcn_resnet50 answers, in float64, with the weights of `weights.py`.

Of each answer every fourth pixel is kept; the loss is that of torchvision's own training script, the cross-entropy of
the answer and half of that of the auxiliary head. There is no dropout. Names and shapes of all weights are kept too.

Run by hand, with torch 2.14.1 and torchvision 0.29.1 installed: `python torchvision_fcn.py`.
"""

from pathlib import Path

import numpy as np
import torch
import torchvision
from weights import segmented, weight

images, labels = segmented()
x, y = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double(), torch.from_numpy(labels).long()
model = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
model = model.double()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if "num_batches" not in key}
state = {key: torch.from_numpy(weight(key, shape)) for key, shape in shapes.items()}
golden = {"names": np.array([f"{key} {shape}" for key, shape in sorted(shapes.items())])}
for mode in ("eval", "train"):
    model.load_state_dict(state, strict=False)  # training moved the running averages
    model.train(mode == "train")
    model.zero_grad()
    answer = model(x)
    losses = {name: torch.nn.functional.cross_entropy(answer[name], y, ignore_index=-1) for name in ("out", "aux")}
    (losses["out"] + 0.5 * losses["aux"]).backward()
    for name in ("out", "aux"):
        golden[f"{mode}_{name}"] = answer[name].detach()[:, :, ::4, ::4].float().numpy().transpose(0, 2, 3, 1)
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters()}
    golden[f"{mode}_gradient_names"] = np.array(list(norms))
    golden[f"{mode}_gradient_norms"] = np.array(list(norms.values()))
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
