"""Makes dit.npz: what the authors' DiT answers, in float64, with the weights of `weights.py`.

The reference is models.py of https://github.com/facebookresearch/DiT at ed81ce2229091fd4ecc9a223645f95cf379d582b, whose
licence (CC BY-NC 4.0) does not let its code stand here: get the file, and run this by hand with torch 2.13.0 (CPU),
timm 1.0.31 and torchvision 0.29.1 installed: `python dit.py PATH_OF_MODELS_PY`. torchvision's compiled operators (which
transformers do not use) do not load beside a CPU build of torch, so their registration is skipped.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch
from noisy_images import noisy_images
from weights import weight

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
spec = importlib.util.spec_from_file_location("authors", sys.argv[1])
authors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(authors)

SMALL = {"input_size": 16, "in_channels": 4, "hidden_size": 64, "depth": 2, "num_heads": 4, "num_classes": 5}
MODELS = {"patch2": SMALL | {"patch_size": 2}, "patch4": SMALL | {"patch_size": 4, "learn_sigma": False}}

golden = {}
images, steps, labels, noise = map(torch.from_numpy, noisy_images())
for name, config in MODELS.items():
    model = authors.DiT(**config).eval()
    positions = model.state_dict()["pos_embed"]
    golden[f"{name}_positions"] = positions.numpy()
    model = model.double()
    model.load_state_dict(
        {key: torch.from_numpy(weight(key, tuple(value.shape))) for key, value in model.state_dict().items()}
        | {"pos_embed": positions}
    )
    # The time's sinusoids are float32.
    model.t_embedder.mlp.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    y = model(images.double().permute(0, 3, 1, 2), steps, labels).permute(0, 2, 3, 1)
    ((y - noise[..., : y.shape[-1]]) ** 2).mean().backward()
    golden[f"{name}_output"] = y.detach().float().numpy()
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters() if key != "pos_embed"}
    golden[f"{name}_gradient_names"] = np.array(list(norms))
    golden[f"{name}_gradient_norms"] = np.array(list(norms.values()))

sizes = {"small": "S", "base": "B", "large": "L", "xlarge": "XL"}
with torch.device("meta"):  # but positions are numpy's
    authors.DiT.initialize_weights = lambda _: None
    for size, letter in sizes.items():
        for patch in (2, 4, 8):
            published = getattr(authors, f"DiT_{letter}_{patch}")()
            golden[f"{size}_patch{patch}"] = np.array(
                [f"{key} {tuple(x.shape)}" for key, x in sorted(published.state_dict().items())]
            )
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
