"""Which module of a model holds an operation that a converter refuses."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxkd.deploy._folder import ArtefactError
from jaxkd.deploy._program import Program


@contextlib.contextmanager
def conversion(program: Program, to: str) -> Iterator[None]:
    """Turns whatever a converter raises into words that name the module.

    Args:
        program: what is converted.
        to: what it is converted to.

    Yields:
        Nothing.

    Raises:
        ArtefactError: if the conversion fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converter, not for the user
            yield
    except (ArtefactError, OSError, ModuleNotFoundError):
        raise
    except Exception as error:  # converters raise what they like
        said = " ".join(str(error).split())[:300]
        raise ArtefactError(
            f"{find_module(program, str(error))}cannot be converted to {to}, and "
            f"nothing was written: {said}"
        ) from error


def find_module(program: Program, said: str) -> str:
    """Names the module that an error of a converter speaks of.

    Args:
        program: what was converted.
        said: the error's text, with an operation's name or a line of code in it.

    Returns:
        ``"the operation 'eigh' in 'Net/head' (net.py:3) "``, as far as is known.
    """
    jaxpr = jax.make_jaxpr(program.run)(program.weights, program.inputs).jaxpr
    found = [(_place(said, outer, inner), outer, inner) for outer, inner in _all(jaxpr)]
    found = [match for match in found if match[0] is not None]
    if not found:
        return "the model "
    _, outer, inner = min(found, key=lambda match: match[0])
    scope = str(outer.source_info.name_stack) or "the model"
    line = source_info_util.summarize(outer.source_info)
    return f"the operation {inner.primitive.name!r} in {scope!r} ({line}) "


def _all(jaxpr: Any, outer: Any = None) -> Iterator[tuple[Any, Any]]:
    """All equations, each with the outermost one that it is part of."""
    for equation in jaxpr.eqns:
        top = outer or equation
        yield top, equation
        for inner in _inner(equation):
            yield from _all(inner, top)


def _inner(equation: Any) -> Iterator[Any]:
    """The programs that an equation runs, such as the body of a loop."""
    for leaf in jax.tree.leaves(equation.params, is_leaf=_is_program):
        if _is_program(leaf):
            yield getattr(leaf, "jaxpr", leaf)


def _is_program(x: Any) -> bool:
    return isinstance(x, ClosedJaxpr | Jaxpr)


def _place(said: str, outer: Any, inner: Any) -> tuple[Any, ...] | None:
    """How well an equation fits an error: by its line of code, or else by its name."""
    name = inner.primitive.name
    holds_others = any(_inner(inner))
    line = source_info_util.summarize(outer.source_info).split(" ")[0]
    if f"{line}: error" in said:
        return (0, said.index(line), holds_others, name not in said)
    quoted = re.search(rf"(?:^|['\"`. ]){re.escape(name)}['\"`., ]", said)
    return (1, quoted.start(), holds_others, False) if quoted else None
