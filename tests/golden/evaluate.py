"""Evaluates the expressions of the table on the arrays of a case."""

import functools
import json
import math
import os
import pathlib
import re

import jax
import numpy as np
from evaluate_features import MORE_FEATURES, channels_last, turned
from evaluate_relations import MORE_RELATIONS, renamed
from jax import numpy as jnp

from jaxkd import losses

HERE = pathlib.Path(__file__).parent
DIRECTORY = pathlib.Path(os.environ.get("JAXKD_GOLDEN_DIR", HERE))
STUDENTS = ("student", "student_0", "student_1", "student_2", "student_weight")
DIFFERENTIATED = (*STUDENTS, "student_wq", "global_T", "log_scale", "ws", "wt")


@functools.cache
def load(directory, file):
    """The cases of one file: name -> arrays, and `meta` as a dict."""
    cases = {}
    with np.load(directory / f"{file}.npz") as arrays:
        for key in arrays.files:
            case, _, name = key.rpartition("/")
            value = arrays[key]
            if name == "meta":
                value = json.loads(str(value))
            cases.setdefault(case, {})[name] = value
    return {name: channels_last(renamed(case)) for name, case in cases.items()}


def float_like(x, dtype):
    return x.astype(dtype) if x.dtype.kind == "f" else x


def inputs(case, dtype):
    """The arrays as jax arrays, with the mask taken out of the labels."""
    arrays = {
        name.removeprefix("param_"): jnp.asarray(float_like(value, dtype))
        for name, value in case.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    }
    if "labels" in arrays:
        labels = arrays["labels"]
        if "student" in arrays and "student_weight" not in arrays:
            shape = arrays["student"].shape[:-1]
            if labels.size == math.prod(shape):  # not those of several layers
                labels = labels.reshape(shape)
        arrays["mask"] = labels >= 0
        arrays["labels"] = jnp.where(labels >= 0, labels, 0)
    return arrays


def derived(names, params, call):
    """What the expressions use besides the arrays of the case."""
    names = {**names, **params, "losses": losses, "jax": jax, "jnp": jnp}
    names["turned"] = turned
    if "student" not in names:
        return names
    if "student_weight" in names:
        for side in ("student", "teacher"):
            names[side] = names[side] @ names[f"{side}_weight"].T
    student = names["student"]
    names |= {"B": student.shape[0], "C": student.shape[-1], "V": student.shape[-1]}
    for applies, more in MORE:
        if applies(names, call):
            names |= more(names)
    return names


def sparse(names):
    student, teacher = names["student"], names["teacher"]
    total = jax.nn.logsumexp(teacher, axis=-1)
    if "topk_logprobs" in names:
        ids, values = names["topk_ids"], names["topk_logprobs"]
        total = jnp.zeros_like(total)
    elif "topk_logits" in names:
        ids, values = names["topk_ids"], names["topk_logits"]
    else:
        by = names[names.get("support", "teacher")]
        ids = jax.lax.top_k(by, names["k"])[1]
        values = jnp.take_along_axis(teacher, ids, axis=-1)
    picked = jnp.take_along_axis(student, ids, axis=-1)
    at_ids = jnp.take_along_axis(teacher, ids, axis=-1)
    return {"ids": ids, "values": values, "total": total} | {
        "picked": picked,
        "teacher_at_ids": at_ids,
    }


def by_label(names):
    student, teacher, labels = (names[x] for x in ("student", "teacher", "labels"))
    top = jnp.argmax(teacher, axis=-1).astype(labels.dtype)
    both = jnp.stack([top, labels], axis=-1)
    total = jax.nn.logsumexp(teacher, axis=-1)
    at = lambda x, ids=both: jnp.take_along_axis(x, ids, axis=-1)
    buckets = lambda ids: losses.top_k_buckets(student, ids, at(teacher, ids), total)
    log_q, log_p = jax.nn.log_softmax(student), jax.nn.log_softmax(teacher)
    mixture = jnp.log(0.9 * jnp.exp(log_p) + 0.1 * jnp.exp(log_q))
    return {"top": top, "at": at, "buckets": buckets, "top_and_label": both} | {
        "mixture": mixture
    }


def pairs(names):
    """By how much each of the k classes leads those after it, of any array."""
    ids, (i, j) = names["ids"], np.triu_indices(names["k"], 1)
    at = lambda x: jnp.take_along_axis(x, ids, axis=-1)
    return {"pairs": lambda x: at(x)[..., i] - at(x)[..., j]}


def leads(names):
    """By how much a sequence's mean probability is the teacher's, not the student's.

    The means are geometric, over the labels' positions.
    """
    counts, labels = names["mask"][:, 1:], names["labels"][:, 1:]
    sure = [
        jnp.exp(-jnp.where(counts, hard, 0.0).sum(1) / counts.sum(1, dtype=hard.dtype))
        for hard in (
            losses.cross_entropy(names[side][:, :-1], labels)
            for side in ("student", "teacher")
        )
    ]
    return {"lead": sure[1] - sure[0]}


def answers(names):
    """Both logits from the start of the answer, and the positions both have."""
    starts, lengths = {}, {}
    for side in ("student", "teacher"):
        counts = names[f"{side}_labels"] >= 0
        starts[side] = jnp.argmax(counts, axis=1) - names["shift"]
        lengths[side] = counts.sum(axis=1) - names["drop"]
    shared = jnp.minimum(lengths["student"], lengths["teacher"])
    positions = jnp.arange(int(shared.max()))
    rows = jnp.arange(len(shared))[:, None]
    s, t = (names[x][rows, starts[x][:, None] + positions] for x in starts)
    both = positions < shared[:, None]
    return {"answers": (s, t / names["teacher_T"]), "both": both}


def uskd(names):
    weak = names["fea_mid"] @ names["fc_w"].T + names["fc_b"]
    log_q, w = jax.nn.log_softmax(names["student"]), jax.nn.softmax(weak)
    at = lambda x: jnp.take_along_axis(x, names["labels"][:, None], axis=-1)
    return {"weak": weak, "scores": log_q / (1 - at(log_q)) + w / (1 - at(w))}


def temperatures(names):
    student, teacher, base = names["student"], names["teacher"], names["T"]
    return {
        "focal": losses.focal_temperature(student, teacher, base=base),
        "confidence": losses.confidence_temperature(student, base=base),
    }


#: When, and what the expressions may use then.
MORE = (
    (lambda names, _: "k" in names, sparse),
    (lambda _, call: re.search(r"\bpairs\b", call), pairs),
    (lambda _, call: re.search(r"\blead\b", call), leads),
    (lambda names, _: "student_labels" in names, answers),
    (lambda _, call: re.search(r"\b(at|buckets|mixture)\b", call), by_label),
    (lambda names, _: "fea_mid" in names, uskd),
    (lambda _, call: re.search(r"\b(focal|confidence)\b", call), temperatures),
    *MORE_FEATURES,
    *MORE_RELATIONS,
)


def value_and_gradients(case, params, call, factor, dtype):
    """The loss of an expression and its gradients, under the strict rules."""
    arrays = inputs(case, dtype)
    moving = {name: arrays.pop(name) for name in DIFFERENTIATED if name in arrays}

    def loss(moving):
        names = derived({**arrays, **moving}, params, call)
        return eval(factor, names) * eval(call, names)

    loss_and_gradients = jax.value_and_grad(loss)(moving)
    return jax.tree.map(np.asarray, loss_and_gradients)  # before x64 goes off again
