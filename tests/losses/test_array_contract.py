"""What every loss on features must satisfy: one table of losses, one test a law.

To add a loss, add its row to a `rows_*.py`; `test_every_public_loss_has_a_row`, in
`test_contract.py`, notices if you forget.
"""

import jax
import numpy as np
import pytest
from array_contract import ARRAY_ROWS
from array_row import (
    BATCH,
    FIXED,
    arguments,
    by_example,
    call,
    equal,
    gradient,
    replaced,
    value_and_slopes,
)
from jax import numpy as jnp
from jax.sharding import PartitionSpec
from jax.test_util import check_grads

from jaxkd import losses

DEVICES = 4
TIMES = 1 + 2 * DEVICES // BATCH  # batches to have two examples for each device


def rows_where(holds):
    chosen = {name: row for name, row in ARRAY_ROWS.items() if holds(row)}
    return pytest.mark.parametrize("row", chosen.values(), ids=chosen.keys())


rows = rows_where(lambda row: True)
one_by_one = rows_where(lambda row: not row.scalar)
coupling = rows_where(lambda row: row.scalar)


def assert_finite(row, made):
    value, slopes = value_and_slopes(row, made)
    assert jnp.all(jnp.isfinite(value))
    assert all(jnp.all(jnp.isfinite(slope)) for slope in slopes)


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
    )


def more_examples(row):
    """Arguments of a batch of `2 * DEVICES` examples."""
    batches = [arguments(row, seed) for seed in range(TIMES)]
    joined = []
    for name, *parts in zip(row.names, *batches, strict=True):
        fixed = name in FIXED
        whole = parts[0] if fixed else jnp.concatenate(parts)[: 2 * DEVICES]
        joined.append(whole)
    return joined


def test_the_name_of_a_row_is_that_of_its_function():
    for name, row in ARRAY_ROWS.items():
        assert getattr(losses, name.partition(",")[0]) is row.fn


@rows
def test_gives_one_value_per_example_or_one_for_the_batch(row):
    assert call(row, arguments(row)).shape == (() if row.scalar else (BATCH,))


@rows
def test_jit_agrees_with_eager(row):
    made = arguments(row)
    assert_close(jax.jit(lambda *a: call(row, a))(*made), call(row, made))


@one_by_one
def test_batch_is_vmap_of_examples(row):
    made = arguments(row)
    axes = [None if name in FIXED else 0 for name in row.names]
    alone = lambda *a: call(row, by_example(row, a, lambda x: x[None]))[0]
    assert_close(jax.vmap(alone, in_axes=axes)(*made), call(row, made))


@rows
def test_follows_a_permutation_of_the_batch(row):
    if row.ordered:
        pytest.skip("depends on the order of the examples")
    made = arguments(row)
    order = jnp.array([3, 1, 0, 2])
    value = call(row, made)
    expected = value if row.scalar else value[order]
    assert_close(call(row, by_example(row, made, lambda x: x[order])), expected)


@rows_where(lambda row: row.zero_at_equality)
def test_is_zero_when_student_equals_teacher(row):
    # Eagerly: compiled, both sides may be rounded in two ways, and where a loss has a
    # kink the gradient of the least gap is as large as any.
    made = equal(row, arguments(row))
    slopes = gradient(row, made)
    assert_close(call(row, made), 0.0, atol=row.atol)
    assert_close(slopes, [0.0] * len(slopes), atol=row.atol)


@rows
def test_is_not_zero_elsewhere(row):
    value, slopes = value_and_slopes(row, arguments(row))
    assert jnp.all(value != 0)
    assert all(jnp.any(slope != 0) for slope in slopes)


@rows_where(lambda row: not row.held)
def test_gradient_equals_finite_differences(row):
    with jax.enable_x64(True):
        made = arguments(row, dtype=jnp.float64)
        places = row.places("student")
        loss = lambda *students: jnp.sum(
            call(row, replaced(made, places, map(jnp.asarray, students)))
        )
        students = tuple(made[i] for i in places)
        check_grads(
            jax.jit(loss), students, order=1, modes=["fwd", "rev"], rtol=1e-6, eps=1e-5
        )


@rows
def test_double_precision_in_gives_double_precision_out(row):
    with jax.enable_x64(True):
        value, slopes = value_and_slopes(row, arguments(row, dtype=jnp.float64))
        assert value.dtype == jnp.float64
        assert all(slope.dtype == jnp.float64 for slope in slopes)


@rows
def test_half_precision_in_gives_float32_out(row):
    half = arguments(row, dtype=jnp.bfloat16)
    widen = lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
    wide = jax.tree.map(widen, half)
    assert call(row, half).dtype == jnp.float32
    assert_close(call(row, half), call(row, wide))


@rows
@pytest.mark.parametrize("scale", [1e4, 1e-4, 0.0])
def test_is_finite_at_extremes(row, scale):
    assert_finite(row, arguments(row, scale=scale))


