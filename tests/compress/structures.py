"""Models of many forms, each as a function, its values and its inputs."""

from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
from flax import nnx
from jax import numpy as jnp


class Case(NamedTuple):
    apply: Any
    variables: Any
    inputs: tuple
    rebuild: Any = None
    only: str = ""  # a pattern: groups whose removal is exact


def noise(tree, seed=0):
    """Nothing is zero or one: biases and statistics matter."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    floats = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
    return jax.tree.unflatten(
        treedef,
        [
            0.1 + jax.random.uniform(k, x.shape, x.dtype, 0.1, 0.6) if floats(x) else x
            for k, x in zip(keys, leaves, strict=True)
        ],
    )


def linen(make, x, **sizes):
    """A Linen module, rebuilt for the widths named in `sizes`: field -> axis."""
    module = make()
    variables = noise(module.init(jax.random.key(0), x))

    def rebuild(widths):
        fields = {field: widths[axis] for field, axis in sizes.items()}
        return make(**fields).apply

    return Case(module.apply, variables, (x,), rebuild)


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


# plain functions


def mlp(p, x):
    for w, b in p[:-1]:
        x = jax.nn.sigmoid(x @ w + b[None])
    return x @ p[-1][0]


def plain_mlp():
    p = [(normal(5, 12), normal(12)), (normal(12, 20), normal(20)), (normal(20, 3),)]
    return Case(mlp, p, (normal(2, 5),))


def dense_net(p, x):
    a = jax.nn.relu(x @ p["a"])
    b = jnp.tanh(x @ p["b"])
    x = jnp.concatenate([a, x, b], axis=-1)
    x = (x - p["mean"][None]) * jax.lax.rsqrt(p["var"] + 1e-3)[None]
    gate, value = jnp.split(x @ p["c"], 2, axis=-1)
    return (jax.nn.silu(gate) * value) @ p["d"]


def plain_dense_net():
    p = {"a": normal(5, 8), "b": normal(5, 12), "mean": normal(25)}
    p |= {"var": normal(25) ** 2, "c": normal(25, 16), "d": normal(8, 3)}
    return Case(dense_net, p, (normal(2, 5),))


def group_norm(p, x):
    x = x @ p["up"]
    y = x.reshape(x.shape[0], -1, 4)  # groups of four
    y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + 1e-3)
    return jax.nn.relu(y.reshape(x.shape) * p["scale"][None]) @ p["down"]


def plain_group_norm():
    p = {"up": normal(5, 24), "scale": normal(24), "down": normal(24, 3)}
    return Case(group_norm, p, (normal(2, 5),), only="^((?!').)*$")


def rms_norm(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def rotate(x):
    t, d = x.shape[1], x.shape[-1] // 2
    angle = jnp.arange(t)[:, None] * jnp.exp(-jnp.arange(d) / d)[None]
    cos, sin = (f(angle)[None, :, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    a, b = x[..., :d], x[..., d:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def decoder_block(x, p):
    y = rms_norm(x, p["norm1"])
    q, k, v = (jnp.einsum("btd,dhk->bthk", y, p[n]) for n in ("q", "k", "v"))
    k, v = (jnp.repeat(z, q.shape[2] // k.shape[2], axis=2) for z in (k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", rotate(q), rotate(k))
    t = jnp.arange(x.shape[1])
    scores = jnp.where(t[:, None] >= t, scores, -jnp.inf)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
    x = x + jnp.einsum("bqhd,hdm->bqm", mixed, p["o"])
    y = rms_norm(x, p["norm2"])
    return x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"]


def decoder(p, ids):
    x = p["embed"][ids]
    if isinstance(p["blocks"], list):
        for block in p["blocks"]:
            x = jax.jit(decoder_block)(x, block)
    else:
        step = jax.checkpoint(lambda x, block: (decoder_block(x, block), None))
        x, _ = jax.lax.scan(step, x, p["blocks"])
    return rms_norm(x, p["norm"]) @ p["embed"].T


def plain_decoder(stacked=False, **changes):
    def block(seed):
        shapes = {"q": (16, 4, 6), "k": (16, 2, 6), "v": (16, 2, 6), "o": (4, 6, 16)}
        shapes |= {"gate": (16, 24), "up": (16, 24), "down": (24, 16)}
        shapes |= {"norm1": (16,), "norm2": (16,)}
        return {n: 0.3 * normal(*s, seed=seed) for n, s in shapes.items()}

    blocks = [block(1), block(2)]
    if stacked:
        blocks = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
    p = {"embed": normal(11, 16), "blocks": blocks, "norm": normal(16)}
    # The residual width runs through a norm.
    return Case(decoder, p, (jnp.arange(10).reshape(2, 5),), only=r"/(gate|k|q|v):\d$")


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
    variables = noise(module.init(jax.random.key(0), ids))

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
    graph, state = nnx.split(NnxNet())
    apply = lambda state, x: nnx.merge(graph, state)(x)
    return Case(apply, noise(state), (normal(2, 8, 8, 3),))


def nnx_attention():
    module = nnx.MultiHeadAttention(4, 16, decode=False, rngs=nnx.Rngs(0))
    _, state = nnx.split(module)

    def make(heads=4):
        def apply(state, x):
            new = nnx.MultiHeadAttention(
                heads, 16, 4 * heads, 16, decode=False, rngs=nnx.Rngs(0)
            )
            return nnx.merge(nnx.split(new)[0], state)(x)

        return apply

    rebuild = lambda widths: make(widths["key/kernel:1"])
    return Case(make(), noise(state), (normal(2, 5, 16),), rebuild, "kernel:1$")


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
    arrays, rest = eqx.partition(EquinoxNet(jax.random.key(0)), eqx.is_array)
    apply = lambda arrays, x: jax.vmap(eqx.combine(arrays, rest))(x)
    return Case(apply, noise(arrays), (normal(2, 3, 8, 8),))


CASES = {
    "plain MLP": plain_mlp,
    "plain DenseNet, gated": plain_dense_net,
    "plain GroupNorm": plain_group_norm,
    "plain decoder": plain_decoder,
    "plain decoder, scanned": lambda: plain_decoder(stacked=True),
    "Linen VGG": linen_vgg,
    "Linen ResNet": linen_resnet,
    "Linen MobileNet": linen_mobilenet,
    "Linen encoder": linen_encoder,
    "NNX net": nnx_net,
    "NNX attention": nnx_attention,
    "Equinox net": equinox_net,
}
