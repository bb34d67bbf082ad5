"""Pruning: each case of the original implementations, and what jaxkd calls for it."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from pruning_net import torch_apply, torch_groups

from jaxkd import compress, trees


class Row(NamedTuple):
    cases: str  # a pattern
    ours: Callable[[dict, dict], dict[str, Any]]  # (input, meta) -> outputs
    rtol: float = 0.0  # 0: equal


def tree(values, prefix):
    """`{"params/a/kernel": x}` as a tree of what follows the prefix."""
    found: dict[str, Any] = {}
    for path, value in values.items():
        if path.startswith(prefix + "/"):
            *keys, last = path.removeprefix(prefix + "/").split("/")
            node = found
            for key in keys:
                node = node.setdefault(key, {})
            node[last] = jnp.asarray(value)
    return found


def named(prefix, values, of=lambda path: True):
    flat = trees.flatten(values)
    return {f"{prefix}/{path}": x for path, x in flat.items() if of(path)}


def weights(given):
    return tree(given, "params")


def is_kernel(path):
    return path.endswith("kernel")


def pruned(params, masks):
    done = compress.apply_masks(params, masks)
    return named("masks", masks, is_kernel) | named("params", done)


def scores_of(given, meta):
    params = weights(given)
    saliency = "|w*g|" in meta.get("score", "") or "saliency" in meta["case"]
    if saliency:
        return params, compress.taylor_scores(params, tree(given, "grads"))
    return params, compress.magnitude_scores(params)


def one_leaf(given, meta):
    scores = {"kernel": jnp.asarray(given[""])}
    return {"": compress.top_masks(scores, meta["sparsity"])["kernel"]}


def n_of_m(given, meta):
    scores = {"kernel": jnp.asarray(given[""])}
    options = {k: meta[k] for k in ("n", "m", "axis")}
    return {"": compress.n_of_m_masks(scores, **options)["kernel"]}


def blocks(given, meta):
    scores = {"kernel": jnp.asarray(given[""])}
    shape = tuple(meta["block"])
    masks = compress.block_masks(scores, meta["sparsity"], shape=shape)
    return {"": masks["kernel"]}


def channel(given, meta):
    scores = {"kernel": jnp.asarray(given[""])}
    masks = compress.channel_masks(scores, meta["sparsity"], axis=meta["axis"])
    return {"": masks["kernel"]}


def uniform(given, meta):
    params, scores = scores_of(given, meta)
    found = pruned(params, compress.top_masks(scores, meta["sparsity"]))
    paths = filter(is_kernel, trees.flatten(params))
    return found | {f"sparsities/{path}": meta["sparsity"] for path in paths}


def erk(given, meta):
    params, scores = scores_of(given, meta)
    asked = compress.erk_sparsities(params, meta["sparsity"])
    found = pruned(params, compress.top_masks(scores, asked))
    return found | {f"sparsities/{path}": np.float32(s) for path, s in asked.items()}


def across(given, meta):
    params, scores = scores_of(given, meta)
    if meta["use_normalization"]:
        scores = compress.normalized_scores(scores)
    return pruned(params, compress.top_masks(scores, meta["sparsity"], across=True))


def densities(given, meta):
    shapes = json.loads(str(given["shapes_json"]))
    params = {
        path: jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
        for path, shape in shapes.items()
    }
    options = meta["kwargs"]
    asked = compress.erk_sparsities(
        params,
        meta["default_sparsity"],
        where=".",
        power=options.get("erk_power_scale", 1.0),
        kernel=options.get("include_kernel", True),
    )
    shown = [asked[path] for path in shapes if len(shapes[path]) > 1]
    return {"sparsity": np.array(shown), "density": 1 - np.array(shown)}


def jaxpruner_schedule(given, meta):
    schedule = compress.polynomial(
        meta["target"], begin=meta["start"], end=meta["end"], power=meta["power"]
    )
    return {"sparsity": jax.vmap(schedule)(given[""] + 1)}  # theirs is a step early


def tfmot_schedule(given, meta):
    schedule = compress.polynomial(
        meta["final"],
        begin=meta["begin"],
        end=meta["end"],
        initial=meta["initial"],
        power=meta["power"],
    )
    found = jax.vmap(schedule)(given[""])  # theirs is `initial` before it begins
    return {"sparsity": jnp.where(given[""] < meta["begin"], meta["initial"], found)}


def tfmot_constant(given, meta):
    schedule = compress.one_shot(meta["target"], at=0)
    return {"sparsity": jax.vmap(schedule)(given[""])}


def regrow(given, meta):
    leaf = lambda name: {"kernel": jnp.asarray(given[name])}
    masks = {"kernel": jnp.asarray(given["mask"]) > 0}
    growth = jax.tree.map(jnp.abs, leaf("grads"))
    done = compress.regrow_masks(masks, leaf("weights"), growth, meta["drop_fraction"])
    return {"": done["kernel"]}


def drop_fraction(given, meta):
    f = lambda t: meta["init"] / 2 * (1 + jnp.cos(jnp.pi * jnp.minimum(t, 1.0)))
    return {"": f(given[""] / meta["end_step"])}


def trajectory(given, meta):
    """Their order of things: masks of the old weights, then the step."""
    params, grads = weights(given), tree(given, "grads")
    name = {"sgd0.1": optax.sgd(0.1), "sgdm0.1": optax.sgd(0.1, momentum=0.9)}
    tx = (name | {"adam1e-2": optax.adam(1e-2)})[meta["optimizer"]]
    algorithm, plan = meta["algorithm"], meta["schedule"]
    schedule = compress.polynomial(
        meta["sparsity"], begin=plan["start"], end=plan["end"], power=plan["power"]
    )
    state = tx.init(params)
    masks = jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)
    rows: dict[str, list] = {}
    for t in range(len(next(iter(jax.tree.leaves(grads))))):
        gradient = jax.tree.map(lambda g, t=t: g[t], grads)
        due = plan["start"] <= t <= plan["end"] and t % plan["update_freq"] == 0
        forward = params
        if algorithm == "magnitude_ste":
            forward = compress.straight_through_prune(params, schedule(t + 1))
        elif due:
            masks = redrawn(algorithm, params, gradient, schedule(t + 1))
        updates, state = tx.update(gradient, state, params)
        params = compress.apply_masks(optax.apply_updates(params, updates), masks)
        now = named("params", params) | named("forward_params", forward)
        for path, value in now.items():
            rows.setdefault(path, []).append(value)
    return {path: np.stack(values) for path, values in rows.items()}


def redrawn(algorithm, params, gradient, sparsity):
    scores = compress.magnitude_scores(params)
    if algorithm == "saliency":
        scores = compress.taylor_scores(params, gradient)
    if algorithm == "global_magnitude":
        scores = compress.normalized_scores(scores)
        return compress.top_masks(scores, sparsity, across=True)
    return compress.top_masks(scores, sparsity)


def summary(given, meta):
    params, _ = compress.magnitude_prune(weights(given), 0.8)
    leaves = trees.flatten(params)
    found = {path.replace("/", "."): trees.sparsity(x) for path, x in leaves.items()}
    return found | {"_nparams": trees.count(params)}


def l1(given, meta):
    scores = {"kernel": jnp.abs(given[""])}
    return {"": compress.top_masks(scores, meta["amount"])["kernel"]}


def ln(given, meta):
    scores = {"kernel": jnp.abs(given[""]) ** meta["n"]}
    options = {"axis": meta["dim"]}
    masks = compress.channel_masks(scores, meta["amount"], **options)
    return {"": masks["kernel"]}


def global_l1(given, meta):
    scores = {name: jnp.abs(given[name]) for name in ("w1", "w2")}
    masks = compress.top_masks(scores, meta["amount"], where="w", across=True)
    return {"m1": masks["w1"], "m2": masks["w2"]}


def wanda(given, meta):
    kernel = {"kernel": jnp.asarray(given["W"]).T}
    scores = compress.wanda_scores(kernel, {"kernel": given["X"]})
    if meta["m"]:
        keep = meta["m"] - meta["n"]  # theirs counts what goes
        masks = compress.n_of_m_masks(scores, n=keep, m=meta["m"])
    else:
        masks = compress.output_masks(scores, meta["sparsity"])
    done = compress.apply_masks(kernel, masks)
    _, tokens, _ = given["X"].shape
    norms = scores["kernel"] / jnp.abs(kernel["kernel"])  # theirs: squares, by sample
    found = {"mask": masks["kernel"].T, "W": done["kernel"].T}
    return found | {"row_scalars": norms[:, 0] ** 2 * tokens}


def sparse_gpt(given, meta):
    kernel = jnp.asarray(given["W"]).T
    block = min(meta["block_size"], kernel.shape[0])
    if meta["m"]:
        sparsity = (meta["m"] - meta["n"], meta["m"])
    else:  # theirs prunes one weight too many in each block
        n = block * kernel.shape[1]
        sparsity = (int(n * meta["sparsity"]) + 1) / n
    hessian = compress.input_hessian(jnp.asarray(given["X"]))
    options = {"damping": meta["dampening_frac"], "block": block}
    done, _ = compress.sparse_gpt(kernel, hessian, sparsity=sparsity, **options)
    tokens = given["X"].shape[1]  # theirs is a mean over samples
    return {"W": done.T, "hessian": hessian * tokens}


def sparse_gpt_mask(given, meta):
    kernel, hessian = jnp.asarray(given["W"]).T, jnp.asarray(given["H"])
    options = {"damping": meta["hessian_damp"], "block": meta["col_block_size"]}
    _, mask = compress.sparse_gpt(kernel, hessian, sparsity=(2, 4), **options)
    return {"": mask.T}


def torch_pruning(given, meta):
    """The net of the case: found groups, scores, and the smaller arrays."""
    variables = tree(given, "state")
    groups = torch_groups(variables, given["x"])
    where = r"(c\d|fc\d|b\d)/weight"
    scores = compress.l2_importance(variables, groups, where=where)
    names = {group.size: group.name for group in groups}
    options = json.loads(meta["kwargs"].replace("'", '"').replace("True", "true"))
    ratio, step = options.get("pruning_ratio", 0.5), options.get("round_to", 1)
    if options.get("global_pruning"):
        target = compress.units(int(sum(names) - int(sum(names) * ratio)))
    else:
        target = compress.units(1 - ratio)
    smaller, report = compress.shrink(
        variables,
        groups,
        scores,
        target=target,
        round_to=step,
        across=bool(options.get("global_pruning")),
    )
    found = {f"scores/group{i}": scores[names[n]] for i, n in enumerate((16, 8))}
    y = {"y_before": torch_apply(variables, given["x"])}
    y |= {"y_after": report.apply(smaller, given["x"])}
    return found | named("state", smaller) | y


ROWS = [
    Row(r"jaxpruner\.topk_mask/.*", one_leaf),
    Row(r"jaxpruner\.nm_mask/.*(dense|conv)", n_of_m),
    Row(r"jaxpruner\.block_mask/(4x4_avg|2x3_avg|4x4_avg_ragged)", blocks),
    Row(r"jaxpruner\.channel_mask/.*", channel),
    Row(r"jaxpruner\.(magnitude|saliency)_uniform/.*", uniform),
    Row(r"jaxpruner\.(magnitude|saliency)_erk/.*", erk, 1e-6),
    Row(r"jaxpruner\.global_(magnitude|saliency)/.*", across),
    Row(r"jaxpruner\.erk/(?!.*custom).*", densities, 1e-6),
    Row(r"jaxpruner\.poly_schedule/.*", jaxpruner_schedule, 1e-6),
    Row(r"jaxpruner\.rigl_update/.*", regrow),
    Row(r"jaxpruner\.rigl_drop_fraction/.*", drop_fraction, 1e-6),
    Row(r"jaxpruner\.trajectory/.*", trajectory, 1e-4),
    Row(r"jaxpruner\.summarize_sparsity/.*", summary, 1e-6),
    Row(r"tfmot\.poly_schedule/.*", tfmot_schedule, 1e-6),
    Row(r"tfmot\.constant_schedule/.*", tfmot_constant, 1e-6),
    Row(r"torch\.l1_unstructured/.*", l1),
    Row(r"torch\.ln_structured/.*", ln),
    Row(r"torch\.global_l1_unstructured/.*", global_l1),
    Row(r"llmcompressor\.wanda/.*", wanda, 1e-6),
    Row(r"llmcompressor\.sparsegpt/.*", sparse_gpt, 1e-4),
    Row(r"modelopt\.sparsegpt_mask/.*", sparse_gpt_mask),
    Row(r"torch_pruning\.group/l2_.*", torch_pruning, 1e-5),
]

#: Outputs which are not compared, and why.
WITHOUT = {
    "names_json": "the order of the leaves, no number",
    "is_update": "jaxkd redraws at multiples of `every`, and where a schedule rests: "
    "the target is then always reached, where theirs may never be",
    "should_prune": "as is_update",
    "_total_sparsity": "counts zero-initialised biases as pruned",
    "_nparams_nnz": "counts zero-initialised biases as pruned",
    "loss": "the sum of squared errors on the way, which jaxkd does not return",
    "macs_params": "counts BatchNorm as multiplications, and no running statistics",
}

#: Cases which jaxkd does not reproduce, and why.
ELSEWHERE = {
    r"jaxpruner\.nm_mask/2of4_ties": "of ties the later is kept; here the earlier, as "
    "everywhere",
    r"jaxpruner\.block_mask/.*max.*": "the largest score of a block; here the mean",
    r"jaxpruner\.block_mask/2x2_avg_4d": "blocks tile the window of a convolution, "
    "which no hardware uses; here the last two axes",
    r"jaxpruner\.block_mask/1x4_avg_1d": "blocks of vectors",
    r"jaxpruner\.erk/.*custom": "fixed sparsities: edit the dict that erk_sparsities "
    "returns",
    r"torch_pruning\.group/lamp": "LAMP of whole channels; here of weights",
    r"torch_pruning\.group/l1_first_nonorm": "absolute sums of one member",
    r"(qwix|aqt)\..*": "quantization",
    r"modelopt\.calib_.*": "quantization",
    r"torch\.(observer|fake_quant|lsq)/.*": "quantization",
}


def row_of(case):
    rows = [row for row in ROWS if re.fullmatch(row.cases, case)]
    reasons = [why for cases, why in ELSEWHERE.items() if re.fullmatch(cases, case)]
    return [*rows, *reasons]
