"""Input checks shared by all floors; on arrays they run at trace time, at no cost."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import core, numpy as jnp
from jaxtyping import Array


def check_same_shape(**arrays: Array | np.ndarray) -> None:
    """Raises unless all named arrays have one shape.

    Args:
        **arrays: the arrays, under the names by which the caller knows them.

    Raises:
        ValueError: if two shapes differ; the message names both arguments.
    """
    (first, reference), *rest = arrays.items()
    for name, array in rest:
        if array.shape != reference.shape:
            raise ValueError(
                f"`{name}` has shape {array.shape}, but `{first}` has shape "
                f"{reference.shape}; they must be equal."
            )


def check_floating(**arrays: Array) -> None:
    """Raises unless all named arrays are floating point.

    Args:
        **arrays: the arrays, under the names by which the caller knows them.

    Raises:
        TypeError: if an array is not floating point.
    """
    for name, array in arrays.items():
        if not jnp.issubdtype(jnp.result_type(array), jnp.floating):
            raise TypeError(
                f"`{name}` must be floating point, got {jnp.result_type(array)}."
            )


def check_logits(student_logits: Array, teacher_logits: Array) -> None:
    """Raises unless both are floating point, of one shape, with a class axis.

    Args:
        student_logits: shape ``[*batch, classes]``.
        teacher_logits: same shape.

    Raises:
        TypeError: if either is not floating point.
        ValueError: if the shapes differ or have no class axis.
    """
    check_floating(student_logits=student_logits, teacher_logits=teacher_logits)
    if student_logits.ndim and teacher_logits.ndim:
        s, t = student_logits.shape[-1], teacher_logits.shape[-1]
        if s != t:
            raise ValueError(
                f"`student_logits` has {s} classes (its last axis), but "
                f"`teacher_logits` has {t}; distillation needs the same classes."
            )
    check_same_shape(student_logits=student_logits, teacher_logits=teacher_logits)
    if student_logits.ndim == 0 or student_logits.shape[-1] == 0:
        raise ValueError(
            "`student_logits` needs a last axis of classes, got shape "
            f"{student_logits.shape}."
        )


def check_features(student: Array, teacher: Array) -> None:
    """Raises unless both are floating point, of one batch, with a last axis.

    Args:
        student: shape ``[batch, ..., channels]``.
        teacher: the same batch; all other axes may differ.

    Raises:
        TypeError: if either is not floating point.
        ValueError: if an axis is missing or empty, or the batches differ.
    """
    check_floating(student=student, teacher=teacher)
    for name, x in {"student": student, "teacher": teacher}.items():
        if x.ndim < 2 or 0 in x.shape[1:]:
            raise ValueError(
                f"`{name}` must have shape [batch, ..., channels] with no empty axis, "
                f"got {x.shape}."
            )
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f"`student` has {student.shape[0]} examples (its first axis), but "
            f"`teacher` has {teacher.shape[0]}; they must be of the same batch."
        )


def check_same_axes(student: Array, teacher: Array, axes: slice, what: str) -> None:
    """Raises unless some axes of two arrays agree.

    Args:
        student: an array.
        teacher: an array.
        axes: which axes.
        what: what they are, for the message.

    Raises:
        ValueError: if they differ.
    """
    s, t = student.shape[axes], teacher.shape[axes]
    if s != t:
        raise ValueError(
            f"`student` has {what} {s}, but `teacher` has {t} (shapes {student.shape} "
            f"and {teacher.shape}); they must be equal."
        )


def check_shape(shape: tuple[int, ...], **arrays: Array) -> None:
    """Raises unless all named arrays have a shape.

    Args:
        shape: the shape wanted.
        **arrays: the arrays, under the names by which the caller knows them.

    Raises:
        ValueError: if an array has another.
    """
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"`{name}` must have shape {shape}, got {array.shape}.")


def check_labels(logits: Array, labels: Array) -> None:
    """Raises unless labels are integers, one for each row of the logits, in range.

    The range can be checked on concrete arrays only; under ``jit`` it is skipped.

    Args:
        logits: shape ``[*batch, classes]``.
        labels: integers in ``[0, classes)``, shape ``[*batch]``.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if the shapes do not fit or a label is out of range.
    """
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"`labels` must be integers, got {jnp.result_type(labels)}.")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"`labels` has shape {labels.shape}, but the logits, of shape "
            f"{logits.shape}, need labels of shape {logits.shape[:-1]}."
        )
    check_label_range(labels, logits.shape[-1])


def check_label_range(labels: Array, num_classes: int) -> None:
    """Raises if a concrete label is outside ``[0, num_classes)``.

    Args:
        labels: integers of any shape; a traced array passes unseen.
        num_classes: the number of classes.

    Raises:
        ValueError: naming the first bad label and where it is.
    """
    if isinstance(labels, core.Tracer) or labels.size == 0:
        return
    flat = np.asarray(labels).reshape(-1)  # numpy: jnp would trace inside a jit
    bad = (flat < 0) | (flat >= num_classes)
    if bad.any():
        where = int(bad.argmax())
        raise ValueError(
            f"label {int(flat[where])} at position {where} is outside "
            f"[0, {num_classes})."
        )


def check_positive(**numbers: Any) -> None:
    """Raises unless all named numbers are above zero; traced values pass unseen.

    Args:
        **numbers: the numbers, under the names by which the caller knows them.

    Raises:
        ValueError: if a number is not positive.
    """
    for name, number in numbers.items():
        if isinstance(number, jax.Array):
            continue
        if not number > 0:
            raise ValueError(f"`{name}` must be positive, got {number}.")


def check_where(
    logits: Array | np.ndarray, where: Array | np.ndarray, *, name: str = "where"
) -> None:
    """Raises unless the mask has one entry for each row of the logits.

    Args:
        logits: shape ``[*batch, classes]``.
        where: shape ``[*batch]``.
        name: what the caller calls it.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if where.shape != logits.shape[:-1]:
        raise ValueError(
            f"`{name}` has shape {where.shape}, but the logits, of shape "
            f"{logits.shape}, need one of shape {logits.shape[:-1]}."
        )


