"""What the expressions on relations, contrast and transformers use."""

import re

import jax
from jax import numpy as jnp

from jaxkd import losses


def renamed(case):
    """A case in which the gradient of a weight has the weight's name."""
    return {name.replace("grad_wq", "grad_student_wq"): x for name, x in case.items()}


def contrast(names):
    """CRD's embeddings, and its memory as the first batch calibrates it."""
    student = names["student"] @ names["ws"].T + names["bs"]
    teacher = names["teacher"] @ names["wt"].T + names["bt"]
    index, negatives = names["idx"], names["contrast_idx"][:, 1:]
    memory = losses.ContrastMemory(
        names["mem1"], names["mem2"], jnp.zeros(2, student.dtype), jnp.asarray(False)
    )
    batch = (student, teacher, index, negatives)
    memory = losses.calibrate_memory(memory, *batch)
    return {"embedded": (student, teacher), "batch": batch, "memory": memory}


def lengths(names):
    return {"lengths": names["mask"].sum(axis=-1).astype(names["student"].dtype)}


def keys(names):
    """All keys of each query, as ids; and what TextBrewer's threshold leaves."""
    shape = names["student"].shape
    every = lambda x: jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
    return {
        "keys": every(names["student"]),
        "mean_keys": jnp.broadcast_to(jnp.arange(shape[-1]), (shape[0], *shape[2:])),
        "softmax": jax.nn.softmax,
    }


def projected(names):
    """MiniLM's queries, keys and values of both sides."""
    return {
        f"{side[0]}_{kind}": names[side] @ names[f"{side}_w{kind}"].T
        for side in ("student", "teacher")
        for kind in "qkv"
    }


#: As `evaluate.MORE`.
MORE_RELATIONS = (
    (lambda names, _: "mem1" in names, contrast),
    (lambda _, call: re.search(r"\blengths\b", call), lengths),
    (lambda _, call: re.search(r"\b(mean_)?keys\b", call), keys),
    (lambda names, _: "student_wq" in names, projected),
)