@rows
def test_is_finite_where_only_the_student_or_only_the_teacher_is_zero(row):
    made = arguments(row)
    for side in ("student", "teacher"):
        places = row.places(side)
        assert_finite(row, replaced(made, places, [0 * made[i] for i in places]))


@rows
def test_is_finite_at_a_perfect_match(row):
    made = arguments(row)
    widths = {made[i].shape[-1] for i in row.places("student", "teacher")}
    if "record" in row.names and len(widths) > 1:
        pytest.skip("each side's width is that of its memory")
    assert_finite(row, equal(row, made))


@rows
def test_is_finite_for_constant_channels(row):
    constant = lambda x: (
        jnp.ones_like(x)
        * x.reshape(-1, x.shape[-1])[0].reshape((1,) * (x.ndim - 1) + (-1,))
    )
    made, places = arguments(row), row.places("student", "teacher")
    assert_finite(row, replaced(made, places, [constant(made[i]) for i in places]))


@rows
def test_is_finite_for_examples_that_are_all_the_same(row):
    same = lambda x: jnp.concatenate([x[:1]] * BATCH)
    assert_finite(row, by_example(row, arguments(row), same))


@rows
def test_shapes_are_never_broadcast(row):
    made = arguments(row)
    for i, x in enumerate(made):
        if row.names[i] == "record" or (row.names[i] == "shared" and x.ndim == 0):
            continue
        for wrong in (x[:1], x[None]):
            with pytest.raises((ValueError, TypeError)):
                call(row, replaced(made, [i], [wrong]))


@pytest.mark.own_checks
@rows
def test_integer_features_are_refused(row):
    made = arguments(row)
    for i in row.places("student", "teacher"):
        with pytest.raises(TypeError, match="floating point"):
            call(row, replaced(made, [i], [made[i].astype(jnp.int32)]))


@coupling
def test_masked_examples_are_as_if_absent(row):
    made = arguments(row)
    where = jnp.array([True, True, False, True])
    spoil = lambda x: (
        x.at[2].set(jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x
    )
    spoiled = by_example(row, made, spoil)
    fewer = by_example(row, made, lambda x: x[where])
    assert_close(call(row, spoiled, where=where), call(row, fewer))
    for slope, expected in zip(
        gradient(row, spoiled, where=where), gradient(row, fewer), strict=True
    ):
        assert_close(slope[where], expected)
        np.testing.assert_array_equal(slope[2], 0.0)


@coupling
def test_no_mask_is_a_mask_of_all_and_no_example_gives_no_gradient(row):
    made = arguments(row)
    everything, nothing = jnp.ones(BATCH, bool), jnp.zeros(BATCH, bool)
    assert_close(call(row, made, where=everything), call(row, made))
    assert jnp.isfinite(call(row, made, where=nothing))
    if row.zero_where_nothing_counts:
        assert call(row, made, where=nothing) == 0
    for slope in gradient(row, made, where=nothing):
        np.testing.assert_array_equal(slope, 0.0)


@coupling
def test_a_mask_of_another_shape_is_refused(row):
    for wrong in (jnp.ones(BATCH - 1, bool), jnp.ones((BATCH, 1), bool)):
        with pytest.raises(ValueError, match="where"):
            call(row, arguments(row), where=wrong)


@coupling
@pytest.mark.slow
def test_over_vmapped_devices_it_is_that_of_the_global_batch(row):
    made = more_examples(row)
    where = jnp.arange(2 * DEVICES) % 5 != 3
    split = lambda x: x.reshape(DEVICES, -1, *x.shape[1:])
    axes = [None if name in FIXED else 0 for name in row.names]
    places = row.places("student")

    def devices_mean(students):
        parts = by_example(row, replaced(made, places, students), split)
        on_one = lambda where, *a: call(row, a, where=where, axis_name="devices")
        mapped = jax.vmap(on_one, in_axes=[0, *axes], axis_name="devices")
        values = mapped(split(where), *parts)
        return values.mean(), values

    students = [made[i] for i in places]
    slopes, values = jax.jit(jax.grad(devices_mean, has_aux=True))(students)
    assert_close(values, jnp.full(DEVICES, call(row, made, where=where)))
    assert_close(slopes, gradient(row, made, where=where))


@coupling
def test_over_sharded_devices_it_is_that_of_the_global_batch(row):
    made = more_examples(row)
    mesh = jax.make_mesh(
        (DEVICES,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    sharded, whole = PartitionSpec("devices"), PartitionSpec()
    specs = tuple(whole if name in FIXED else sharded for name in row.names)
    on_one = lambda *a: call(row, a, axis_name="devices")[None]
    run = jax.jit(jax.shard_map(on_one, mesh=mesh, in_specs=specs, out_specs=sharded))
    assert_close(run(*made), jnp.full(DEVICES, call(row, made)))
