"""The runs of benchmarks/population.py in PyTorch, one after another. Needs torch and numpy alone.

    python torch_runs.py EXAMPLES.npz '{"model": "mlp", "steps": 190, "rates": […], "seeds": 4, "batch": 64}'

The step is written as a PyTorch user would: data on the device, one permutation an epoch, SGD with Nesterov momentum
(the fused implementation), zero_grad to None. Eager and torch.compile, with one thread and with all, are timed on a
short run first; the fastest does the work. Prints a line of JSON.
"""

import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn


def model_of(kind, shape):
    height, width, channels = shape
    if kind == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(height * width * channels, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )
    pooled = (height // 4) * (width // 4) * 32
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(pooled, 10),
    )


def train(kind, images, labels, rate, seed, steps, batch, compiled):
    torch.manual_seed(seed)
    model = model_of(kind, (*images.shape[2:], images.shape[1]))
    if compiled:
        model = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    order, place = torch.randperm(len(images)), 0
    for _ in range(steps):
        if place + batch > len(images):
            order, place = torch.randperm(len(images)), 0
        rows = order[place : place + batch]
        place += batch
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def main():
    examples, task = np.load(sys.argv[1]), json.loads(sys.argv[2])
    pixels = examples["image"].astype(np.float32) / 255
    images = torch.from_numpy((pixels.transpose(0, 3, 1, 2) - pixels.mean()) / pixels.std()).contiguous()
    labels = torch.from_numpy(examples["label"].astype(np.int64))
    fixed = (task["model"], images, labels)
    modes = {}
    for threads in sorted({1, os.cpu_count()}):
        for compiled in (False, True):
            torch.set_num_threads(threads)
            try:
                train(*fixed, 0.01, 0, 3, task["batch"], compiled)
                began = time.perf_counter()
                train(*fixed, 0.01, 0, 100, task["batch"], compiled)
                modes[threads, compiled] = time.perf_counter() - began
            except Exception as error:  # no C++ compiler for inductor, say
                print(f"threads {threads}, compiled {compiled}: {type(error).__name__}", file=sys.stderr)
    threads, compiled = min(modes, key=modes.get)
    torch.set_num_threads(threads)
    began = time.perf_counter()
    for rate in task["rates"]:
        for seed in range(task["seeds"]):
            train(*fixed, rate, seed, task["steps"], task["batch"], compiled)
    seconds = time.perf_counter() - began
    mode = f"{'compiled' if compiled else 'eager'}, {threads} threads"
    print(json.dumps({"seconds": seconds, "mode": mode}))


if __name__ == "__main__":
    main()
