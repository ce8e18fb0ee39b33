"""What a network of torch answers with the weights of `weights.py`: shared by the scripts that make golden files."""

import numpy as np
import torch
from weights import inputs, weight


def answers(model, name):
    """{name_mode_logits, name_mode_gradient_names, name_mode_gradient_norms} in float64, for both modes."""
    images, labels = inputs()
    x, y = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double(), torch.from_numpy(labels)
    model = model.double()
    state = {key: torch.from_numpy(weight(key, tuple(value.shape))) for key, value in model.state_dict().items()
             if not key.endswith("num_batches_tracked")}  # fmt: skip
    golden = {}
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
    return golden
