"""What every loss must satisfy: one table of losses, one test a law.

To add a loss, add its row; `test_every_public_loss_has_a_row` notices if you forget.
"""

import jax
import numpy as np
import pytest
from array_contract import ARRAY_NAMES
from contract_rows import (
    ALLOWED,
    BATCH,
    HELD,
    LIMIT,
    NOT_LOSSES,
    ROWS,
    call,
    gradient,
    inputs,
    logits,
    rest,
    wide_rest,
)
from jax import numpy as jnp
from jax.test_util import check_grads

from jaxkd import losses

rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def test_every_public_loss_has_a_row():
    assert set(ROWS) == set(losses.__all__) - NOT_LOSSES - ARRAY_NAMES
    assert set(losses.__all__) >= ARRAY_NAMES


@rows
def test_gives_one_value_per_example(row):
    shape = () if row.scalar else (BATCH,)
    assert call(row, *inputs(row)).shape == shape


@rows
def test_jit_agrees_with_eager(row):
    arguments = inputs(row)
    jitted = jax.jit(lambda *a: call(row, *a))
    np.testing.assert_allclose(
        jitted(*arguments), call(row, *arguments), rtol=1e-5, atol=1e-6
    )


@rows
def test_batch_is_vmap_of_examples(row):
    if row.couples:
        pytest.skip("couples the examples of a batch")
    arguments = inputs(row)
    one_by_one = jax.vmap(lambda *a: call(row, *a))(*arguments)
    np.testing.assert_allclose(one_by_one, call(row, *arguments), rtol=1e-5, atol=1e-6)


@rows
def test_batch_may_have_any_number_of_axes(row):
    arguments = inputs(row)
    flat = call(row, *arguments)
    grid = [x.reshape(2, BATCH // 2, *x.shape[1:]) for x in arguments]
    expected = flat if row.scalar else flat.reshape(2, BATCH // 2)
    np.testing.assert_allclose(call(row, *grid), expected, rtol=1e-5, atol=1e-6)


@rows
def test_follows_a_permutation_of_the_batch(row):
    arguments = inputs(row)
    order = jnp.array([3, 1, 5, 0, 2, 4])
    value = call(row, *arguments)
    expected = value if row.scalar else value[order]
    np.testing.assert_allclose(
        call(row, *(x[order] for x in arguments)), expected, rtol=1e-5, atol=1e-6
    )


@rows
def test_is_zero_when_student_equals_teacher(row):
    if not row.zero_at_equality:
        pytest.skip("has its minimum elsewhere, or above zero")
    student, _ = logits()
    others = rest(row, student)
    np.testing.assert_allclose(call(row, student, *others), 0.0, atol=2e-6)
    np.testing.assert_allclose(gradient(row, student, *others), 0.0, atol=2e-6)


@pytest.mark.parametrize("name", sorted(set(ROWS) - HELD))
def test_gradient_equals_finite_differences(name):
    row = ROWS[name]
    with jax.enable_x64(True):
        student, *others = inputs(row, dtype=jnp.float64)
        loss = lambda s: jnp.sum(call(row, jnp.asarray(s), *others))
        check_grads(
            loss, (student,), order=1, modes=["fwd", "rev"], rtol=1e-6, eps=1e-5
        )


@rows
def test_double_precision_in_gives_double_precision_out(row):
    with jax.enable_x64(True):
        assert call(row, *inputs(row, dtype=jnp.float64)).dtype == jnp.float64


@rows
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_is_finite_at_extremes(row, scale):
    arguments = inputs(row, scale=scale)
    assert jnp.all(jnp.isfinite(call(row, *arguments)))
    assert jnp.all(jnp.isfinite(gradient(row, *arguments)))


@rows
def test_masked_classes_are_as_if_absent(row):
    student, teacher = logits()
    masked = jnp.full((BATCH, 1), -jnp.inf)
    more_student, more = (jnp.concatenate([x, masked], 1) for x in (student, teacher))
    others = rest(row, teacher)
    more_others = rest_with_mask(row, teacher, more)
    value = call(row, more_student, *more_others)
    grads = gradient(row, more_student, *more_others)
    assert jnp.all(jnp.isfinite(value))
    assert jnp.all(jnp.isfinite(grads))
    np.testing.assert_array_equal(grads[:, -1], 0.0)
    if not row.counts_masked:
        np.testing.assert_allclose(
            value, call(row, student, *others), rtol=1e-5, atol=1e-6
        )


def rest_with_mask(row, teacher, more):
    """As `rest`, with one more class of which nothing is known."""
    found = rest(row, teacher)
    for i, name in enumerate(row.rest.split()):
        if name == "teacher":
            found[i] = more
        if name == "soft_labels":
            found[i] = jnp.pad(found[i], ((0, 0), (0, 1)))
    return found


@rows
def test_shapes_are_never_broadcast(row):
    student, *others = inputs(row)
    for i, other in enumerate(others):
        for wrong in (other[:1], other[None]):
            if wrong.ndim == 1 and wrong.shape == other.shape:
                continue
            with pytest.raises((ValueError, TypeError)):
                call(row, student, *others[:i], wrong, *others[i + 1 :])


@rows
def test_half_precision_in_gives_float32_out(row):
    arguments = inputs(row, dtype=jnp.bfloat16)
    value = call(row, *arguments)
    assert value.dtype == jnp.float32
    wide = [
        x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
        for x in arguments
    ]
    np.testing.assert_allclose(value, call(row, *wide), rtol=1e-6, atol=1e-6)


@pytest.mark.own_checks
@rows
def test_integer_logits_are_refused(row):
    student, *others = inputs(row)
    with pytest.raises(TypeError, match="floating point"):
        call(row, student.astype(jnp.int32), *others)


@pytest.mark.parametrize("function", [call, gradient])
@pytest.mark.parametrize("name", ROWS)
def test_keeps_no_more_than_two_arrays_of_the_size_of_the_logits(name, function):
    assert stored_arrays(function, ROWS[name]) <= ALLOWED.get(name, LIMIT)


def stored_arrays(function, row):
    """Temporary memory of the compiled function, in arrays of the logits' size."""
    wide = jnp.zeros((256, 1000))
    arguments = [wide, *wide_rest(row, wide)]
    compiled = jax.jit(lambda *a: function(row, *a)).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes / wide.nbytes
