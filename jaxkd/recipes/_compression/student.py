"""The student on its way through the stages, and how each of its forms is trained."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxkd import compress, data, trees
from jaxkd._types import Batch, Params, Tree
from jaxkd.models import Model, Out, Variables

#: For each path of an array, how it is rounded.
Schemes = Mapping[str, compress.Scheme]


class Task(NamedTuple):
    """What is compressed, and on which data.

    Attributes:
        teacher: the model to follow.
        variables: its variables.
        train: training examples by name, ``label`` among them.
        test: the examples on which every stage is measured, and held to the floor.
        student: the model to train from its initial values; ``None`` to start from a
            copy of the teacher.
        rebuild: ``widths -> model``, for models that fix their widths, such as Flax
            Linen's; see :func:`jaxkd.compress.shrink`. The widths are named as
            ``"params/dense1/kernel:1"``, ``"state/..."``.
        transform: augmentation of whole training batches, see
            :class:`jaxkd.data.TrainBatches`.
        inputs: the entries of the examples which the models read.
        about: what the data are, in words, for model cards.
    """

    teacher: Model
    variables: Variables
    train: data.Arrays
    test: data.Arrays
    student: Model | None = None
    rebuild: Callable[[compress.Widths], Model] | None = None
    transform: data.Transform | None = None
    inputs: tuple[str, ...] = ("image",)
    about: str = "arrays of a program of one's own"


class Student(NamedTuple):
    """A student between two stages.

    Attributes:
        model: its program, on plain arrays.
        variables: its variables; quantized arrays, palettes and factors among them.
        widths: the lengths of all axes, once it was shrunk.
        pruned: patterns of the paths whose zeros stay zero.
        factored: whether layers were split in two.
    """

    model: Model
    variables: Variables
    widths: dict[str, int] | None = None
    pruned: tuple[str, ...] = ()
    factored: bool = False


class Opened(NamedTuple):
    """A student as the optimizer sees it.

    Attributes:
        model: a model of arrays of floating point numbers, which computes with what
            is stored.
        variables: the variables to start from.
        close: the way back: trained variables to the student's.
    """

    model: Model
    variables: Variables
    close: Callable[[Variables], Variables]


def start(task: Task, seed: int) -> Student:
    """The student in front of the first stage.

    Args:
        task: the models.
        seed: of initial values.

    Returns:
        A copy of the teacher, or the task's student with its initial values.
    """
    if task.student is None:
        params = compress.dequantize(task.variables.params)
        return Student(task.teacher, task.variables._replace(params=params))
    batch = {name: task.train[name][:2] for name in task.inputs}
    return Student(task.student, task.student.init(jax.random.key(seed), batch))


def is_record(leaf: Any) -> bool:
    """Whether a leaf stands for a compressed array.

    Args:
        leaf: the leaf.

    Returns:
        True for quantized arrays and palettes.
    """
    return isinstance(leaf, compress.QuantizedArray | compress.Palette)


def running(student: Student) -> Model:
    """The model that runs on the student's variables, once these are dequantized.

    Args:
        student: the student.

    Returns:
        A model.
    """
    return _multiplied(student.model) if student.factored else student.model


def _multiplied(model: Model) -> Model:
    def apply(params: Params, state: Tree, batch: Batch, **options: Any) -> Out:
        return model.apply(compress.multiply_factors(params), state, batch, **options)

    return Model(model.init, apply)


def schemes_of(params: Tree) -> dict[str, compress.Scheme]:
    """How the quantized arrays of a tree are rounded.

    Args:
        params: a tree.

    Returns:
        A scheme for each path.
    """
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_record)
    return {
        trees.path_string(path): compress.Scheme(leaf.format, leaf.axis, leaf.tile)
        for path, leaf in found
        if isinstance(leaf, compress.QuantizedArray)
    }


def rules_of(schemes: Schemes) -> trees.Rules:
    """Schemes as rules for paths.

    Args:
        schemes: a scheme for each path.

    Returns:
        Pairs of a regular expression and a scheme.
    """
    return [(f"^{re.escape(path)}$", scheme) for path, scheme in schemes.items()]


def open_up(student: Student, schemes: Schemes | None = None) -> Opened:
    """Takes a student apart for training.

    Quantized arrays are trained through the rounding, of palettes the values, of
    layers in two both factors. So whatever was done stays done.

    Args:
        student: the student.
        schemes: how arrays are to be rounded; by default as those that are quantized.

    Returns:
        What the optimizer sees, and the way back.
    """
    params, state = student.variables
    schemes = schemes_of(params) if schemes is None else schemes
    rules = rules_of(schemes)
    trained = jax.tree.map(_trained_part, params, is_leaf=is_record)
    leaves = jax.tree.leaves(params, is_leaf=is_record)
    indices = [x.indices for x in leaves if isinstance(x, compress.Palette)]
    model = running(student)

    def whole(params_now: Params, indices: list[Any]) -> Tree:
        """With palettes in the place of their values."""
        found = iter(indices)

        def one(old: Any, now: Any) -> Any:
            if not isinstance(old, compress.Palette):
                return now
            return dataclasses.replace(
                old, indices=next(found), centroids=now["centroids"]
            )

        return jax.tree.map(one, params, params_now, is_leaf=is_record)

    def apply(params: Params, state: Tree, batch: Batch, **options: Any) -> Out:
        tree = whole(params, state["indices"])
        rounded = compress.fake_quantize(tree, rules) if rules else tree
        out = model.apply(
            compress.dequantize(rounded), state["model"], batch, **options
        )
        return out._replace(state={**state, "model": out.state})

    def close(variables: Variables) -> Variables:
        tree = whole(variables.params, variables.state["indices"])
        stored = compress.quantize_by_rules(tree, rules) if rules else tree
        return Variables(stored, variables.state["model"])

    start = Variables(trained, {"model": state, "indices": indices})
    return Opened(Model(model.init, apply), start, close)


def _trained_part(leaf: Any) -> Any:
    if isinstance(leaf, compress.Palette):
        return {"centroids": leaf.centroids}
    return compress.dequantize(leaf)


def restore_structure(initial: Tree, found: Tree) -> Tree:
    """Gives a tree that was read from a file the containers that it had.

    Args:
        initial: a tree of the same paths, in its own containers.
        found: nested dicts.

    Returns:
        A tree as ``initial``, if the paths are the same, else ``found``.
    """
    wanted, treedef = jax.tree_util.tree_flatten_with_path(initial, is_leaf=is_record)
    read = jax.tree_util.tree_leaves_with_path(found, is_leaf=is_record)
    leaves = {trees.path_string(path): leaf for path, leaf in read}
    paths = [trees.path_string(path) for path, _ in wanted]
    if sorted(paths) != sorted(leaves):
        return found
    return treedef.unflatten([leaves[path] for path in paths])
