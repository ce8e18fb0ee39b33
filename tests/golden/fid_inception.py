"""Makes fid_inception.npz: what pytorch-fid's network answers in float64 with the weights of `weights.py`.

Of images that are enlarged along one axis and shrunk along the other: features and logits, in training too, and there
the norms of the gradients of every weight. Besides, the names and shapes of the published weights.

Run by hand, with torch 2.13.0 (CPU), torchvision 0.29.1 and pytorch-fid 0.3.0 installed: `python fid_inception.py`.
The published weights are not fetched: where pytorch-fid would load them, it gets those by rule. For torchvision's
operators see `torchvision_alexnet.py`.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from weights import weight

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
import torchvision
from pytorch_fid import inception


def images(count, height, width):
    """[count, height, width, 3] uint8: waves, and noise that a filter would take away."""
    rng = np.random.default_rng(height)
    rows, columns = np.meshgrid(np.arange(height) / 20, np.arange(width) / 20, indexing="ij")
    waves = [np.sin(a * rows + b * columns) for a, b in rng.uniform(0.3, 2, (count * 3, 2))]
    waves = np.reshape(waves, (count, 3, height, width)).transpose(0, 2, 3, 1)
    return np.clip(128 + 80 * waves + 40 * rng.standard_normal(waves.shape), 0, 255).astype(np.uint8)


VARIANCE = 0.4
"""Times the variances of `weights.py`: with those what an image tells fades to 1e-4 of the features, with these it is
a twentieth of them."""


def by_rule(*_, **__):
    shapes = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False).state_dict()
    state = {key: value if key.endswith("num_batches_tracked") else torch.from_numpy(weight(key, tuple(value.shape)))
             for key, value in shapes.items()}  # fmt: skip
    return {key: value * VARIANCE if key.endswith("running_var") else value for key, value in state.items()}


if __name__ == "__main__":
    inception.load_state_dict_from_url = by_rule
    classifier = inception.fid_inception_v3().double()
    inception.fid_inception_v3 = lambda: classifier
    network = inception.InceptionV3(requires_grad=True)  # as its `fid_score` makes it, but for the gradient
    golden = {"names": np.array(sorted(
        f"{key} {tuple(value.shape)}" for key, value in by_rule().items() if not key.endswith("num_batches_tracked")
    ))}  # fmt: skip
    given = images(2, 24, 450)
    # ToTensor scales bytes so, in float32; here nothing is rounded.
    x = torch.from_numpy(given.transpose(0, 3, 1, 2).copy()).double() / 255
    for mode in ("train", "eval"):
        classifier.load_state_dict(by_rule())  # training moves the running averages
        network.train(mode == "train")
        features = network(x)[0][:, :, 0, 0]
        logits = classifier.fc(features)
        if mode == "train":
            torch.nn.functional.cross_entropy(logits, torch.tensor([3, 141])).backward()
        golden[f"{mode}_features"] = features.detach().float().numpy()
        golden[f"{mode}_logits"] = logits.detach().float().numpy()
    norms = {key: float(p.grad.norm()) for key, p in classifier.named_parameters()}
    golden |= {
        "images": given,
        "gradient_names": np.array(list(norms)),
        "gradient_norms": np.array(list(norms.values())),
    }
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
