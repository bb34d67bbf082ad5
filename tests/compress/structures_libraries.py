"""Four libraries under one set of words, so that one model is written for all.

Layers are made when a model first runs, with the widths it then sees; afterwards they
are the library's own, with whatever those fix.
"""

import equinox as eqx
import flax.linen as nn
import jax
from flax import nnx
from jax import numpy as jnp
from structures_plain import Case, noise

# Layers of which the widths are numbers of heads, and how wide a head is.
HEADS, HEAD = ("attention", "q", "k", "v"), 6


class Words:
    """Layers by name on batches, channels last."""

    def __init__(self, layers=None):
        self.layers = {} if layers is None else layers

    def layer(self, name, make):
        if name not in self.layers:
            self.layers[name] = make()
        return self.layers[name]

    def pool(self, x):
        return nn.max_pool(x, (2, 2), (2, 2))

    def flat(self, x):
        return x.reshape(x.shape[0], -1)

    def mean(self, x):
        return x.mean((1, 2))

    def scale(self, x, s):
        return x * s[:, None, None]


class LinenWords(Words):
    def dense(self, name, x, n, bias=True):
        return nn.Dense(n, bias, name=name)(x)

    def conv(self, name, x, n, size=3, stride=1, groups=1):
        return nn.Conv(n, (size, size), stride, feature_group_count=groups, name=name)(
            x
        )

    def norm(self, name, x):
        return nn.BatchNorm(use_running_average=True, name=name)(x)

    def layer_norm(self, name, x):
        return nn.LayerNorm(name=name)(x)

    def embed(self, name, ids, vocabulary, n):
        self.layers[name] = nn.Embed(vocabulary, n, name=name)
        return self.layers[name](ids)

    def attend(self, name, x):
        return self.layers[name].attend(x)

    def attention(self, name, x, heads):
        return nn.MultiHeadDotProductAttention(
            heads, qkv_features=heads * HEAD, out_features=x.shape[-1], name=name
        )(x)

    def heads(self, name, x, heads):
        return nn.DenseGeneral((heads, HEAD), name=name)(x)

    def merge(self, name, x, n):
        return nn.DenseGeneral(n, axis=(-2, -1), name=name)(x)


def linen(model, x, widths):
    class Net(nn.Module):
        widths: dict

        @nn.compact
        def __call__(self, x):
            return model(LinenWords(), x, self.widths)

    variables = noise(jax.eval_shape(Net(widths).init, jax.random.key(0), x))
    rebuild = lambda lengths: Net(read(lengths, widths, "params/")).apply
    return Case(Net(widths).apply, variables, (x,), rebuild)


class NnxWords(Words):
    def dense(self, name, x, n, bias=True):
        make = lambda: nnx.Linear(x.shape[-1], n, use_bias=bias, rngs=nnx.Rngs(0))
        return self.layer(name, make)(x)

    def conv(self, name, x, n, size=3, stride=1, groups=1):
        make = lambda: nnx.Conv(
            x.shape[-1],
            n,
            (size, size),
            stride,
            feature_group_count=groups,
            rngs=nnx.Rngs(0),
        )
        return self.layer(name, make)(x)

    def norm(self, name, x):
        make = lambda: nnx.BatchNorm(
            x.shape[-1], use_running_average=True, rngs=nnx.Rngs(0)
        )
        return self.layer(name, make)(x)

    def layer_norm(self, name, x):
        return self.layer(name, lambda: nnx.LayerNorm(x.shape[-1], rngs=nnx.Rngs(0)))(x)

    def embed(self, name, ids, vocabulary, n):
        return self.layer(name, lambda: nnx.Embed(vocabulary, n, rngs=nnx.Rngs(0)))(ids)

    def attend(self, name, x):
        return self.layers[name].attend(x)

    def attention(self, name, x, heads):
        n = x.shape[-1]
        make = lambda: nnx.MultiHeadAttention(
            heads, n, heads * HEAD, n, decode=False, rngs=nnx.Rngs(0)
        )
        return self.layer(name, make)(x)

    def heads(self, name, x, heads):
        make = lambda: nnx.LinearGeneral(x.shape[-1], (heads, HEAD), rngs=nnx.Rngs(0))
        return self.layer(name, make)(x)

    def merge(self, name, x, n):
        make = lambda: nnx.LinearGeneral(
            x.shape[-2:], n, axis=(-2, -1), rngs=nnx.Rngs(0)
        )
        return self.layer(name, make)(x)


def nnx_of(model, x, widths):
    def make(widths):
        def new():
            words = NnxWords()
            model(words, jnp.zeros(x.shape, x.dtype), widths)
            return nnx.Dict(words.layers)

        graph, state = nnx.split(nnx.eval_shape(new))
        merged = lambda state: NnxWords(nnx.merge(graph, state))
        return lambda state, x: model(merged(state), x, widths), state

    apply, state = make(widths)
    rebuild = lambda lengths: make(read(lengths, widths))[0]
    return Case(apply, noise(state), (x,), rebuild)


