"""What products, convolutions, windows and look-ups do to axes."""

from collections.abc import Sequence
from typing import Any

from jaxkd.compress._structure.rules import (
    Rule,
    Value,
    Walk,
    fresh,
    frozen,
    out_shape,
    stop,
)


def _dot(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    a, b = ins[0], ins[1]
    pairs = (*zip(left, right, strict=True), *zip(left_batch, right_batch, strict=True))
    for i, j in pairs:
        walk.axes.unite(a[i], b[j], walk.where)
    free_a = [x for i, x in enumerate(a) if i not in (*left, *left_batch)]
    free_b = [x for j, x in enumerate(b) if j not in (*right, *right_batch)]
    out = (*(a[i] for i in left_batch), *free_a, *free_b)
    walk.spend(*out, *(a[i] for i in left))
    walk.made.update(out)
    walk.summed.update(*((a[i], b[j]) for i, j in pairs[: len(left)]))
    return [out]


def _convolution(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
    if eqn.params["batch_group_count"] != 1:
        return stop(walk, eqn, ins)
    axes, (x, kernel) = walk.axes, ins[:2]
    lhs, rhs, to = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    for axis in (*(x[i] for i in lhs[2:]), *(kernel[i] for i in rhs[2:])):
        axes.freeze(axis, f"a window of {walk.where} runs over it")
    features = kernel[rhs[0]]
    group = axes.new(groups)
    each = axes.new(axes.size(features) // groups)
    axes.unite(x[lhs[1]], axes.product([group, kernel[rhs[1]]]), walk.where)
    axes.unite(features, axes.product([group, each]), walk.where)
    out = list(frozen(walk, out_shape(eqn), f"{walk.where} makes it"))
    out[to[0]], out[to[1]] = x[lhs[0]], features
    walk.made.add(features)
    walk.summed.add(kernel[rhs[1]])
    walk.spend(*out, kernel[rhs[1]], *(kernel[i] for i in rhs[2:]))
    return [tuple(out)]


def _window(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    """Pooling: axes on which the window has length 1 pass, the others stay."""
    out, params = [], eqn.params
    for i, a in enumerate(ins[0]):
        n = out_shape(eqn)[i]
        if params["window_dimensions"][i] == 1 and n == walk.axes.size(a):
            out.append(a)
        else:
            reason = f"a window of {walk.where} runs over it"
            walk.axes.freeze(a, reason)
            out += frozen(walk, (n,), reason)
    return [tuple(out)]


def _gather(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    """Look-ups: axes of which whole slices are taken pass, indexed axes stay."""
    x, indices = ins
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    batching = tuple(numbers.operand_batching_dims)
    gone = (*numbers.collapsed_slice_dims, *batching)
    offsets = iter(numbers.offset_dims)
    out: list[int | None] = [None] * len(out_shape(eqn))
    for i, a in enumerate(x):
        whole = sizes[i] == walk.axes.size(a)
        if i not in batching and (not whole or i in gone):
            walk.axes.freeze(a, f"{walk.where} looks up positions on it")
        if i not in gone:
            j = next(offsets)
            out[j] = a if whole else frozen(walk, (sizes[i],), walk.where)[0]
    for i, j in zip(batching, numbers.start_indices_batching_dims, strict=True):
        walk.axes.unite(x[i], indices[j], walk.where)
    rest = iter(indices[:-1])
    return [tuple(next(rest) if a is None else a for a in out)]


def _dynamic_slice(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    out = []
    for a, n in zip(ins[0], eqn.params["slice_sizes"], strict=True):
        whole = n == walk.axes.size(a)
        if not whole:
            walk.axes.freeze(a, walk.where)
        out += [a] if whole else frozen(walk, (n,), walk.where)
    return [tuple(out)]


def _dynamic_update(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    for a, b in zip(ins[0], ins[1], strict=True):
        if walk.axes.size(a) == walk.axes.size(b):
            walk.axes.unite(a, b, walk.where)
        else:
            walk.axes.freeze(a, walk.where)
            walk.axes.freeze(b, walk.where)
    return [ins[0]]


def _key(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    """Keys are not weights: they stop nothing but their own axes."""
    return [fresh(walk, v.aval.shape) for v in eqn.outvars]


_KEYS = """
random_fold_in random_seed random_split random_unwrap random_wrap
"""
_WINDOWS = """
reduce_window reduce_window_max reduce_window_min reduce_window_sum
"""

CONTRACTIONS: dict[str, Rule] = {
    **dict.fromkeys(_KEYS.split(), _key),
    **dict.fromkeys(_WINDOWS.split(), _window),
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "gather": _gather,
}
