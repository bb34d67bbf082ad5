"""Formats, schemes and rules: what is stored, how exact it is, and what is refused."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import numpy as jnp

from jaxkd import compress, trees

SYMMETRIC = [compress.INT8, compress.INT4, compress.INT2]
FORMATS = [
    *SYMMETRIC,
    compress.AFFINE8,
    compress.AFFINE4,
    compress.NF4,
    compress.BINARY,
    compress.Format(3, -4, 3, 3.5),
    compress.Format(8, 0, 255, 255.0, affine=True),
    compress.Format(5, -15, 15, 15.0),
]


def make(shape=(16, 6), seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(16, 6), (7, 3), (3, 3, 4, 5), (5,)])
def test_what_is_stored_is_what_comes_back(format, shape):
    x = make(shape)
    small = compress.quantize_array(x, compress.Scheme(format))
    integers = small.integers()
    assert integers.shape == small.shape == shape
    assert integers.min() >= format.lower
    assert integers.max() <= format.upper
    again = compress.quantize_array(compress.dequantize(small), compress.Scheme(format))
    if format.bound == format.upper and not format.affine:  # the largest is on the grid
        np.testing.assert_array_equal(again.integers(), integers)


@pytest.mark.parametrize(
    ("format", "bytes"),
    [
        *((compress.INT8, 96), (compress.INT4, 48), (compress.NF4, 48)),
        *((compress.INT2, 24), (compress.BINARY, 12)),
    ],
)
def test_bits_are_packed(format, bytes):
    small = compress.quantize_array(make(), compress.Scheme(format))
    assert trees.num_bytes(small.values) == bytes


@pytest.mark.parametrize("format", [*SYMMETRIC, compress.AFFINE8, compress.AFFINE4])
@pytest.mark.parametrize("tile", [None, 4])
@pytest.mark.parametrize("axis", [-1, 0, (), (0, 1)])
def test_the_error_is_half_a_scale_and_zero_stays_zero(format, tile, axis):
    if axis == (0, 1) and tile:
        pytest.skip("no axis is left to tile")
    x = make((8, 12)).at[2, 3].set(0.0)
    small = compress.quantize_array(x, compress.Scheme(format, axis, tile))
    restored = compress.dequantize(small)
    for i in range(2):
        assert small.scale.shape[i] in (1, x.shape[i], x.shape[i] // (tile or 1))
    scale = small.scale
    for i in range(2):
        scale = jnp.repeat(scale, x.shape[i] // scale.shape[i], axis=i)
    slack = 1.0 if format.affine else 0.5  # the zero point is rounded too
    assert jnp.all(jnp.abs(restored - x) <= slack * scale * (1 + 1e-5))
    assert restored[2, 3] == 0


def test_smaller_tiles_are_more_exact():
    x = make((64, 8)) ** 3
    error = lambda tile: float(
        jnp.mean(
            (
                compress.dequantize(
                    compress.quantize_array(
                        x, compress.Scheme(compress.INT4, tile=tile)
                    )
                )
                - x
            )
            ** 2
        )
    )
    assert error(8) < error(32) < error(None)


def test_tiles_run_along_the_inputs_of_the_kernel():
    x = jnp.ones((4, 2)).at[2:].set(10.0)
    small = compress.quantize_array(x, compress.Scheme(compress.INT8, tile=2))
    np.testing.assert_allclose(
        small.scale, [[1 / 127, 1 / 127], [10 / 127, 10 / 127]], rtol=1e-6
    )


def test_normal_floats_are_more_exact_than_int4_on_normal_weights():
    x = make((256, 32))
    errors = [
        float(jnp.abs(compress.dequantize(small) - x).mean())
        for format in (compress.NF4, compress.INT4)
        for small in [compress.quantize_array(x, compress.Scheme(format))]
    ]
    assert errors[0] < errors[1]


def test_binary_weights_are_the_mean_magnitude_by_hand():
    x = jnp.array([[1.0], [-2.0], [3.0]])
    small = compress.quantize_array(x, compress.Scheme(compress.BINARY))
    np.testing.assert_allclose(compress.dequantize(small), [[2.0], [-2.0], [2.0]])


def test_ternary_weights_by_hand():
    x = jnp.array([[1.0], [-0.1], [3.0], [-2.0]])  # 0.7 * mean = 1.0675
    scheme = compress.Scheme(compress.INT2, range=compress.ternary)
    restored = compress.dequantize(compress.quantize_array(x, scheme))
    np.testing.assert_allclose(restored, [[0.0], [0.0], [2.5], [-2.5]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_dtype_comes_back(dtype):
    x = make().astype(dtype)
    small = compress.quantize({"kernel": x})["kernel"]
    assert small.scale.dtype == jnp.float32
    assert compress.dequantize(small).dtype == dtype


def test_rules_the_first_match_wins_and_none_leaves_alone():
    params = {n: {"kernel": make(), "bias": jnp.ones(6)} for n in ("a", "b", "c")}
    rules = [
        ("^a/", None),
        ("^b/kernel", compress.Scheme(compress.INT4, tile=8)),
        ("kernel$", compress.Scheme()),
    ]
    small = compress.quantize_by_rules(params, rules)
    assert small["a"]["kernel"] is params["a"]["kernel"]
    assert small["b"]["kernel"].format == compress.INT4
    assert small["c"]["kernel"].format == compress.INT8
    restored = compress.dequantize(small)
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    with pytest.raises(ValueError, match="matches no path"):
        compress.quantize_by_rules(params, [("kernal", compress.Scheme())])


@pytest.mark.parametrize("format", [compress.INT4, compress.AFFINE8, compress.NF4])
def test_the_record_passes_through_jit_and_vmap(format):
    x, scheme = make(), compress.Scheme(format, tile=4)
    eager = compress.dequantize(compress.quantize_array(x, scheme))
    small = jax.jit(lambda x: compress.quantize_array(x, scheme))(x)
    np.testing.assert_allclose(jax.jit(compress.dequantize)(small), eager, rtol=1e-6)
    stacked = jax.vmap(lambda x: compress.quantize_array(x, scheme))(jnp.stack([x, x]))
    one = jax.tree.map(lambda leaf: leaf[1], stacked)
    np.testing.assert_allclose(compress.dequantize(one), eager, rtol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (compress.Scheme(tile=5), "`tile` is 5, but must divide axis 0"),
        (compress.Scheme(axis=2), "no channel axes"),
        (compress.Scheme(axis=(1, -1)), "name an axis twice"),
        (compress.Scheme(compress.Format(4, -8, 8, 8.0)), "4 bits cannot hold"),
        (compress.Scheme(compress.Format(8, -100, 150, 8.0)), "neither int8 nor"),
        (
            compress.Scheme(compress.Format(2, 0, 3, 1.0, levels=(0.0, 1.0))),
            "a format of 2 levels",
        ),
    ],
)
def test_what_does_not_fit_is_refused(scheme, words):
    with pytest.raises(ValueError, match=words):
        compress.quantize_array(make(), scheme)


def test_a_palette_and_a_quantized_array_are_not_quantized_again():
    for small in (
        compress.quantize({"kernel": make()}, format=compress.INT4),
        compress.cluster({"kernel": make()}),
    ):
        with pytest.raises(ValueError, match="'kernel' is quantized already"):
            compress.quantize(small)
        with pytest.raises(ValueError, match="'kernel' is quantized already"):
            compress.cluster(small)


def test_an_empty_leaf_is_refused_and_a_constant_one_is_not():
    with pytest.raises(ValueError, match="'kernel' is empty"):
        compress.quantize({"kernel": jnp.zeros((0, 3))})
    for value in (0.0, 1e-42, -5.0):
        for format in FORMATS:
            x = jnp.full((4, 2), value)
            small = compress.quantize_array(x, compress.Scheme(format))
            restored = compress.dequantize(small)
            assert jnp.all(jnp.abs(restored - value) <= abs(value) + 1e-37)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20),
    st.sampled_from(FORMATS),
)
def test_any_finite_numbers(values, format):
    x = jnp.asarray(values, jnp.float32)[:, None]
    small = compress.quantize_array(x, compress.Scheme(format))
    restored = np.asarray(compress.dequantize(small))
    assert np.isfinite(restored).all()
    largest = np.abs(np.asarray(x)).max()
    assert np.abs(restored).max() <= largest * 1.51 + 1e-30
