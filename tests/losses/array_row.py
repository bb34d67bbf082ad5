"""The form of a row of the contract of losses on features, and how to call it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

BATCH = 4
FIXED = {"shared", "record"}  # roles of what has no batch
COMPILED = {}


class ArrayRow(NamedTuple):
    """One loss, as `fn(*make(key), **kwargs)`."""

    fn: Callable[..., jax.Array]
    make: Callable[[jax.Array], tuple[jax.Array, ...]]  # arguments, from a key
    kwargs: dict[str, Any] = {}
    roles: str = "student teacher"  # of the arguments; also `rows` and those of FIXED
    scalar: bool = False  # one number for the batch: takes `where` and `axis_name`
    ordered: bool = False  # depends on the order of the examples
    zero_at_equality: bool = True  # only where student and teacher have one shape
    held: bool = False  # holds something constant: no finite differences
    zero_where_nothing_counts: bool = True
    atol: float = 2e-6  # of the law of zero at equality

    @property
    def names(self):
        """`student` and `teacher` are compared; `rows` have a batch, `shared` not.

        A `record` is a memory: of any size, in a dtype of its own.
        """
        return self.roles.split()

    def places(self, *roles):
        return [i for i, name in enumerate(self.names) if name in roles]


def normal(*shapes, scale=1.0):
    """A maker of normal arrays; each shape is that of one example."""

    def make(key):
        keys = jax.random.split(key, len(shapes))
        return tuple(
            scale * jax.random.normal(k, (BATCH, *shape))
            for k, shape in zip(keys, shapes, strict=True)
        )

    return make


def arguments(row, seed=0, dtype=jnp.float32, scale=1.0):
    """The arguments of a row, of which student and teacher are scaled."""
    made = []
    for name, x in zip(row.names, row.make(jax.random.key(seed)), strict=True):
        if name != "record" and jnp.issubdtype(x.dtype, jnp.floating):
            x = (scale * x if name in {"student", "teacher"} else x).astype(dtype)
        made.append(x)
    return made


def equal(row, made):
    """The arguments with the student's features in the place of the teacher's.

    The n-th of the student's belongs to the n-th of the teacher's; more of the
    student's, as a predicted variance, stay.
    """
    teachers = row.places("teacher")
    students = row.places("student")[: len(teachers)]
    return replaced(made, teachers, [made[i] for i in students])


def call(row, made, **more):
    return row.fn(*made, **row.kwargs, **more)


def gradient(row, made, **more):
    """The gradient of the sum in the student's arguments, as a list."""
    places = row.places("student")

    def loss(students):
        return jnp.sum(call(row, replaced(made, places, students), **more))

    return jax.grad(loss)([made[i] for i in places])


def value_and_slopes(row, made):
    """The value and the gradients, compiled once for a row and not for each law."""
    both = lambda *made: (call(row, made), gradient(row, made))
    return COMPILED.setdefault(id(row), jax.jit(both))(*made)


def replaced(made, places, values):
    made = list(made)
    for i, value in zip(places, values, strict=True):
        made[i] = value
    return made


def by_example(row, made, change):
    """The arguments with `change` applied to those that have a batch."""
    return [
        x if name in FIXED else change(x)
        for name, x in zip(row.names, made, strict=True)
    ]
