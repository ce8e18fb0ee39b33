"""Makes torchvision_boxes.npz: what torchvision answers on overlaps of boxes, their losses and the focal loss.

Overlaps and losses, with their gradients, are in float64; the kept boxes of nms are indices.

Run by hand, with torch 2.14.1 and torchvision 0.29.1 installed: `python torchvision_boxes.py`.
"""

from pathlib import Path

import numpy as np
import torch
from torchvision import ops

rng = np.random.default_rng(0)


def random_boxes(*shape, size=64.0):
    """Corners [..., 4] of boxes with sides up to half of the image."""
    corners = rng.uniform(0, size, (*shape, 2))
    return np.concatenate([corners, corners + rng.uniform(1, size / 2, (*shape, 2))], -1).astype(np.float32)


golden = {"boxes": random_boxes(12), "others": random_boxes(12)}
golden["others"][:3] = golden["boxes"][:3] + rng.uniform(0.1, 1, (3, 4)).astype(np.float32)  # that nearly agree
boxes, others = (torch.from_numpy(golden[name]).double() for name in ("boxes", "others"))
pairs = {
    "iou": (ops.box_iou, None),
    "giou": (ops.generalized_box_iou, ops.generalized_box_iou_loss),
    "diou": (ops.distance_box_iou, ops.distance_box_iou_loss),
    "ciou": (ops.complete_box_iou, ops.complete_box_iou_loss),
}
for name, (overlap, loss) in pairs.items():
    golden[f"{name}_pairwise"] = overlap(boxes, others).numpy()
    if loss is not None:
        variable = boxes.clone().requires_grad_()
        values = loss(variable, others, eps=0.0 if name != "ciou" else 1e-7)
        values.sum().backward()
        golden[f"{name}_loss"], golden[f"{name}_gradient"] = values.detach().numpy(), variable.grad.numpy()

# Detections on whole pixels, so that many overlaps are equal to a threshold; scores are distinct or in many ties.
corners = rng.integers(0, 48, (300, 2))
golden["detections"] = np.concatenate([corners, corners + rng.integers(0, 17, (300, 2))], -1).astype(np.float32)
golden["labels"] = rng.integers(0, 4, 300).astype(np.int32)
golden["scores"] = (1 + rng.permutation(300)).astype(np.float32) / 300
golden["tied_scores"] = rng.integers(1, 8, 300).astype(np.float32) / 8
detections, labels = torch.from_numpy(golden["detections"]), torch.from_numpy(golden["labels"])
for scores in ("scores", "tied_scores"):
    for threshold in (0.25, 0.5):  # that float32 holds exactly: torchvision compares with a double
        values = torch.from_numpy(golden[scores])
        golden[f"nms_{scores}_{threshold}"] = ops.nms(detections, values, threshold).numpy()
        golden[f"batched_nms_{scores}_{threshold}"] = ops.batched_nms(detections, values, labels, threshold).numpy()

golden["focal_logits"] = rng.normal(0, 3, (4, 7))
golden["focal_targets"] = rng.integers(0, 2, (4, 7)).astype(np.float64)
for alpha, gamma in ((0.25, 2.0), (0.6, 0.5), (-1.0, 2.0)):
    variable = torch.from_numpy(golden["focal_logits"]).requires_grad_()
    values = ops.sigmoid_focal_loss(variable, torch.from_numpy(golden["focal_targets"]), alpha=alpha, gamma=gamma)
    values.sum().backward()
    golden[f"focal_{alpha}_{gamma}"] = values.detach().numpy()
    golden[f"focal_gradient_{alpha}_{gamma}"] = variable.grad.numpy()

np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
