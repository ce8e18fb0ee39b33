"""Makes timm_vit.npz: what timm's vision transformers answer, in float64, with the weights of `weights.py`.

Run by hand, with timm 1.0.31, torch 2.14.1 and torchvision 0.29.1 installed: `python timm_vit.py`. torchvision's
compiled operators (which transformers do not use) may not load beside a build of torch, so their registration is
skipped. Without dropout training and prediction are the same function, which the script makes sure of.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from weights import inputs, weight

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import timm
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

SMALL = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 4, "class_token": False}
MODELS = {
    "vit_tiny_patch16_224": lambda: timm.create_model("vit_tiny_patch16_224", img_size=64),
    "vit_base_patch16_224": lambda: timm.create_model("vit_base_patch16_224", img_size=64),
    "average": lambda: VisionTransformer(**SMALL, global_pool="avg"),
    "attention": lambda: VisionTransformer(**SMALL, global_pool="map"),
}

golden = {}
images, labels = inputs()
x, y = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double(), torch.from_numpy(labels)
for name, make in MODELS.items():
    model = make().double()
    model.load_state_dict(
        {key: torch.from_numpy(weight(key, tuple(value.shape))) for key, value in model.state_dict().items()}
    )
    logits = model.eval()(x)
    np.testing.assert_allclose(model.train()(x).detach(), logits.detach(), rtol=1e-12, atol=1e-12)
    torch.nn.functional.cross_entropy(logits, y).backward()
    golden[f"{name}_logits"] = logits.detach().float().numpy()
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters()}
    golden[f"{name}_gradient_names"] = np.array(list(norms))
    golden[f"{name}_gradient_norms"] = np.array(list(norms.values()))

positions = torch.from_numpy(weight("pos_embed", (1, 1 + 5 * 5, 8)))
for rows, columns in ((9, 7), (3, 2)):
    golden[f"positions_{rows}x{columns}"] = resample_abs_pos_embed(positions, [rows, columns]).numpy()
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
