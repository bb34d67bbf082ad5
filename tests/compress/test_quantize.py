import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import compress, trees


def make_params():
    k, c = jax.random.split(jax.random.key(0))
    return {
        "dense": {"kernel": jax.random.normal(k, (16, 8)), "bias": jnp.ones(8)},
        "conv": {"kernel": jax.random.normal(c, (3, 3, 4, 6)) ** 3},
    }


def test_error_is_at_most_half_a_scale():
    params = make_params()
    quantized = compress.quantize(params)
    restored = compress.dequantize(quantized)
    for name in ("dense", "conv"):
        error = jnp.abs(restored[name]["kernel"] - params[name]["kernel"])
        bound = jnp.broadcast_to(quantized[name]["kernel"].scale / 2, error.shape)
        assert jnp.all(error <= bound * (1 + 1e-5))
    np.testing.assert_array_equal(restored["dense"]["bias"], params["dense"]["bias"])


def test_scales_are_per_output_channel_and_values_narrow():
    quantized = compress.quantize(make_params())
    assert quantized["dense"]["kernel"].scale.shape == (1, 8)
    assert quantized["conv"]["kernel"].scale.shape == (1, 1, 1, 6)
    values = quantized["conv"]["kernel"].values
    assert values.dtype == jnp.int8
    largest = jnp.max(jnp.abs(values.astype(jnp.int32)), axis=(0, 1, 2))
    np.testing.assert_array_equal(largest, 127)


def test_zeros_stay_zero_and_a_channel_of_zeros_has_scale_one():
    kernel = jnp.array([[0.0, 0.0, 2.0], [1.0, 0.0, -4.0]])
    quantized = compress.quantize({"kernel": kernel})["kernel"]
    np.testing.assert_allclose(quantized.scale, [[1 / 127, 1.0, 4 / 127]], rtol=1e-6)
    restored = compress.dequantize(quantized)
    np.testing.assert_array_equal(restored == 0, kernel == 0)


def test_quantizing_what_was_dequantized_changes_nothing():
    once = compress.quantize(make_params())
    twice = compress.quantize(compress.dequantize(once))
    np.testing.assert_array_equal(
        once["dense"]["kernel"].values, twice["dense"]["kernel"].values
    )


def test_a_quarter_of_the_bytes():
    kernel = {"kernel": jnp.ones((1024, 64))}
    assert trees.num_bytes(compress.quantize(kernel)) == 1024 * 64 + 4 * 64


def test_works_under_jit():
    params = make_params()
    restored = jax.jit(lambda p: compress.dequantize(compress.quantize(p)))(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        restored,
        compress.dequantize(compress.quantize(params)),
    )


def test_quantizing_twice_is_an_error():
    once = compress.quantize(make_params())
    with pytest.raises(ValueError, match="'conv/kernel' is quantized already"):
        compress.quantize(once)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="'kernel' is not finite"):
        compress.quantize({"kernel": jnp.array([[1.0, jnp.nan], [2.0, 3.0]])})


def test_integers_are_refused():
    with pytest.raises(TypeError, match="'kernel' must be floating point"):
        compress.quantize({"kernel": jnp.ones((2, 2), jnp.int32)})