def check_ids(logits: Array, ids: Array) -> None:
    """Raises unless the ids are integers, some for each row of the logits, in range.

    Args:
        logits: shape ``[*batch, classes]``.
        ids: integers in ``[0, classes)``, shape ``[*batch, k]``; their range is
            checked on concrete arrays only.

    Raises:
        TypeError: if the ids are not integers.
        ValueError: if the shapes do not fit or an id is out of range.
    """
    if not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise TypeError(f"`teacher_ids` must be integers, got {jnp.result_type(ids)}.")
    if ids.ndim != logits.ndim or ids.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"`teacher_ids` has shape {ids.shape}, but the logits, of shape "
            f"{logits.shape}, need one of shape {(*logits.shape[:-1], 'k')}."
        )
    check_label_range(ids, logits.shape[-1])


def check_class_mask(logits: Array, class_mask: Array) -> None:
    """Raises unless the mask has one boolean for each class.

    Args:
        logits: shape ``[*batch, classes]``.
        class_mask: shape ``[classes]``.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if class_mask.shape != logits.shape[-1:]:
        raise ValueError(
            f"`class_mask` has shape {class_mask.shape}, but the logits, of shape "
            f"{logits.shape}, need one of shape {logits.shape[-1:]}."
        )


def check_fraction(**numbers: Any) -> None:
    """Raises unless all named numbers are in ``[0, 1]``; arrays pass unseen.

    Args:
        **numbers: the numbers, under the names by which the caller knows them.

    Raises:
        ValueError: if a number is outside.
    """
    for name, number in numbers.items():
        if isinstance(number, int | float) and not 0.0 <= number <= 1.0:
            raise ValueError(f"`{name}` must be in [0, 1], got {number}.")


def check_inside_unit_interval(**numbers: Any) -> None:
    """Raises unless all named numbers are inside ``(0, 1)``; arrays pass unseen.

    Args:
        **numbers: the numbers, under the names by which the caller knows them.

    Raises:
        ValueError: if a number is 0, 1 or outside.
    """
    for name, number in numbers.items():
        if isinstance(number, int | float) and not 0.0 < number < 1.0:
            raise ValueError(
                f"`{name}` must be strictly between 0 and 1, got {number}."
            )


def check_sparsity(sparsity: Any) -> None:
    """Raises unless the fraction of zeros is one number in ``[0, 1)``.

    Args:
        sparsity: the fraction asked for, a number or a concrete array of one.

    Raises:
        ValueError: if it is outside, or not one number.
    """
    if not is_number(sparsity):
        shape = np.shape(sparsity)
        got = f"shape {shape}" if shape else repr(sparsity)
        raise ValueError(f"`sparsity` must be one number, got {got}.")
    if not 0.0 <= float(np.asarray(sparsity)) < 1.0:  # jnp would trace inside a jit
        raise ValueError(
            f"`sparsity` is the fraction of zeros and must be in [0, 1), "
            f"got {sparsity}."
        )


def is_number(x: Any) -> bool:
    """Whether it is one real number, of Python, numpy or a concrete array."""
    return np.ndim(x) == 0 and np.asarray(x).dtype.kind not in "bcOSU"


def check_batch_type(batch: Any, name: str = "a batch") -> None:
    """Raises unless something is a dict of arrays, as every batch is.

    Args:
        batch: what was given.
        name: what it was given as, for the message.

    Raises:
        TypeError: if it is no mapping.
    """
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"{name} must be a dict of arrays, such as {{'x': x, 'label': y}}, got a "
            f"{type(batch).__name__}."
        )
