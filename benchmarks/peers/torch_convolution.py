"""The layers and steps of benchmarks/convolution.py in PyTorch, timed on demand. Needs torch and numpy alone.

Reads a line of JSON, answers with a line of JSON, until its input ends:

    {"layer": [batch, size, channels, features, kernel, stride, padding]}  makes a convolution
    {"network": "resnet20", "batch": 128, "shape": [28, 28, 1], "parameters": 272186}  makes a training step
    {"time": 3}                                                            seconds of so many of the last one

A layer is forward and both derivatives; a step is that of SGD with Nesterov momentum (fused), zero_grad to None; a
network that has not as many parameters as it was told is refused. Each
is made eager, eager in channels_last, and compiled in channels_last; "time" tells all modes that work.
"""

import torch
from served import serve
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


class DenoisingBlock(nn.Module):
    def __init__(self, before, features, attends):
        super().__init__()
        self.norm1, self.norm2 = group_norm(before), group_norm(features)
        self.conv1, self.conv2 = nn.Conv2d(before, features, 3, 1, 1), nn.Conv2d(features, features, 3, 1, 1)
        self.condition = nn.Linear(4 * WIDTH, features)
        self.shortcut = nn.Identity() if before == features else nn.Conv2d(before, features, 1)
        self.attention = Attention(features) if attends else nn.Identity()

    def forward(self, x, condition):
        y = self.conv1(nn.functional.silu(self.norm1(x))) + self.condition(condition)[:, :, None, None]
        y = self.conv2(nn.functional.silu(self.norm2(y)))
        return self.attention(self.shortcut(x) + y)


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv = group_norm(channels), nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x):
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unsqueeze(1).chunk(3, dim=-1)
        found = self.proj(nn.functional.scaled_dot_product_attention(q, k, v).squeeze(1))
        return x + found.transpose(1, 2).reshape(x.shape)


class DenoisingUNet(nn.Module):
    """The U-Net of the DDPM: two levels more after the first, a block each on the way down, two on the way up."""

    def __init__(self, channels):
        super().__init__()
        widths = [WIDTH, 2 * WIDTH, 2 * WIDTH]
        self.time = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.SiLU(), nn.Linear(4 * WIDTH, 4 * WIDTH))
        self.conv_in = nn.Conv2d(channels, WIDTH, 3, 1, 1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        skips, before = [WIDTH], WIDTH
        for level, features in enumerate(widths):
            self.down.append(DenoisingBlock(before, features, level == 1))
            before = features
            skips.append(features)
            if level < 2:
                self.downsample.append(nn.Conv2d(features, features, 3, 2))
                skips.append(features)
        self.middle = nn.ModuleList([DenoisingBlock(before, before, attends) for attends in (True, False)])
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level in (2, 1, 0):
            for _ in range(2):
                self.up.append(DenoisingBlock(before + skips.pop(), widths[level], level == 1))
                before = widths[level]
            if level:
                self.upsample.append(nn.Conv2d(before, before, 3, 1, 1))
        self.norm_out, self.conv_out = group_norm(before), nn.Conv2d(before, channels, 3, 1, 1)

    def forward(self, x, time):
        angles = 1000 * time[:, None] * 10_000 ** -torch.linspace(0, 1, WIDTH // 2)
        condition = nn.functional.silu(self.time(torch.cat([angles.sin(), angles.cos()], dim=-1)))
        x = self.conv_in(x)
        skips = [x]
        for level, block in enumerate(self.down):
            x = block(x, condition)
            skips.append(x)
            if level < 2:
                x = self.downsample[level](nn.functional.pad(x, (0, 1, 0, 1)))
                skips.append(x)
        for block in self.middle:
            x = block(x, condition)
        for number, block in enumerate(self.up):
            x = block(torch.cat([x, skips.pop()], dim=1), condition)
            if number in (1, 3):
                x = self.upsample[number // 2](nn.functional.interpolate(x, scale_factor=2))
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


WIDTH = 32


class ViT(nn.Module):
    """timm's vit_tiny with patches of 4×4."""

    def __init__(self, channels, size, patch=4, width=192, depth=12, heads=3):
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + (size // patch) ** 2, width))
        self.blocks = nn.Sequential(*[TransformerBlock(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 10)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class TransformerBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(found.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def group_norm(channels):
    return nn.GroupNorm(next(n for n in range(channels // 4, 0, -1) if channels % n == 0 and n <= 32), channels, 1e-6)


def layer_step(batch, size, channels, features, kernel, stride, padding, memory_format):
    x = torch.randn(batch, channels, size, size).to(memory_format=memory_format).requires_grad_()
    conv = nn.Conv2d(channels, features, kernel, stride, padding, bias=False).to(memory_format=memory_format)
    g = torch.randn_like(conv(x))

    def step():
        conv(x).backward(g)
        x.grad = conv.weight.grad = None

    return step


def network_step(name, batch, shape, parameters, memory_format, compiled):
    if name in NETWORKS:
        model = resnet(*NETWORKS[name], shape[2])
    else:
        model = DenoisingUNet(shape[2]) if name == "unet" else ViT(shape[2], shape[0])
    model = model.to(memory_format=memory_format).train()
    assert sum(p.numel() for p in model.parameters()) == parameters
    if compiled:
        model = torch.compile(model)
    x = torch.randn(batch, shape[2], shape[0], shape[1]).to(memory_format=memory_format)
    y = torch.randint(10, (batch,))

    def denoising_loss():
        noise, time = torch.randn_like(x), torch.rand(batch)
        angle = (time * torch.pi / 2)[:, None, None, None]
        return nn.functional.mse_loss(model(angle.cos() * x + angle.sin() * noise, time), noise)

    def classification_loss():
        return nn.functional.cross_entropy(model(x), y)

    loss_of = denoising_loss if name == "unet" else classification_loss
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)

    def step():
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def make(told):
    formats = {"eager": torch.contiguous_format, "channels_last": torch.channels_last}
    if "layer" in told:
        return {name: layer_step(*told["layer"], layout) for name, layout in formats.items()}
    fixed = (told["network"], told["batch"], told["shape"], told["parameters"])
    steps = {name: network_step(*fixed, layout, False) for name, layout in formats.items()}
    return steps | {"compiled": network_step(*fixed, torch.channels_last, True)}


if __name__ == "__main__":
    serve(make)
