"""Models as plain functions, each with its values and its inputs."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxkd import compress


class Case(NamedTuple):
    apply: Any
    variables: Any
    inputs: tuple
    rebuild: Any = None
    only: str = ""  # a pattern: groups whose removal is exact


FOUND = {}  # the groups of each case, which is kept so that its id stays its own


def find(case):
    if id(case) not in FOUND:
        groups = compress.dependency_groups(case.apply, case.variables, *case.inputs)
        FOUND[id(case)] = case, groups
    return FOUND[id(case)][1]


# Numbers of numpy: those of jax.random are one more compilation for each shape.


def noise(shapes, seed=0):
    """Nothing is zero or one: biases and statistics matter. Kernels have both signs."""
    rng = np.random.default_rng(seed)

    def draw(x):
        low = 0.2 if len(x.shape) < 2 else -0.7
        return rng.uniform(low, 0.7, x.shape).astype(x.dtype)

    return jax.tree.map(draw, shapes)


def normal(*shape, seed=0):
    draw = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(draw, jnp.float32)


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


def lstm(p, xs):
    def cell(state, x):
        h, c = state
        z = x @ p["in"] + h @ p["again"] + p["bias"][None]
        i, f, g, o = jnp.split(z, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((xs.shape[1], p["again"].shape[0]))
    (h, _), _ = jax.lax.scan(cell, (zero, zero), xs)
    return h @ p["out"]


def plain_lstm():
    p = {"in": normal(5, 32), "again": normal(8, 32), "bias": normal(32)}
    return Case(lstm, p | {"out": normal(8, 3)}, (normal(6, 2, 5),))


def experts(p, x):
    gates = jax.nn.softmax(x @ p["gate"])
    hidden = jax.nn.relu(jnp.einsum("bd,edf->bef", x, p["up"]))
    return jnp.einsum("bef,efd,be->bd", hidden, p["down"], gates)


def plain_experts():
    p = {"gate": normal(5, 4), "up": normal(4, 5, 8), "down": normal(4, 8, 5)}
    return Case(experts, p, (normal(3, 5),), only="up:2")  # a softmax over experts


def grouped(p, x):
    """Two groups of a convolution, as many as its kernel's inputs say."""
    for name in "abc":
        x = jax.lax.conv_general_dilated(
            jax.nn.relu(x),
            p[name],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1] // p[name].shape[2],
        )
    return x


def plain_grouped():
    p = {"a": normal(3, 3, 3, 16), "b": normal(3, 3, 8, 12), "c": normal(1, 1, 12, 2)}
    return Case(grouped, p, (normal(2, 6, 6, 3),))