class EquinoxWords(Words):
    """On single examples, channels first."""

    key = jax.random.key(0)
    state = None

    def each(self, layer, x, axes=1):
        for _ in range(x.ndim - axes):
            layer = jax.vmap(layer)
        return layer(x)

    def dense(self, name, x, n, bias=True):
        make = lambda: eqx.nn.Linear(x.shape[-1], n, bias, key=self.key)
        return self.each(self.layer(name, make), x)

    def conv(self, name, x, n, size=3, stride=1, groups=1):
        make = lambda: eqx.nn.Conv2d(
            len(x), n, size, stride, size // 2, groups=groups, key=self.key
        )
        return self.layer(name, make)(x)

    def norm(self, name, x):
        make = lambda: eqx.nn.BatchNorm(len(x), "batch", mode="ema")
        layer = self.layer(name, make)
        return x if self.state is None else layer(x, self.state, inference=True)[0]

    def layer_norm(self, name, x):
        return self.each(self.layer(name, lambda: eqx.nn.LayerNorm(x.shape[-1])), x)

    def embed(self, name, ids, vocabulary, n):
        make = lambda: eqx.nn.Embedding(vocabulary, n, key=self.key)
        return self.each(self.layer(name, make), ids, 0)

    def attend(self, name, x):
        return x @ self.layers[name].weight.T

    def attention(self, name, x, heads):
        n = x.shape[-1]
        make = lambda: eqx.nn.MultiheadAttention(
            heads, n, qk_size=HEAD, vo_size=HEAD, key=self.key
        )
        return self.layer(name, make)(x, x, x)

    def heads(self, name, x, heads):
        y = self.dense(name, x, heads * HEAD)
        return y.reshape(*y.shape[:-1], heads, -1)

    def merge(self, name, x, n):
        return self.dense(name, x.reshape(*x.shape[:-2], -1), n)

    def pool(self, x):
        return eqx.nn.MaxPool2d(2, 2)(x)

    def flat(self, x):
        return x.ravel()

    def mean(self, x):
        return x.mean((1, 2))

    def scale(self, x, s):
        return x * s[:, None, None]


def equinox(model, x, widths):
    x = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x

    def heads_of(found):  # its arrays have heads and their width on one axis
        return {k: n // HEAD if k in HEADS else n for k, n in found.items()}

    def make(widths):
        def new():
            words = EquinoxWords()
            model(words, jnp.zeros(x.shape[1:], x.dtype), widths)
            state = eqx.nn.State(words.layers)
            return {"layers": eqx.nn.delete_init_state(words.layers), "state": state}

        is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
        arrays, rest = eqx.partition(eqx.filter_eval_shape(new), is_shape)
        structure = jax.tree.structure(arrays)

        def apply(arrays, x):
            # Modules hold their widths beside the arrays: take those of these widths.
            arrays = jax.tree.unflatten(structure, jax.tree.leaves(arrays))
            whole = eqx.combine(arrays, rest)
            words = EquinoxWords(whole["layers"])
            words.state = whole["state"]
            return jax.vmap(lambda one: model(words, one, widths))(x)

        return apply, arrays

    apply, arrays = make(widths)
    rebuild = lambda lengths: make(heads_of(read(lengths, widths, "layers/")))[0]
    return Case(apply, noise(arrays), (x,), rebuild)


class PlainWords(Words):
    """Sums and products alone; no width is written anywhere but in the arrays."""

    def array(self, name, *shape):
        return self.layer(name, lambda: jnp.zeros(shape))

    def dense(self, name, x, n, bias=True):
        y = x @ self.array(f"{name}/kernel", x.shape[-1], n)
        return y + self.array(f"{name}/bias", n) if bias else y

    def conv(self, name, x, n, size=3, stride=1, groups=1):
        kernel = self.array(f"{name}/kernel", size, size, x.shape[-1] // groups, n)
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1] // kernel.shape[2],
        )

    def norm(self, name, x):
        scale, bias, mean, var = (
            self.array(f"{name}/{part}", x.shape[-1])
            for part in ("scale", "bias", "mean", "var")
        )
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + bias

    def layer_norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
        return x * self.array(f"{name}/scale", x.shape[-1])

    def embed(self, name, ids, vocabulary, n):
        return self.array(f"{name}/table", vocabulary, n)[ids]

    def attend(self, name, x):
        return x @ self.layers[f"{name}/table"].T

    def attention(self, name, x, heads):
        q, k, v = (self.heads(f"{name}/{part}", x, heads) for part in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / HEAD**0.5)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.merge(f"{name}/out", mixed, x.shape[-1])

    def heads(self, name, x, heads):
        kernel = self.array(f"{name}/kernel", x.shape[-1], heads, HEAD)
        return jnp.einsum("btd,dhk->bthk", x, kernel)

    def merge(self, name, x, n):
        kernel = self.array(f"{name}/kernel", *x.shape[-2:], n)
        return jnp.einsum("bthk,hkd->btd", x, kernel)


def plain(model, x, widths):
    def new():
        words = PlainWords()
        model(words, jnp.zeros(x.shape, x.dtype), widths)
        return words.layers

    apply = lambda layers, x: model(PlainWords(dict(layers)), x, widths)
    return Case(apply, noise(jax.eval_shape(new)), (x,))


def read(lengths, widths, prefix=""):
    """The model's own widths, out of the lengths of the axes of its arrays."""
    layers = (
        "{}/kernel:3",  # convolutions
        "{}/kernel:1",  # dense ones, and heads
        "{}/key/kernel:1",
        "{}/weight:0",  # Equinox
        "{}/key_proj/weight:0",
    )
    paths = {name: [prefix + layer.format(name) for layer in layers] for name in widths}
    return {
        name: next(filter(None, map(lengths.get, at))) for name, at in paths.items()
    }


LIBRARIES = {"Linen": linen, "NNX": nnx_of, "Equinox": equinox, "plain": plain}
