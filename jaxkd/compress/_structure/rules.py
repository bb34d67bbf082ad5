"""What each primitive does to the axes of its operands.

A rule takes the walk, the equation and the axes of its inputs, and returns the axes of
its outputs. Removing a unit from all axes that a rule unites must give the same values
as computing with the unit and removing it then.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxkd.compress._structure.axes import Axes

Value: TypeAlias = tuple[int, ...]


@runtime_checkable
class Walk(Protocol):
    """What rules may use of the walk over a program.

    Attributes:
        axes: the union-find.
        where: the primitive and the line of the model that the rule is about.
        summed: axes over which a product or a convolution sums.
        made: axes which it hands on to its output.
    """

    axes: Axes
    where: str
    summed: set[int]
    made: set[int]

    def spend(self, *axes: int) -> None:
        """Counts multiplications: the product of the lengths of these axes."""
        ...


Rule: TypeAlias = Callable[[Walk, Any, Sequence[Value]], list[Value]]


def fresh(walk: Walk, shape: Sequence[int]) -> Value:
    """Axes united with nothing."""
    return tuple(walk.axes.new(n) for n in shape)


def frozen(walk: Walk, shape: Sequence[int], reason: str) -> Value:
    """Axes that must stay as they are."""
    value = fresh(walk, shape)
    for axis in value:
        walk.axes.freeze(axis, reason)
    return value


def out_shape(eqn: Any, i: int = 0) -> tuple[int, ...]:
    """The shape of an output."""
    return tuple(eqn.outvars[i].aval.shape)


def stop(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    """For what is not understood: nothing that goes in or comes out can shrink."""
    for axis in (a for value in ins for a in value):
        walk.axes.freeze(axis, walk.where)
    return [frozen(walk, v.aval.shape, walk.where) for v in eqn.outvars]


def _elementwise(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    out = fresh(walk, out_shape(eqn))
    for value in ins:
        for a, b in zip(value, out, strict=True) if value else ():
            if walk.axes.size(a) == walk.axes.size(b):  # a length of 1 broadcasts
                walk.axes.unite(a, b, walk.where)
    return [out] * len(eqn.outvars)


def _each(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    return list(ins)


def _broadcast(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    out = list(fresh(walk, out_shape(eqn)))
    for a, i in zip(ins[0], eqn.params["broadcast_dimensions"], strict=True):
        if walk.axes.size(a) == walk.axes.size(out[i]):
            out[i] = a
    return [tuple(out)]


def _iota(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    out = fresh(walk, out_shape(eqn))
    walk.axes.freeze(out[eqn.params["dimension"]], f"it is counted by {walk.where}")
    return [out]


def _reshape(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    if eqn.params.get("dimensions") is not None:
        return stop(walk, eqn, ins)
    axes, out = walk.axes, fresh(walk, out_shape(eqn))
    if 0 in out_shape(eqn):
        return stop(walk, eqn, ins)
    before, after = ([a for a in v if axes.size(a) != 1] for v in (ins[0], out))
    while before:  # the fewest axes with equal products, one run at a time
        old, new = [before.pop(0)], [after.pop(0)]
        while (m := _count(walk, old)) != (n := _count(walk, new)):
            run, rest = (old, before) if m < n else (new, after)
            run.append(rest.pop(0))
        axes.unite(axes.product(old), axes.product(new), walk.where)
    return [out]


def _count(walk: Walk, value: Sequence[int]) -> int:
    return math.prod(walk.axes.size(a) for a in value)


def _transpose(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    return [tuple(ins[0][i] for i in eqn.params["permutation"])]


def _squeeze(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    gone = eqn.params["dimensions"]
    return [tuple(a for i, a in enumerate(ins[0]) if i not in gone)]


def _expand(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    rest = iter(ins[0])
    new = eqn.params["dimensions"]
    ndim = len(out_shape(eqn))
    return [tuple(walk.axes.new(1) if i in new else next(rest) for i in range(ndim))]


def _concatenate(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    axis = eqn.params["dimension"]
    first, *others = ins
    for other in others:
        for i, (a, b) in enumerate(zip(first, other, strict=True)):
            if i != axis:
                walk.axes.unite(a, b, walk.where)
    out = list(first)
    out[axis] = walk.axes.sum([value[axis] for value in ins])
    return [tuple(out)]


def _slice(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    out = []
    for i, a in enumerate(ins[0]):
        n = walk.axes.size(a)
        if (starts[i], ends[i], strides[i]) == (0, n, 1):
            out.append(a)
        elif strides[i] == 1 and ends[i] - starts[i] > 1:
            out.append(walk.axes.partition(a, (starts[i], ends[i]), walk.where)[1])
        else:  # one unit, or every k-th: each has a part of its own
            walk.axes.freeze(a, walk.where)
            out += frozen(walk, out_shape(eqn)[i : i + 1], walk.where)
    return [tuple(out)]


def _split(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    axis, sizes = eqn.params["axis"], eqn.params["sizes"]
    cuts = [int(n) for n in itertools.accumulate(sizes)][:-1]  # numpy's, some
    pieces = walk.axes.partition(ins[0][axis], cuts, walk.where)
    return [(*ins[0][:axis], piece, *ins[0][axis + 1 :]) for piece in pieces]


def _pad(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    out = []
    for i, (low, high, inside) in enumerate(eqn.params["padding_config"]):
        a = ins[0][i]
        if low < 0 or high < 0 or inside:
            walk.axes.freeze(a, walk.where)
            out += frozen(walk, out_shape(eqn)[i : i + 1], walk.where)
        else:
            ends = frozen(walk, (low, high), f"zeros of {walk.where}")
            out.append(walk.axes.sum([ends[0], a, ends[1]]))
    return [tuple(out)]


def _reduce(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    axes = eqn.params["axes"] if "axes" in eqn.params else eqn.params["dimensions"]
    counts = len(ins) if eqn.primitive.name != "reduce" else len(ins) // 2
    for value in ins[:counts]:
        for i in axes:
            walk.axes.note(value[i], f"{walk.where} runs over it")
    first = ins[0]
    for value in ins[1:counts]:
        for a, b in zip(first, value, strict=True):
            walk.axes.unite(a, b, walk.where)
    out = tuple(a for i, a in enumerate(first) if i not in axes)
    return [out] * len(eqn.outvars)


def _find_index(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    for i in eqn.params["axes"]:
        walk.axes.freeze(ins[0][i], f"{walk.where} returns positions on it")
    return _reduce(walk, eqn, ins)


def _along(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    """Primitives whose result depends on the order along one axis."""
    axis = next(eqn.params[k] for k in ("axis", "dimension") if k in eqn.params)
    out = _elementwise(walk, eqn, ins)
    walk.axes.freeze(out[0][axis], f"{walk.where} goes along it")
    return out


def _reverse(walk: Walk, eqn: Any, ins: Sequence[Value]) -> list[Value]:
    for i in eqn.params["dimensions"]:
        walk.axes.freeze(ins[0][i], walk.where)
    return [ins[0]]


_UNARY = """
abs acos acosh asin asinh atan atanh cbrt ceil convert_element_type copy copy_p cos cosh
conj digamma erf erf_inv erfc exp exp2 expm1 floor imag integer_pow is_finite lgamma log
log1p logistic name neg not population_count pvary real reduce_precision round rsqrt
sharding_constraint sign sin sinh sqrt square stop_gradient tan tanh
"""
_MORE = """
add add_any and atan2 clamp complex div eq ge gt le lt max min mul mulhi ne nextafter or
pow rem select_n shift_left shift_right_arithmetic shift_right_logical sub xor
"""

_ORDERED = "cumlogsumexp cummax cummin cumprod cumsum sort"
_REDUCTIONS = """
reduce reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys((*_UNARY.split(), *_MORE.split()), _elementwise),
    **dict.fromkeys(("device_put", "optimization_barrier"), _each),
    **dict.fromkeys(_ORDERED.split(), _along),
    **dict.fromkeys(_REDUCTIONS.split(), _reduce),
    **dict.fromkeys(("argmax", "argmin"), _find_index),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "expand_dims": _expand,
    "iota": _iota,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
