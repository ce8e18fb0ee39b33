"""Makes diffusers_unet.npz: what diffusers' UNet2DModel answers, in float64, with the weights of `weights.py`.

Run by hand, with diffusers 0.42.1, torch 2.13.0 (CPU) and torchvision 0.29.1 installed: `python diffusers_unet.py`.
torchvision's compiled operators (which this network does not use) do not load beside a CPU build of torch, so their
registration is skipped. `ddpm` is the architecture of the published google/ddpm-cifar10-32, here in small; of the full
one the names and shapes of all weights are kept.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from noisy_images import noisy_images
from weights import weight

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
from diffusers import UNet2DModel

DDPM = {"flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0, "norm_eps": 1e-6}
FULL = DDPM | {
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": None,
}
SMALL = DDPM | {"in_channels": 4, "out_channels": 4, "norm_num_groups": 8}
MODELS = {
    "ddpm": SMALL | {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": None,
    },
    "options": SMALL | {
        "out_channels": 8,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 16,
        "attn_norm_num_groups": 8,
        "resnet_time_scale_shift": "scale_shift",
        "num_class_embeds": 6,
    },
}  # fmt: skip

golden = {}
images, steps, labels, noise = map(torch.from_numpy, noisy_images())
for name, config in MODELS.items():
    model = UNet2DModel(**config).double().eval()
    model.load_state_dict(
        {key: torch.from_numpy(weight(key, tuple(value.shape))) for key, value in model.state_dict().items()}
    )
    classes = labels if "num_class_embeds" in config else None
    y = model(images.double().permute(0, 3, 1, 2), steps, classes).sample.permute(0, 2, 3, 1)
    ((y - noise[..., : y.shape[-1]]) ** 2).mean().backward()
    golden[f"{name}_output"] = y.detach().float().numpy()
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters()}
    golden[f"{name}_gradient_names"] = np.array(list(norms))
    golden[f"{name}_gradient_norms"] = np.array(list(norms.values()))

with torch.device("meta"):
    full = UNet2DModel(**FULL)
golden["ddpm_cifar10"] = np.array([f"{key} {tuple(x.shape)}" for key, x in sorted(full.state_dict().items())])
np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
