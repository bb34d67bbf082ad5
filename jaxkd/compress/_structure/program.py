"""The walk over a program: jaxprs within jaxprs, equation by equation."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core, source_info_util

from jaxkd.compress._structure.axes import Axes, Layout
from jaxkd.compress._structure.contractions import CONTRACTIONS
from jaxkd.compress._structure.rules import RULES, Value, fresh, frozen, stop

# Primitives that run a program on their operands, and where they keep it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "remat": "jaxpr",
}


class Step(NamedTuple):
    """What is known of one equation before the axes shrink.

    Attributes:
        primitive: its name.
        where: the primitive and the line of the model.
        outs: the axes of its outputs.
        literals: the numbers written into it.
        ins: the axes of its inputs.
    """

    primitive: str
    where: str
    outs: list[Value]
    literals: tuple[float, ...]
    ins: list[Value]


class Walker:
    """Walks over a program once, with the axes of its values in hand."""

    def __init__(self) -> None:
        self.axes = Axes()
        self.where = ""
        self.summed: set[int] = set()
        self.made: set[int] = set()
        self.products: list[Value] = []
        self.steps: list[Step] = []
        self._repeats: Value = ()

    def spend(self, *axes: int) -> None:
        """Counts multiplications: the product of the lengths of these axes."""
        self.products.append((*self._repeats, *axes))

    def run(self, closed: core.ClosedJaxpr, ins: Sequence[Value]) -> list[Value]:
        """The axes of the outputs, given those of the inputs."""
        consts = [
            frozen(self, np.shape(c), "it meets a constant of the function")
            for c in closed.consts
        ]
        return self._run(closed.jaxpr, [*consts, *ins])

    def _run(self, jaxpr: core.Jaxpr, ins: Sequence[Value]) -> list[Value]:
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        env: dict[Any, Value] = dict(zip(inputs, ins, strict=True))

        def read(atom: Any) -> Value:
            if isinstance(atom, core.Literal):
                reason = "it meets a constant of the function"
                return frozen(self, np.shape(atom.val), reason)
            return env[atom]

        for eqn in live(jaxpr):
            values = [read(atom) for atom in eqn.invars]
            env.update(zip(eqn.outvars, self._apply(eqn, values), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, eqn: Any, ins: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        self.where = describe(eqn)
        if name in CALLS:
            return self._call(eqn.params[CALLS[name]], ins)
        if name in ("scan", "cond"):
            outs = self._scan(eqn, ins) if name == "scan" else self._cond(eqn, ins)
            return outs
        rule = RULES.get(name) or CONTRACTIONS.get(name, stop)
        outs = rule(self, eqn, ins)
        self.steps.append(Step(name, self.where, outs, literals(eqn), ins))
        return outs

    def _call(self, program: Any, ins: Sequence[Value]) -> list[Value]:
        if isinstance(program, core.ClosedJaxpr):
            return self.run(program, ins)
        return self._run(program, ins)

    def _scan(self, eqn: Any, ins: list[Value]) -> list[Value]:
        """A loop: what is carried has one form, what is scanned a leading axis."""
        consts, carried = eqn.params["num_consts"], eqn.params["num_carry"]
        start, where = consts + carried, self.where
        (length,) = frozen(self, (eqn.params["length"],), f"{where} runs over it")
        for value in ins[start:]:
            self.axes.unite(value[0], length, where)
        outer, self._repeats = self._repeats, (*self._repeats, length)
        inside = [*ins[:start], *(value[1:] for value in ins[start:])]
        outs = self._call(eqn.params["jaxpr"], inside)
        self._repeats = outer
        self._unite(outs[:carried], ins[consts:start], where)
        return [*ins[consts:start], *((length, *v) for v in outs[carried:])]

    def _cond(self, eqn: Any, ins: list[Value]) -> list[Value]:
        where, outs = self.where, None
        for branch in eqn.params["branches"]:
            others = self._call(branch, ins[1:])
            if outs is not None:
                self._unite(outs, others, where)
            outs = outs or others
        return outs or []

    def _unite(self, a: Sequence[Value], b: Sequence[Value], where: str) -> None:
        for x, y in zip(a, b, strict=True):
            for i, j in zip(x, y, strict=True):
                self.axes.unite(i, j, where)


def live(jaxpr: core.Jaxpr) -> list[Any]:
    """The equations on which the outputs depend; modules may make values in vain."""
    wanted = {v for v in jaxpr.outvars if isinstance(v, core.Var)}
    found = []
    for eqn in reversed(jaxpr.eqns):
        if wanted.intersection(eqn.outvars):
            wanted.update(v for v in eqn.invars if isinstance(v, core.Var))
            found.append(eqn)
    return found[::-1]


def describe(eqn: Any) -> str:
    """The primitive and the line of the model, for people."""
    line = pathlib.PurePath(source_info_util.summarize(eqn.source_info)).name
    module = str(eqn.source_info.name_stack)
    inside = f" of {module}" if module else ""
    return f"{eqn.primitive.name}{inside}{f' ({line})' if line else ''}"


def literals(eqn: Any) -> tuple[float, ...]:
    """The scalar numbers written into an equation."""
    found = (a.val for a in eqn.invars if isinstance(a, core.Literal))
    return tuple(float(v) for v in found if np.ndim(v) == 0 and not np.iscomplexobj(v))


def equations(program: Any) -> Iterator[Any]:
    """The live equations in the order in which :class:`Walker` meets them."""
    jaxpr = program.jaxpr if isinstance(program, core.ClosedJaxpr) else program
    for eqn in live(jaxpr):
        name = eqn.primitive.name
        if name in CALLS:
            yield from equations(eqn.params[CALLS[name]])
        elif name == "scan":
            yield from equations(eqn.params["jaxpr"])
        elif name == "cond":
            for branch in eqn.params["branches"]:
                yield from equations(branch)
        else:
            yield eqn


def trace(apply: Callable[..., Any], variables: Any, inputs: Sequence[Any]) -> Any:
    """The program of ``apply``, with no more than the shapes of its arguments."""
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), jax.numpy.result_type(x)),
        (variables, *inputs),
    )
    return jax.make_jaxpr(apply)(*shapes)


__all__ = ["Layout", "Step", "Walker", "describe", "equations", "fresh", "trace"]
