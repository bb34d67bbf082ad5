"""The families of models of which units are removed, for all libraries."""

import functools

import jax
from jax import numpy as jnp
from structures_libraries import LIBRARIES
from structures_plain import normal


def mlp(words, x, w):
    for name in ("one", "two"):
        x = jax.nn.sigmoid(words.dense(name, x, w[name]))
    return words.dense("out", x, 3)


def vgg(words, x, w):
    for name in ("first", "second"):
        x = words.pool(jax.nn.relu(words.conv(name, x, w[name])))
    x = jax.nn.relu(words.dense("hidden", words.flat(x), w["hidden"]))
    return words.dense("out", x, 3)


def resnet(words, x, w):
    layer = lambda name, x, n, *rest: words.norm(
        f"{name}_norm", words.conv(name, x, n, *rest)
    )
    x = jax.nn.relu(layer("stem", x, w["stem"]))
    y = jax.nn.relu(layer("inner", x, w["inner"]))
    x = jax.nn.relu(x + layer("back", y, w["stem"]))
    x = jax.nn.relu(
        layer("wide", x, w["wide"], 3, 2) + layer("skip", x, w["wide"], 1, 2)
    )
    return words.dense("out", words.mean(x), 3)


def mobilenet(words, x, w):
    x = words.norm("stem_norm", words.conv("stem", x, w["stem"]))
    y = jax.nn.relu6(words.norm("wide_norm", words.conv("wide", x, w["wide"], 1)))
    y = words.conv("depth", y, w["wide"], 3, 1, w["wide"])
    y = jax.nn.relu6(words.norm("depth_norm", y))
    s = jax.nn.relu(words.dense("squeezed", words.mean(y), w["squeezed"]))
    y = words.scale(y, jax.nn.sigmoid(words.dense("excited", s, w["wide"])))
    x = x + words.norm("thin_norm", words.conv("thin", y, w["stem"], 1))
    return words.dense("out", words.mean(x), 3)


def encoder(words, ids, w):
    x = words.embed("table", ids, 11, 16)
    x = x + words.attention("attention", words.layer_norm("norm1", x), w["attention"])
    y = jax.nn.gelu(words.dense("up", words.layer_norm("norm2", x), w["up"]))
    x = x + words.dense("down", y, 16)
    return words.dense("out", words.layer_norm("norm3", x).mean(-2), 3)


def decoder(words, ids, w):
    """Tied embeddings; two queries share a key and a value; gated."""
    x = words.embed("table", ids, 11, 16)
    y = words.layer_norm("norm1", x)
    q, k, v = (words.heads(name, y, w[name]) for name in "qkv")
    k, v = (jnp.repeat(z, q.shape[-2] // z.shape[-2], axis=-2) for z in (k, v))
    scores = jnp.einsum("...qhd,...khd->...hqk", q, k)
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
    mixed = jnp.einsum("...hqk,...khd->...qhd", weights, v)
    x = x + words.merge("o", mixed, 16)
    y = words.layer_norm("norm2", x)
    y = jax.nn.silu(words.dense("gate", y, w["gate"])) * words.dense("up", y, w["up"])
    x = x + words.dense("down", y, 16)
    return words.attend("table", words.layer_norm("norm3", x))


def image():
    return normal(2, 8, 8, 3)


def tokens():
    return jnp.arange(10).reshape(2, 5)


FAMILIES = {
    "MLP": (mlp, lambda: normal(2, 5), {"one": 12, "two": 20}),
    "VGG": (vgg, image, {"first": 8, "second": 12, "hidden": 14}),
    "ResNet": (resnet, image, {"stem": 8, "inner": 12, "wide": 20}),
    "MobileNet": (mobilenet, image, {"stem": 8, "wide": 24, "squeezed": 10}),
    "encoder": (encoder, tokens, {"attention": 4, "up": 24}),
    "decoder": (decoder, tokens, {"q": 4, "k": 2, "v": 2, "gate": 24, "up": 24}),
}


@functools.cache
def family(name, library):
    model, inputs, widths = FAMILIES[name]
    return LIBRARIES[library](model, inputs(), widths)
