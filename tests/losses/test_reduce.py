import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import losses


def test_parts_add_to_the_mean_of_the_whole():
    values = jnp.arange(7.0)
    where = jnp.array([1, 1, 0, 1, 0, 1, 1], bool)
    first = losses.masked_mean(values[:2], where[:2])
    second = losses.masked_mean(values[2:], where[2:])
    whole = (0 + 1 + 3 + 5 + 6) / 5
    np.testing.assert_allclose((first + second).value, whole)
    assert (first.value + second.value) / 2 != whole


def test_nothing_that_counts_gives_zero_and_a_zero_gradient():
    values, where = jnp.ones(3), jnp.zeros(3, bool)
    mean = lambda v: losses.masked_mean(v, where).value
    assert mean(values) == 0.0
    np.testing.assert_array_equal(jax.grad(mean)(values), 0.0)


def test_what_does_not_count_may_be_nan():
    where = jnp.array([True, False])
    mean = lambda v: losses.masked_mean(v, where).value
    assert mean(jnp.array([2.0, jnp.nan])) == 2.0
    np.testing.assert_array_equal(jax.grad(mean)(jnp.array([2.0, jnp.nan])), [1.0, 0.0])


def test_sums_over_devices_give_the_global_mean():
    values = jnp.arange(16.0).reshape(8, 2)
    where = jnp.arange(16).reshape(8, 2) % 3 == 0

    def local(v, w):
        return jax.lax.psum(losses.masked_mean(v, w), "i").value

    across = jax.pmap(local, axis_name="i")(values, where)
    np.testing.assert_allclose(across, np.full(8, values[where].mean()))


@pytest.mark.own_checks
def test_mask_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match="`where` has shape"):
        losses.masked_mean(jnp.ones((2, 3)), jnp.ones(2, bool))


def test_sequence_mean_and_token_mean_differ():
    values = jnp.array([[1.0, 1.0, 1.0, 1.0], [5.0, jnp.nan, jnp.nan, jnp.nan]])
    where = jnp.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)
    assert losses.sequence_mean(values, where).value == 3.0
    np.testing.assert_allclose(losses.masked_mean(values, where).value, 9 / 5)


def test_sequences_of_which_nothing_counts_are_not_counted():
    values, where = jnp.ones((3, 2)), jnp.array([[1, 1], [0, 0], [1, 0]], bool)
    mean = losses.sequence_mean(values, where)
    assert (mean.total, mean.count) == (2.0, 2.0)
    nothing = lambda v: losses.sequence_mean(v, jnp.zeros((3, 2), bool)).value
    assert nothing(values) == 0.0
    np.testing.assert_array_equal(jax.grad(nothing)(values), 0.0)


def test_sequence_means_of_parts_add_up():
    values, where = jnp.arange(12.0).reshape(4, 3), jnp.arange(12).reshape(4, 3) % 5 > 1
    parts = losses.sequence_mean(values[:1], where[:1]) + losses.sequence_mean(
        values[1:], where[1:]
    )
    whole = losses.sequence_mean(values, where)
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-6)


def test_weights_count_as_repetitions():
    values, weights = jnp.array([1.0, 4.0, jnp.nan]), jnp.array([1.0, 2.0, 0.0])
    assert losses.weighted_mean(values, weights).value == 3.0
    nothing = lambda v: losses.weighted_mean(v, jnp.zeros(3)).value
    assert nothing(values) == 0.0
    np.testing.assert_array_equal(jax.grad(nothing)(values), 0.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_means_of_half_precision_add_and_count_in_float32(dtype):
    values, some = jnp.ones((2, 3001), dtype), jnp.arange(6002).reshape(2, 3001) > 0
    for mean, count in (
        (losses.masked_mean(values, some), 6001),
        (losses.weighted_mean(values, some.astype(dtype)), 6001),
        (losses.sequence_mean(values, some), 2),
    ):
        assert (mean.total.dtype, mean.count.dtype) == (jnp.float32, jnp.float32)
        assert (mean.total, mean.count, mean.value) == (count, count, 1.0)
