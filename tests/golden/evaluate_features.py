"""Networks of the cases on features, from their recorded weights; and layouts."""

import jax
import numpy as np
from jax import numpy as jnp

SIDES = ("student", "teacher", "grad_student")


def channels_last(case):
    """The maps of a case, recorded with the channels first, in jaxkd's layout."""
    meta = case.get("meta", {})
    if meta.get("layout") != "NCHW" or meta["call"].startswith("att_"):
        return case
    return {
        name: np.moveaxis(value, 1, -1)
        if name.startswith(SIDES) and value.ndim == 4
        else value
        for name, value in case.items()
    }


def convolution(x, weight):
    layout = ("NHWC", "OIHW", "NHWC")
    weight = weight.reshape(*weight.shape, 1, 1) if weight.ndim == 2 else weight
    return jax.lax.conv_general_dilated(
        x, weight, (1, 1), "SAME", dimension_numbers=layout, precision="highest"
    )


def predicted(names):
    """VID's mean."""
    x = names["student"]
    for weight in ("w0", "w1"):
        x = jax.nn.relu(convolution(x, names[weight]))
    return {"predicted": convolution(x, names["w2"])}


def generated(names):
    """MGD's features, from those that the mask leaves."""
    aligned = convolution(names["student"], names["align_w"]) + names["align_b"]
    keep = jnp.moveaxis(names["uniform"], 1, -1) >= names["ratio"]
    x = convolution(aligned * keep, names["g0_w"]) + names["g0_b"]
    x = convolution(jax.nn.relu(x), names["g1_w"]) + names["g1_b"]
    return {"generated": x}


def turned(teacher, vectors):
    """The teacher with the sign that turns jaxkd's singular vectors as recorded."""
    sign = jnp.sign(jnp.einsum("bhwc,bci->bi", teacher, vectors))
    return teacher * sign[:, :, None, None]


#: As `evaluate.MORE`.
MORE_FEATURES = (
    (lambda names, _: "log_scale" in names, predicted),
    (lambda names, _: "g0_w" in names, generated),
)
