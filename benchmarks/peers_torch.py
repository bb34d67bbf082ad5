"""The contender of `peers.py` that is torchdistill: its loss, in a plain loop."""

import importlib
from typing import Any

import numpy as np
from peers_models import EPSILON, HEADS, RATE, SOFT, TEMPERATURE, network

torch: Any = importlib.import_module("torch")
mid_level: Any = importlib.import_module("torchdistill.losses.mid_level")
nn, functional = torch.nn, torch.nn.functional


def _layer(a):
    """A layer of the shape of numpy weights; torch's kernels have outputs first."""
    if a.ndim == 1:
        return nn.LayerNorm(len(a), eps=EPSILON), a
    if a.ndim == 4:
        return nn.Conv2d(*a.shape[2:], 3, padding=1), a.transpose(3, 2, 0, 1)
    return nn.Linear(*a.shape), a.T


class Network(nn.Module):
    """Layers of torch, and the network of them."""

    def __init__(self, pair, widths, weights):
        super().__init__()
        self.kind, self.widths, self.wide = pair.kind, widths, pair.feature
        for name, (a, b) in weights.items():
            layer, kernel = _layer(a)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
                layer.bias.copy_(torch.from_numpy(b))
            self.add_module(name, layer)

    def dense(self, name, width, x):
        return self.get_submodule(name)(x)

    conv = dense

    def norm(self, name, x):
        return self.get_submodule(name)(x)

    def relu(self, x):
        return functional.relu(x)

    def gelu(self, x):
        return functional.gelu(x, approximate="tanh")

    def pool(self, x):
        return functional.max_pool2d(x, 2)

    def mean(self, x):
        return x.mean((2, 3) if x.ndim == 4 else 1)

    def attention(self, qkv):
        batch, length, width = qkv.shape
        qkv = qkv.view(batch, length, 3, HEADS, width // 3 // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        mixed = scores.softmax(-1) @ v
        return mixed.transpose(1, 2).reshape(batch, length, width // 3)

    def forward(self, x):
        return network(self, self.kind, self.widths, self.wide, x)[0]


def build(problem):
    """A plain loop, with a hook for the feature; images are channels-last."""
    pair = problem.pair
    memory = torch.channels_last if pair.kind == "cnn" else torch.contiguous_format
    teacher = Network(pair, pair.teacher, problem.teacher).to(memory_format=memory)
    student = Network(pair, pair.student, problem.student).to(memory_format=memory)

    def batch(i):
        arrays = problem.batch(i)
        x, y = torch.from_numpy(arrays["image"]), torch.from_numpy(arrays["label"])
        return x.permute(0, 3, 1, 2) if pair.kind == "cnn" else x, y.long()

    loss: Any = None
    # begin
    kept: dict[str, Any] = {}
    if problem.method == "hint":
        student.feature.register_forward_hook(lambda m, x, out: kept.update(ours=out))
        teacher.feature.register_forward_hook(lambda m, x, out: kept.update(theirs=out))
    kd = mid_level.KDLoss(
        "head", "output", "head", "output", temperature=TEMPERATURE, alpha=1 - SOFT
    )
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    teacher.eval()

    def train(start, stop):
        nonlocal loss
        for i in range(start, stop):
            x, y = batch(i)
            logits = student(x)
            with torch.no_grad():
                followed = teacher(x)
            if problem.method == "kd":
                ours, theirs = {"output": logits}, {"output": followed}
                loss = kd({"head": ours}, {"head": theirs}, y)
            else:
                soft = functional.mse_loss(kept["ours"], kept["theirs"])
                loss = SOFT * soft + (1 - SOFT) * functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    # end
    return train
