"""GPTQ, SmoothQuant, low rank, palettes and sparse kernels."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import compress, trees


def correlated(n=512, features=24, seed=0):
    k = jax.random.split(jax.random.key(seed), 2)
    mix = jax.random.normal(k[0], (features, features)) + jnp.eye(features)
    return jax.random.normal(k[1], (n, features)) @ mix


def kernel_of(shape=(24, 10), seed=5):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("format", [compress.INT8, compress.INT4, compress.INT2])
@pytest.mark.parametrize("tile", [None, 8])
def test_gptq_changes_the_outputs_less_than_rounding(format, tile):
    x, w = correlated(), kernel_of()
    plain = compress.quantize_array(w, compress.Scheme(format, tile=tile))
    small = compress.gptq(w, compress.gram(x), format=format, tile=tile)
    assert small.scale.shape == plain.scale.shape
    error = lambda q: float(jnp.mean((x @ (compress.dequantize(q) - w)) ** 2))
    assert error(small) < 0.8 * error(plain)


def test_gptq_of_uncorrelated_inputs_is_rounding():
    w = kernel_of()
    small = compress.gptq(w, jnp.eye(24))
    plain = compress.quantize_array(w, compress.Scheme(compress.INT4))
    np.testing.assert_array_equal(small.values, plain.values)
    np.testing.assert_allclose(small.scale, plain.scale, rtol=1e-6)


def test_a_sum_of_products_is_added_up():
    x = correlated()
    parts = compress.gram(x[300:], compress.gram(x[:300]))
    np.testing.assert_allclose(parts, compress.gram(x), rtol=1e-4, atol=1e-2)


def test_an_input_that_is_never_seen_gets_no_weight():
    x = correlated().at[:, 3].set(0.0)
    small = compress.gptq(kernel_of(), compress.gram(x))
    np.testing.assert_array_equal(compress.dequantize(small)[3], 0)


@pytest.mark.own_checks
def test_gptq_of_what_is_no_sum_of_products_fails_loudly():
    w = kernel_of()
    with pytest.raises(ValueError, match="not positive semidefinite"):
        compress.gptq(w, -jnp.eye(24) + 2 * jnp.diag(jnp.arange(24.0)))
    with pytest.raises(ValueError, match="`inputs_gram` is not finite"):
        compress.gptq(w, jnp.full((24, 24), jnp.nan))
    with pytest.raises(ValueError, match=r"\(inputs, inputs\)"):
        compress.gptq(w, jnp.eye(10))
    with pytest.raises(ValueError, match="`tile` is 7, but must divide the 24"):
        compress.gptq(w, jnp.eye(24), tile=7)
    with pytest.raises(ValueError, match="must be symmetric"):
        compress.gptq(w, jnp.eye(24), format=compress.AFFINE8)


def block():
    k = jax.random.split(jax.random.key(1), 3)
    params = {
        "norm": {
            "scale": jnp.linspace(0.5, 2.0, 24),
            "bias": jnp.linspace(-1.0, 1.0, 24),
        },
        "query": {"kernel": jax.random.normal(k[0], (24, 8)), "bias": jnp.ones(8)},
        "value": {"kernel": jax.random.normal(k[1], (24, 6))},
    }
    x = jax.random.normal(k[2], (64, 24)).at[:, 5].mul(60.0)
    return params, x


def normed(params, x, offset=0.0):
    scale, bias = (params["norm"][n][None] for n in ("scale", "bias"))
    return x * (offset + scale) + bias


def apply(params, x, offset=0.0):
    hidden = normed(params, x, offset)
    return hidden @ params["query"]["kernel"], hidden @ params["value"]["kernel"]


FOLD = {"producers": "^norm/", "consumers": "kernel$"}


def test_smoothing_changes_nothing_but_makes_int8_activations_better():
    params, x = block()
    hidden = normed(params, x)
    largest = jnp.max(jnp.abs(hidden), axis=0)
    smoothed = compress.smooth(params, largest, lambda p: apply(p, x), **FOLD)
    for a, b in zip(apply(smoothed, x), apply(params, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(smoothed["query"]["bias"], params["query"]["bias"])

    def error(p):
        whole = compress.Scheme(axis=())
        h = compress.dequantize(compress.quantize_array(normed(p, x), whole))
        w = compress.dequantize(compress.quantize_array(p["query"]["kernel"], whole))
        return jnp.mean((h @ w - apply(params, x)[0]) ** 2)

    assert error(smoothed) < 0.2 * error(params)


def test_a_fold_that_is_no_identity_fails_loudly():
    params, x = block()
    largest = jnp.max(jnp.abs(normed(params, x, 1.0)), axis=0)
    with pytest.raises(ValueError, match="the scales do not cancel"):
        compress.smooth(params, largest, lambda p: apply(p, x, offset=1.0), **FOLD)
    with pytest.raises(ValueError, match="the scales do not cancel"):  # one forgotten
        compress.smooth(
            params,
            largest,
            lambda p: apply(p, x),
            producers="^norm/",
            consumers="query/kernel$",
        )


def test_smoothing_what_does_not_fit_is_refused():
    params, x = block()
    whole = lambda p: apply(p, x)
    with pytest.raises(ValueError, match="as a consumer of 24 activations it needs 24"):
        compress.smooth(
            params, jnp.ones(24), whole, producers="^norm/", consumers="query/"
        )
    with pytest.raises(ValueError, match="matches both"):
        compress.smooth(params, jnp.ones(24), whole, producers="e", consumers="kernel$")
    with pytest.raises(ValueError, match="matches no path"):
        compress.smooth(params, jnp.ones(24), whole, producers="x", consumers="kernel")


def test_scales_of_unused_inputs_are_one():
    scales = compress.smooth_scales(
        jnp.array([0.0, 4.0, 4.0]), jnp.array([1.0, 0.0, 1.0])
    )
    np.testing.assert_allclose(scales, [1.0, 1.0, 2.0])


def test_factors_are_the_best_of_their_rank():
    w = kernel_of()
    first, second = compress.factorize_kernel(w, rank=4)
    s = jnp.linalg.svd(w, compute_uv=False)
    error = jnp.sum((first @ second - w) ** 2)
    np.testing.assert_allclose(error, jnp.sum(s[4:] ** 2), rtol=1e-4)


@pytest.mark.parametrize("energy", [0.3, 0.9, 1.0])
def test_energy_keeps_the_smallest_rank_that_has_it(energy):
    w = kernel_of()
    rank = compress.factorize_kernel(w, energy=energy).first.shape[-1]
    s = np.linalg.svd(np.asarray(w, np.float64), compute_uv=False)
    kept = np.cumsum(s**2) / np.sum(s**2)
    assert kept[rank - 1] >= energy - 1e-6
    assert rank == 1 or kept[rank - 2] < energy


def test_factors_that_know_the_inputs_change_the_outputs_less():
    x, w = correlated() * jnp.linspace(0.01, 3.0, 24)[None] ** 2, kernel_of()
    error = lambda f: jnp.sum((x @ (f.first @ f.second - w)) ** 2)
    plain = compress.factorize_kernel(w, rank=4)
    aware = compress.factorize_kernel(w, rank=4, inputs_gram=compress.gram(x))
    assert error(aware) < 0.7 * error(plain)
    best = jnp.sum(jnp.linalg.svd(x @ w, compute_uv=False)[4:] ** 2)
    np.testing.assert_allclose(error(aware), best, rtol=1e-2)


def test_a_convolution_is_two():
    kernel = kernel_of((3, 3, 4, 10))
    x = jax.random.normal(jax.random.key(2), (2, 9, 9, 4))
    convolve = lambda x, k, s: jax.lax.conv_general_dilated(
        x, k, (s, s), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    first, second = compress.factorize_kernel(kernel, rank=10)
    assert first.shape == (3, 3, 4, 10)
    assert second.shape == (1, 1, 10, 10)
    got = convolve(convolve(x, first, 2), second, 1)
    np.testing.assert_allclose(got, convolve(x, kernel, 2), rtol=1e-3, atol=1e-4)


def test_a_tree_is_factorized_where_it_saves_weights():
    params = {
        "big": {"kernel": kernel_of((40, 40)), "bias": jnp.ones(40)},
        "small": {"kernel": kernel_of((40, 3))},
        "conv": {"kernel": kernel_of((3, 3, 8, 16)), "bias": jnp.ones(16)},
    }
    small = compress.factorize(params, rank=4)
    assert small["big"]["first"]["kernel"].shape == (40, 4)
    assert small["big"]["second"]["bias"].shape == (40,)
    assert small["conv"]["second"]["kernel"].shape == (1, 1, 4, 16)
    assert list(small["small"]) == ["kernel"]  # 4 * 43 weights are more than 120
    assert trees.count(small) < trees.count(params)
    restored = compress.multiply_factors(small)
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    first, second = compress.factorize_kernel(params["big"]["kernel"], rank=4)
    np.testing.assert_allclose(
        restored["big"]["kernel"], first @ second, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(784, 300), (3, 3, 16, 32), (5, 5), (1, 7), (2, 2)])
def test_the_break_even_rank_is_the_last_that_saves(shape):
    m, n = int(np.prod(shape[:-1])), shape[-1]
    rank = compress.break_even_rank(shape)
    assert rank * (m + n) < m * n or rank == 0
    assert (rank + 1) * (m + n) >= m * n


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "give one of"),
        ({"rank": 2, "energy": 0.5}, "give one of"),
        ({"rank": 11}, "`rank` must be from 1 to 10"),
        ({"energy": 0.0}, r"`energy` must be in \(0, 1\]"),
        ({"rank": 2, "inputs_gram": jnp.eye(10)}, "the kernel has 24 inputs"),
    ],
    ids=str,
)
def test_factors_that_cannot_be_are_refused(asked, words):
    with pytest.raises(ValueError, match=words):
        compress.factorize_kernel(kernel_of(), **asked)


def test_a_misspelt_sum_is_refused():
    with pytest.raises(ValueError, match="names 'a/kernal'; did you mean 'a/kernel'"):
        compress.factorize(
            {"a": {"kernel": kernel_of()}},
            rank=2,
            inputs_grams={"a/kernal": jnp.eye(24)},
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("start", [compress.linear_start, compress.density_start])
def test_palettes_keep_zeros_and_have_so_many_values(bits, start):
    pruned, masks = compress.magnitude_prune({"kernel": kernel_of((60, 50))}, 0.7)
    small = compress.cluster(pruned, bits=bits, start=start)["kernel"]
    assert small.centroids.shape == (2**bits,)
    assert small.indices.shape == (60, 50)
    np.testing.assert_array_equal(small.indices == 0, ~masks["kernel"])
    np.testing.assert_array_equal(small.array() == 0, ~masks["kernel"])


def test_each_weight_has_the_nearest_centroid_and_each_centroid_the_mean():
    w = kernel_of((60, 50))
    small = compress.cluster({"kernel": w}, bits=3, steps=500)["kernel"]
    distance = jnp.abs(w[..., None] - small.centroids[None, None])
    nearest = jnp.take_along_axis(
        distance, small.indices.astype(jnp.int32)[..., None], axis=-1
    )[..., 0]
    np.testing.assert_allclose(nearest, distance.min(axis=-1), rtol=1e-5, atol=1e-6)
    for j in range(8):
        mean = jnp.mean(w, where=small.indices == j)
        np.testing.assert_allclose(small.centroids[j], mean, rtol=1e-3, atol=1e-4)


def test_histogram_quantization_by_hand():
    w = jnp.array([0.0, 0.2, 0.9, 2.1, 3.0])  # bins around 0 and 3: below and above 1.5
    small = compress.cluster({"kernel": w}, bits=1, steps=1, keep_zeros=False)["kernel"]
    np.testing.assert_allclose(small.centroids, [1.1 / 3, 2.55], rtol=1e-6)


def test_more_steps_are_no_worse_and_more_bits_better():
    w = {"kernel": kernel_of((60, 50)) ** 3}
    error = lambda **more: float(
        jnp.mean((compress.cluster(w, **more)["kernel"].array() - w["kernel"]) ** 2)
    )
    assert error(steps=50) <= error(steps=1)
    assert error(bits=6) < error(bits=4) < error(bits=2)


def test_a_leaf_of_zeros_and_one_of_few_values():
    for x in (jnp.zeros((3, 2)), jnp.array([[1.0, 2.0, 1.0]])):
        small = compress.cluster({"kernel": x}, bits=2)["kernel"]
        np.testing.assert_array_equal(small.array(), x)


def test_bad_palettes_are_refused():
    with pytest.raises(ValueError, match="`bits` must be from 1 to 8"):
        compress.cluster({"kernel": kernel_of()}, bits=9)
    with pytest.raises(ValueError, match="'kernel' is not finite"):
        compress.cluster({"kernel": jnp.array([jnp.inf])})
    with pytest.raises(TypeError, match="'kernel' must be floating point"):
        compress.cluster({"kernel": jnp.arange(3)})


def test_a_sparse_product_is_the_dense_one():
    params = {"a": {"kernel": kernel_of((64, 32))}, "b": {"kernel": kernel_of()}}
    pruned = compress.magnitude_prune(params, 0.95, where="^a/")[0]
    small = compress.to_sparse(pruned)
    assert small["b"]["kernel"] is pruned["b"]["kernel"]
    assert small["a"]["kernel"].shape == (32, 64)
    assert small["a"]["kernel"].nse == round(64 * 32 * 0.05)
    x = jax.random.normal(jax.random.key(0), (2, 5, 64))
    got = jax.jit(compress.sparse_matmul)(x, small["a"]["kernel"])
    want = jnp.matmul(x, pruned["a"]["kernel"])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(
        compress.sparse_matmul(x, pruned["a"]["kernel"]), want
    )
