"""The models, weights and data of `peers.py`, in numpy alone: the same for everybody.

A network is written once, over the layers that a library brings: `dense`, `conv`,
`norm` (which make a layer by name), `relu`, `gelu`, `pool`, `mean` and `attention`. No
dropout and no BatchNorm, which libraries define differently.
"""

from typing import Any, NamedTuple

import numpy as np

CLASSES, HEADS, EPSILON, TEMPERATURE, SOFT, RATE = 10, 4, 1e-5, 4.0, 0.9, 1e-3


class Pair(NamedTuple):
    """A teacher and a student whose layers called `feature` are equally wide."""

    kind: str
    teacher: tuple[int, ...]
    student: tuple[int, ...]
    feature: int
    shape: tuple[int, ...]
    batch: int
    steps: int  # in a turn


PAIRS = {
    "mlp": Pair("mlp", (1200, 1200), (256,), 128, (784,), 128, 50),
    "cnn": Pair("cnn", (64, 128), (16, 32), 128, (32, 32, 3), 64, 10),
    "transformer": Pair("transformer", (128,) * 4, (64,) * 2, 128, (32, 16), 32, 10),
}


def quick(pair):
    """A pair small enough to try the programs with."""
    depth = len(pair.student)
    return pair._replace(teacher=(16,) * depth, student=(8,) * depth, batch=8)


def network(net, kind, widths, feature, x):
    """Logits and the feature, which is the output of the layer of that name."""
    x = {"mlp": _mlp, "cnn": _cnn, "transformer": _transformer}[kind](net, widths, x)
    layer = net.conv if kind == "cnn" else net.dense
    found = layer("feature", feature, x)
    hidden = net.relu(found)
    pooled = hidden if kind == "mlp" else net.mean(hidden)
    return net.dense("head", CLASSES, pooled), found


def _mlp(net, widths, x):
    for i, width in enumerate(widths):
        x = net.relu(net.dense(f"dense{i}", width, x))
    return x


def _cnn(net, widths, x):
    for i, width in enumerate(widths):
        x = net.pool(net.relu(net.conv(f"conv{i}", width, x)))
    return x


def _transformer(net, widths, x):
    x = net.dense("embed", widths[0], x)
    for i, width in enumerate(widths):
        qkv = net.dense(f"qkv{i}", 3 * width, net.norm(f"before{i}", x))
        x = x + net.dense(f"out{i}", width, net.attention(qkv))
        y = net.gelu(net.dense(f"up{i}", 4 * width, net.norm(f"between{i}", x)))
        x = x + net.dense(f"down{i}", width, y)
    return x


class _Draw:
    """Layers that draw their weights, and compute nothing but shapes."""

    def __init__(self, seed):
        self.rng, self.weights = np.random.default_rng(seed), {}

    def _layer(self, name, kernel, x):
        fan_in = int(np.prod(kernel[:-1]))
        drawn = self.rng.normal(size=kernel) * (1.5 / fan_in) ** 0.5
        bias = 0.1 * self.rng.normal(size=kernel[-1])
        self.weights[name] = drawn.astype(np.float32), bias.astype(np.float32)
        return np.zeros((*x.shape[:-1], kernel[-1]))

    def dense(self, name, width, x):
        return self._layer(name, (x.shape[-1], width), x)

    def conv(self, name, width, x):
        return self._layer(name, (3, 3, x.shape[-1], width), x)

    def norm(self, name, x):
        scale = np.ones(x.shape[-1], np.float32)
        self.weights[name] = scale, 0 * scale
        return x

    def relu(self, x):
        return x

    gelu = relu

    def pool(self, x):
        return x[:, ::2, ::2]

    def mean(self, x):
        return x.reshape(len(x), -1, x.shape[-1])[:, 0]

    def attention(self, qkv):
        return np.split(qkv, 3, axis=-1)[0]


def weights(pair, widths, seed):
    """`{layer: (kernel or scale, bias)}`; kernels are `[..., inputs, outputs]`."""
    net = _Draw(seed)
    network(net, pair.kind, widths, pair.feature, np.zeros((1, *pair.shape)))
    return net.weights


class Problem(NamedTuple):
    """What a contender is given."""

    pair: Pair
    method: str  # "kd" or "hint"
    image: np.ndarray  # of all batches
    label: np.ndarray
    teacher: dict[str, Any]
    student: dict[str, Any]

    def batch(self, i):
        rows = slice(i * self.pair.batch, (i + 1) * self.pair.batch)
        return {"image": self.image[rows], "label": self.label[rows]}


def make_problem(pair, method, steps):
    rng = np.random.default_rng(0)
    rows = steps * pair.batch
    image = rng.normal(size=(rows, *pair.shape)).astype(np.float32)
    label = rng.integers(0, CLASSES, rows).astype(np.int32)
    teacher, student = weights(pair, pair.teacher, 1), weights(pair, pair.student, 2)
    return Problem(pair, method, image, label, teacher, student)
