"""The net of the structured cases, in the layout of its original."""

import jax
from jax import lax, numpy as jnp

from jaxkd import compress

LAYOUT = ("NCHW", "OIHW", "NCHW")


def torch_apply(p, x):
    conv = lambda x, q: lax.conv_general_dilated(
        x, q["weight"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=LAYOUT
    )
    wide = lambda v: v[None, :, None, None]

    def norm(x, q):
        scale = lax.rsqrt(q["running_var"] + 1e-5) * q["weight"]
        return (x - wide(q["running_mean"])) * wide(scale) + wide(q["bias"])

    dense = lambda x, q: x @ q["weight"].T + q["bias"][None]
    x = jax.nn.relu(norm(conv(x, p["c1"]), p["b1"]))
    x = jax.nn.relu(x + norm(conv(x, p["c2"]), p["b2"]))
    x = jax.nn.relu(dense(x.mean(axis=(2, 3)), p["fc1"]))
    return dense(x, p["fc2"])


def torch_groups(variables, x):
    return compress.dependency_groups(torch_apply, variables, jnp.asarray(x))
