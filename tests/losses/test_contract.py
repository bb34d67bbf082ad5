"""What every loss must satisfy: one table of losses, one test a law.

To add a loss, add its row; `test_every_public_loss_has_a_row` notices if you forget.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.test_util import check_grads

from jaxkd import losses

BATCH, CLASSES = 6, 5
NOT_LOSSES = {"Mean", "masked_mean"}


class Row(NamedTuple):
    """One loss, as `fn(student_logits, reference, **kwargs)`."""

    fn: Callable[..., jax.Array]
    kwargs: dict[str, Any] = {}
    labels: bool = False  # the reference is labels, not teacher logits
    couples: bool = False  # one scalar for the whole batch
    zero_at_equality: bool = True


ROWS = {
    "soft_target_kl": Row(losses.soft_target_kl, {"temperature": 2.0}),
    "cross_entropy": Row(losses.cross_entropy, labels=True, zero_at_equality=False),
    "logit_mse": Row(losses.logit_mse),
}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def inputs(row, seed=0, dtype=jnp.float32, scale=1.0):
    s, t = jax.random.split(jax.random.key(seed))
    student = scale * jax.random.normal(s, (BATCH, CLASSES))
    if row.labels:
        return student.astype(dtype), jax.random.randint(t, (BATCH,), 0, CLASSES)
    teacher = scale * jax.random.normal(t, (BATCH, CLASSES))
    return student.astype(dtype), teacher.astype(dtype)


def call(row, student, reference):
    return row.fn(student, reference, **row.kwargs)


def gradient(row, student, reference):
    return jax.grad(lambda s: jnp.sum(call(row, s, reference)))(student)


def test_every_public_loss_has_a_row():
    assert set(ROWS) == set(losses.__all__) - NOT_LOSSES


@rows
def test_gives_one_value_per_example(row):
    shape = () if row.couples else (BATCH,)
    assert call(row, *inputs(row)).shape == shape


@rows
def test_jit_agrees_with_eager(row):
    arguments = inputs(row)
    jitted = jax.jit(lambda s, t: call(row, s, t))
    np.testing.assert_allclose(
        jitted(*arguments), call(row, *arguments), rtol=1e-6, atol=1e-7
    )


@rows
def test_batch_is_vmap_of_examples(row):
    if row.couples:
        pytest.skip("couples the examples of a batch")
    arguments = inputs(row)
    one_by_one = jax.vmap(lambda s, t: call(row, s, t))(*arguments)
    np.testing.assert_allclose(one_by_one, call(row, *arguments), rtol=1e-6, atol=1e-7)


@rows
def test_follows_a_permutation_of_the_batch(row):
    student, reference = inputs(row)
    order = jnp.array([3, 1, 5, 0, 2, 4])
    value = call(row, student, reference)
    expected = value if row.couples else value[order]
    np.testing.assert_allclose(
        call(row, student[order], reference[order]), expected, rtol=1e-5, atol=1e-7
    )


@rows
def test_is_zero_when_student_equals_teacher(row):
    if not row.zero_at_equality:
        pytest.skip("has its minimum elsewhere, or above zero")
    student, _ = inputs(row)
    np.testing.assert_allclose(call(row, student, student), 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient(row, student, student), 0.0, atol=1e-6)


@rows
def test_gradient_equals_finite_differences(row):
    with jax.enable_x64(True):
        student, reference = inputs(row, dtype=jnp.float64)
        check_grads(
            lambda s: jnp.sum(call(row, jnp.asarray(s), reference)),
            (student,),
            order=1,
            modes=["rev"],
            rtol=1e-6,
            atol=1e-6,
            eps=1e-5,
        )


@rows
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_is_finite_at_extremes(row, scale):
    arguments = inputs(row, scale=scale)
    assert jnp.all(jnp.isfinite(call(row, *arguments)))
    assert jnp.all(jnp.isfinite(gradient(row, *arguments)))


@rows
def test_masked_classes_are_as_if_absent(row):
    student, reference = inputs(row)
    masked = jnp.full((BATCH, 1), -jnp.inf)
    more_student = jnp.concatenate([student, masked], axis=1)
    more = reference if row.labels else jnp.concatenate([reference, masked], axis=1)
    value, grads = call(row, more_student, more), gradient(row, more_student, more)
    assert jnp.all(jnp.isfinite(value))
    assert jnp.all(jnp.isfinite(grads))
    np.testing.assert_array_equal(grads[:, -1], 0.0)
    if row.fn is not losses.logit_mse:  # a mean over all classes, masked ones too
        np.testing.assert_allclose(value, call(row, student, reference), rtol=1e-6)


@rows
def test_shapes_are_never_broadcast(row):
    student, reference = inputs(row)
    for wrong in (reference[:1], reference[None]):
        with pytest.raises((ValueError, TypeError)):
            call(row, student, wrong)


@rows
def test_half_precision_in_gives_float32_out(row):
    student, reference = inputs(row, dtype=jnp.bfloat16)
    value = call(row, student, reference)
    assert value.dtype == jnp.float32
    exact = call(
        row,
        student.astype(jnp.float32),
        reference if row.labels else reference.astype(jnp.float32),
    )
    np.testing.assert_array_equal(value, exact)


@pytest.mark.own_checks
@rows
def test_integer_logits_are_refused(row):
    student, reference = inputs(row)
    with pytest.raises(TypeError, match="floating point"):
        call(row, student.astype(jnp.int32), reference)
