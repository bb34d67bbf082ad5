"""Models of many forms: Linen, NNX, Equinox, and the plain ones."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
from flax import nnx
from jax import numpy as jnp
from structures_plain import (
    Case,
    noise,
    normal,
    plain_decoder,
    plain_dense_net,
    plain_experts,
    plain_group_norm,
    plain_grouped,
    plain_lstm,
    plain_mlp,
)


def linen(make, x, **sizes):
    """A Linen module, rebuilt for the widths named in `sizes`: field -> axis."""
    module = make()
    variables = noise(jax.eval_shape(module.init, jax.random.key(0), x))

    def rebuild(widths):
        fields = {field: widths[axis] for field, axis in sizes.items()}
        return make(**fields).apply

    return Case(module.apply, variables, (x,), rebuild)


# Linen


class VGG(nn.Module):
    widths: tuple = (8, 12)
    hidden: int = 16

    @nn.compact
    def __call__(self, x):
        for width in self.widths:
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(3)(nn.relu(nn.Dense(self.hidden)(x)))


def linen_vgg():
    make = lambda a=8, b=12, hidden=16: VGG((a, b), hidden)
    return linen(
        make,
        normal(2, 8, 8, 3),
        a="params/Conv_0/kernel:3",
        b="params/Conv_1/kernel:3",
        hidden="params/Dense_1/kernel:1",
    )


class ResNet(nn.Module):
    stem: int = 8
    inner: int = 12
    wide: int = 20

    @nn.compact
    def __call__(self, x):
        norm = lambda: nn.BatchNorm(use_running_average=True)
        conv = lambda n, k, s=1: nn.Conv(n, (k, k), (s, s), use_bias=False)
        x = nn.relu(norm()(conv(self.stem, 3)(x)))
        y = nn.relu(norm()(conv(self.inner, 3)(x)))
        x = nn.relu(x + norm()(conv(self.stem, 3)(y)))
        y = norm()(conv(self.wide, 3, 2)(x))
        x = nn.relu(y + norm()(conv(self.wide, 1, 2)(x)))
        return nn.Dense(3)(x.mean(axis=(1, 2)))


def linen_resnet():
    names = {"stem": 0, "inner": 1, "wide": 3}
    names = {k: f"params/Conv_{i}/kernel:3" for k, i in names.items()}
    return linen(lambda **f: ResNet(**f), normal(2, 8, 8, 3), **names)


class MobileNet(nn.Module):
    stem: int = 8
    wide: int = 24
    squeezed: int = 10

    @nn.compact
    def __call__(self, x):
        norm = lambda: nn.BatchNorm(use_running_average=True)
        x = norm()(nn.Conv(self.stem, (3, 3))(x))
        y = nn.relu6(norm()(nn.Conv(self.wide, (1, 1))(x)))
        y = nn.Conv(self.wide, (3, 3), feature_group_count=self.wide)(y)
        y = nn.relu6(norm()(y))
        squeezed = y.mean(axis=(1, 2), keepdims=True)
        squeezed = nn.relu(nn.Dense(self.squeezed)(squeezed))
        y = y * nn.sigmoid(nn.Dense(self.wide)(squeezed))
        x = x + norm()(nn.Conv(self.stem, (1, 1))(y))
        return nn.Dense(3)(nn.avg_pool(x, (8, 8))[:, 0, 0])


def linen_mobilenet():
    names = {"stem": "params/Conv_0/kernel:3", "wide": "params/Conv_1/kernel:3"}
    names["squeezed"] = "params/Dense_0/kernel:1"
    return linen(lambda **f: MobileNet(**f), normal(2, 8, 8, 3), **names)


class Encoder(nn.Module):
    width: int = 16
    heads: tuple = (4, 4)
    hidden: tuple = (24, 24)

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(11, self.width, name="embed")(ids)
        places = self.param("places", nn.initializers.normal(), (7, self.width))
        x = x + places[: ids.shape[1]]
        for i, (heads, hidden) in enumerate(zip(self.heads, self.hidden, strict=True)):
            y = nn.LayerNorm()(x)
            attention = nn.MultiHeadDotProductAttention(
                heads, qkv_features=4 * heads, out_features=self.width, name=f"att{i}"
            )
            x = x + attention(y)
            y = nn.gelu(nn.Dense(hidden, name=f"up{i}")(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width, name=f"down{i}")(y)
        return nn.Dense(3, name="head")(nn.LayerNorm()(x).mean(axis=1))


def linen_encoder():
    module, ids = Encoder(), jnp.arange(10).reshape(2, 5)
    variables = noise(jax.eval_shape(module.init, jax.random.key(0), ids))

    def rebuild(widths):
        return Encoder(
            widths["params/embed/embedding:1"],
            tuple(widths[f"params/att{i}/key/kernel:1"] for i in (0, 1)),
            tuple(widths[f"params/up{i}/kernel:1"] for i in (0, 1)),
        ).apply

    return Case(module.apply, variables, (ids,), rebuild, "key/kernel:1|up")


# NNX and Equinox


class NnxNet(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.conv2 = nnx.Conv(8, 12, (3, 3), strides=2, rngs=rngs)
        self.dense = nnx.Linear(12 * 16, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv1(x)))
        x = nnx.gelu(self.conv2(x))
        return self.dense(x.reshape(x.shape[0], -1))


def nnx_net():
    graph, state = nnx.split(nnx.eval_shape(NnxNet))
    apply = lambda state, x: nnx.merge(graph, state)(x)
    return Case(apply, noise(state), (normal(2, 8, 8, 3),))


def nnx_attention():
    def make(heads=4):
        new = lambda: nnx.MultiHeadAttention(
            heads, 16, 4 * heads, 16, decode=False, rngs=nnx.Rngs(0)
        )
        graph, state = nnx.split(nnx.eval_shape(new))
        return lambda state, x: nnx.merge(graph, state)(x), state

    apply, state = make()
    rebuild = lambda widths: make(widths["key/kernel:1"])[0]
    return Case(apply, noise(state), (normal(2, 5, 16),), rebuild, "kernel:1$")


class EquinoxNet(eqx.Module):
    conv: eqx.nn.Conv2d
    body: eqx.nn.MLP

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(3, 8, 3, padding=1, key=a)
        self.body = eqx.nn.MLP(8 * 16, 3, 12, 2, key=b)

    def __call__(self, x):
        x = jax.nn.relu(self.conv(x))
        return self.body(eqx.nn.MaxPool2d(2, 2)(x).ravel())


def equinox_net():
    net = eqx.filter_eval_shape(EquinoxNet, jax.random.key(0))
    arrays, rest = eqx.partition(net, lambda x: isinstance(x, jax.ShapeDtypeStruct))
    apply = lambda arrays, x: jax.vmap(eqx.combine(arrays, rest))(x)
    return Case(apply, noise(arrays), (normal(2, 3, 8, 8),))


MAKERS = {
    "plain MLP": plain_mlp,
    "plain DenseNet, gated": plain_dense_net,
    "plain GroupNorm": plain_group_norm,
    "plain decoder": plain_decoder,
    "plain decoder, scanned": lambda: plain_decoder(stacked=True),
    "plain LSTM, scanned": plain_lstm,
    "plain experts": plain_experts,
    "plain grouped convolution": plain_grouped,
    "Linen VGG": linen_vgg,
    "Linen ResNet": linen_resnet,
    "Linen MobileNet": linen_mobilenet,
    "Linen encoder": linen_encoder,
    "NNX net": nnx_net,
    "NNX attention": nnx_attention,
    "Equinox net": equinox_net,
}

# Made once.
CASES = {name: functools.cache(make) for name, make in MAKERS.items()}
