"""Makes google_vit.npz: what timm's vision transformer answers that has loaded Google's layout of weights, in float64.

Run by hand, with timm 1.0.31, torch 2.14.1 and torchvision 0.29.1 installed: `python google_vit.py`. The arrays are
made by a rule (`by_rule`) from their names and shapes in Google's files, and timm's own loader reads them. So the
mapping of names and axes is timm's, and the test's side makes the same file anew.
"""

import sys
import tempfile
import types
import zlib
from pathlib import Path

import numpy as np
from weights import inputs

WIDTH, DEPTH, HEADS, PATCH, SIZE, CLASSES = 48, 2, 3, 16, 64, 10
LAYOUTS = ("vision_transformer", "opt/target", "big_vision", "scan")


def google_arrays(layout):
    """Name -> array of a file of Google's: of vision_transformer, or of big_vision, whose blocks scan may stack."""
    old = layout in ("vision_transformer", "opt/target")
    root = {"vision_transformer": "", "opt/target": "opt/target/"}.get(layout, "params/")
    norm, attention, mlp = ("LayerNorm_2", 1, 3) if old else ("LayerNorm_1", 0, 0)
    heads = (HEADS, WIDTH // HEADS)
    positions = "Transformer/posembed_input/pos_embedding" if old else "pos_embedding"
    shapes = {
        "embedding/kernel": (PATCH, PATCH, 3, WIDTH),
        "embedding/bias": (WIDTH,),
        "cls": (1, 1, WIDTH),
        positions: (1, 1 + (SIZE // PATCH) ** 2, WIDTH),
        "Transformer/encoder_norm/scale": (WIDTH,),
        "Transformer/encoder_norm/bias": (WIDTH,),
        "head/kernel": (WIDTH, CLASSES),
        "head/bias": (CLASSES,),
    }
    parts = {f"{name}/{leaf}": (WIDTH,) for name in ("LayerNorm_0", norm) for leaf in ("scale", "bias")}
    for name in ("query", "key", "value"):
        parts[f"MultiHeadDotProductAttention_{attention}/{name}/kernel"] = (WIDTH, *heads)
        parts[f"MultiHeadDotProductAttention_{attention}/{name}/bias"] = heads
    parts[f"MultiHeadDotProductAttention_{attention}/out/kernel"] = (*heads, WIDTH)
    parts[f"MultiHeadDotProductAttention_{attention}/out/bias"] = (WIDTH,)
    for number, (ins, outs) in enumerate(((WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))):
        parts[f"MlpBlock_{mlp}/Dense_{number}/kernel"] = (ins, outs)
        parts[f"MlpBlock_{mlp}/Dense_{number}/bias"] = (outs,)
    if layout == "scan":
        shapes |= {f"Transformer/encoderblock/{name}": (DEPTH, *shape) for name, shape in parts.items()}
    else:
        shapes |= {f"Transformer/encoderblock_{i}/{name}": s for i in range(DEPTH) for name, s in parts.items()}
    return {f"{root}{name}": by_rule(name, shape) for name, shape in shapes.items()}


def by_rule(name, shape):
    """An array of the size of a trained one, made of its name and shape alone."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return (0.1 * noise + name.endswith("scale")).astype(np.float32)


if __name__ == "__main__":
    import torch

    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    from timm.models.vision_transformer import VisionTransformer

    images, _ = inputs()
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double()
    golden = {}
    for layout in LAYOUTS:
        model = VisionTransformer(
            img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=CLASSES
        )
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder) / "vit.npz", **google_arrays(layout))
            model.load_pretrained(str(Path(folder) / "vit.npz"))
        golden[layout.replace("/", "_")] = model.double().eval()(x).detach().float().numpy()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
