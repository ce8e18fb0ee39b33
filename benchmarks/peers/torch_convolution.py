"""The layers and steps of benchmarks/convolution.py in PyTorch, timed on demand. Needs torch and numpy alone.

Reads a line of JSON, answers with a line of JSON, until its input ends:

    {"layer": [batch, size, channels, features, kernel, stride, padding]}  makes a convolution
    {"network": "resnet20", "batch": 128, "shape": [28, 28, 1]}            makes a training step
    {"time": 3}                                                            seconds of so many of the last one

A layer is forward and both derivatives; a step is that of SGD with Nesterov momentum (fused), zero_grad to None. Each
is made eager, eager in channels_last, and compiled in channels_last; "time" tells all modes that work.
"""

import json
import sys
import time

import torch
from torch import nn

NETWORKS = {"resnet20": (16, (3, 3, 3), "pad"), "resnet18": (64, (2, 2, 2, 2), "project")}


class Block(nn.Module):
    def __init__(self, before, features, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(before, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.stride, self.missing = stride, features - before
        self.project = None
        if (stride > 1 or before != features) and shortcut == "project":
            self.project = nn.Sequential(nn.Conv2d(before, features, 1, stride, bias=False), nn.BatchNorm2d(features))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.project is not None:
            x = self.project(x)
        elif self.missing:
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
        return torch.relu(y + x)


def resnet(width, stages, shortcut, channels):
    layers, before = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()], width
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            features = width * 2**stage
            layers.append(Block(before, features, 2 if stage and not block else 1, shortcut))
            before = features
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def layer_step(batch, size, channels, features, kernel, stride, padding, memory_format):
    x = torch.randn(batch, channels, size, size).to(memory_format=memory_format).requires_grad_()
    conv = nn.Conv2d(channels, features, kernel, stride, padding, bias=False).to(memory_format=memory_format)
    g = torch.randn_like(conv(x))

    def step():
        conv(x).backward(g)
        x.grad = conv.weight.grad = None

    return step


def network_step(name, batch, shape, memory_format, compiled):
    model = resnet(*NETWORKS[name], shape[2]).to(memory_format=memory_format).train()
    if compiled:
        model = torch.compile(model)
    x = torch.randn(batch, shape[2], shape[0], shape[1]).to(memory_format=memory_format)
    y = torch.randint(10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)

    def step():
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def main():
    formats = {"eager": torch.contiguous_format, "channels_last": torch.channels_last}
    steps = {}
    for line in sys.stdin:
        told = json.loads(line)
        if "layer" in told:
            steps = {name: layer_step(*told["layer"], layout) for name, layout in formats.items()}
        elif "network" in told:
            fixed = (told["network"], told["batch"], told["shape"])
            steps = {name: network_step(*fixed, layout, False) for name, layout in formats.items()}
            steps["compiled"] = network_step(*fixed, torch.channels_last, True)
        if "time" not in told:
            for name in list(steps):
                try:
                    steps[name]()
                    steps[name]()
                except Exception as error:  # no C++ compiler for inductor, say
                    print(f"{name}: {type(error).__name__}", file=sys.stderr)
                    del steps[name]
            print("{}", flush=True)
            continue
        seconds = {}
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(told["time"]):
                step()
            seconds[name] = (time.perf_counter() - began) / told["time"]
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
