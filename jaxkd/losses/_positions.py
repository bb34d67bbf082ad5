"""What the divergences do before and after their equation."""

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import ClassMask, Logits, PerExample, Where
from jaxkd.losses._common import at_least_float32, inverse_temperature


def prepare(
    student_logits: Logits,
    teacher_logits: Logits,
    temperature: float | Array,
    where: Where | None,
    class_mask: ClassMask | None,
) -> tuple[Array, Array, float | Array]:
    """Checks both logits and masks what does not count.

    Args:
        student_logits: shape ``[*batch, classes]``.
        teacher_logits: same shape.
        temperature: positive, a number or one per position.
        where: the positions that count, shape ``[*batch]``.
        class_mask: the classes that exist, shape ``[classes]``.

    Returns:
        The logits in at least float32, with minus infinity for masked classes and 0 at
        masked positions, and the inverse temperature.

    Raises:
        ValueError: if shapes differ or the temperature is not positive.
        TypeError: if the logits are not floating point.
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    if class_mask is not None:
        _checks.check_class_mask(student_logits, class_mask)
        mask = jnp.broadcast_to(class_mask.astype(bool), s.shape)
        s, t = jnp.where(mask, s, -jnp.inf), jnp.where(mask, t, -jnp.inf)
    if where is not None:
        _checks.check_where(student_logits, where)
        mask = jnp.broadcast_to(where.astype(bool)[..., None], s.shape)
        s, t = jnp.where(mask, s, 0.0), jnp.where(mask, t, 0.0)
    return s, t, scale


def counted(values: PerExample, where: Where | None) -> PerExample:
    """The values, and 0 at the positions that do not count.

    Args:
        values: shape ``[*batch]``.
        where: same shape, or ``None``.

    Returns:
        Shape ``[*batch]``.
    """
    return values if where is None else jnp.where(where.astype(bool), values, 0.0)


def constant(number: float | Array, like: Array) -> float | Array:
    """A hyperparameter in the dtype of the maths, without a gradient.

    Args:
        number: a number or a scalar array.
        like: the array whose dtype it takes.

    Returns:
        The number.
    """
    if isinstance(number, int | float):
        return number
    return lax.stop_gradient(jnp.asarray(number, like.dtype))
