"""Training through the rounding: gradients, learned scales, masks and palettes."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import compress, trees

INT4 = [("kernel$", compress.Scheme(compress.INT4))]


def make():
    k = jax.random.split(jax.random.key(0))
    return {
        "a": {"kernel": jax.random.normal(k[0], (12, 8)), "bias": jnp.ones(8)},
        "b": {"kernel": jax.random.normal(k[1], (8, 3))},
    }


@pytest.mark.parametrize(
    "scheme",
    [
        compress.Scheme(),
        compress.Scheme(compress.INT4, tile=4),
        compress.Scheme(compress.AFFINE8),
        compress.Scheme(compress.NF4),
        compress.Scheme(compress.BINARY),
        compress.Scheme(compress.INT2, range=compress.ternary),
        compress.Scheme(compress.INT4, axis=()),
    ],
    ids=["int8", "int4 tiles", "affine", "nf4", "binary", "ternary", "one scale"],
)
def test_the_forward_pass_is_what_will_be_stored(scheme):
    params, rules = make(), [("^a/kernel", scheme)]
    rounded = compress.fake_quantize(params, rules)
    stored = compress.dequantize(compress.quantize_by_rules(params, rules))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        rounded,
        stored,
    )
    assert jax.tree.structure(rounded) == jax.tree.structure(params)


def test_the_gradient_passes_inside_the_range_only():
    x = jnp.array([[-9.0], [-3.0], [0.2], [3.0], [3.6]])
    fake = lambda x: compress.fake_quantize_array(
        x, jnp.full((1, 1), 0.5), format=compress.INT4
    )
    np.testing.assert_array_equal(fake(x), [[-3.5], [-3.0], [0.0], [3.0], [3.5]])
    gradient = jax.grad(lambda x: jnp.sum(2 * fake(x)))(x)
    np.testing.assert_array_equal(gradient, [[0.0], [2.0], [2.0], [2.0], [2.0]])


def test_the_gradient_of_a_tree_is_that_of_the_rounded_weights():
    params = make()
    square = lambda p: sum(jnp.sum(x**2) for x in jax.tree.leaves(p))
    through = jax.grad(lambda p: square(compress.fake_quantize(p, INT4)))(params)
    rounded = compress.fake_quantize(params, INT4)
    jax.tree.map(
        lambda g, x: np.testing.assert_allclose(g, 2 * x, rtol=1e-5), through, rounded
    )


def test_masks_are_kept():
    pruned, masks = compress.magnitude_prune(make(), 0.5)
    for rules in (INT4, [("kernel$", compress.Scheme(compress.AFFINE4))]):
        rounded = compress.fake_quantize(pruned, rules)
        jax.tree.map(
            lambda x, m: np.testing.assert_array_equal(jnp.where(m, 0, x), 0),
            rounded,
            masks,
        )


def test_a_palette_stays_one_and_its_centroids_are_trained():
    pruned, masks = compress.magnitude_prune(make(), 0.5)
    small = compress.cluster(pruned, bits=3, where="^a/kernel")
    rules = [("^a/kernel", compress.Scheme(compress.INT8))]
    floats, integers = trees.split(
        small, jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.floating), small)
    )

    def loss(floats):
        params = compress.fake_quantize(trees.merge(floats, integers), rules)
        return jnp.sum((compress.dequantize(params)["a"]["kernel"] - 1.0) ** 2)

    gradient = jax.grad(loss)(floats)["a"]["kernel"].centroids
    moved = floats["a"]["kernel"].centroids - 0.01 * gradient
    palette = compress.Palette(small["a"]["kernel"].indices, moved, True)
    weights = palette.array()
    assert len(jnp.unique(weights)) <= 8
    np.testing.assert_array_equal(weights == 0, ~masks["a"]["kernel"])
    assert loss({**floats, "a": {**floats["a"], "kernel": palette_of(moved)}}) < loss(
        floats
    )


def palette_of(centroids):
    return compress.Palette(None, centroids, True)


def test_training_through_the_rounding_beats_rounding_after_training():
    k = jax.random.split(jax.random.key(0), 3)
    mixed = jnp.eye(16) + jax.random.normal(k[2], (16, 16)) / 2
    x = jax.random.normal(k[0], (256, 16)) @ mixed
    trained = {"kernel": jax.random.normal(k[1], (16, 4))}
    want = x @ trained["kernel"]
    error = lambda p: float(
        jnp.mean((x @ compress.dequantize(p)["kernel"] - want) ** 2)
    )
    ternary = compress.Scheme(compress.INT2, range=compress.least_squares)
    rules = [("kernel$", ternary)]

    @jax.jit
    @jax.grad
    def gradient(both):
        rounded = compress.learned_steps(*both, rules)
        return jnp.mean((x @ rounded["kernel"] - want) ** 2)

    both = (trained, compress.init_steps(trained, rules))
    for i in range(500):
        rate = 0.01 * (1 - i / 500)
        moves = jax.tree.map(lambda g, rate=rate: rate * g, gradient(both))
        both = jax.tree.map(lambda p, move: p - move, both, moves)
    after = error(compress.quantize_by_rules(trained, rules))
    through = error(compress.quantize_steps(*both, rules))
    assert through < 0.8 * after


def test_learned_scales_have_the_gradient_of_the_paper_by_hand():
    x = jnp.array([[0.3], [-0.9], [5.0], [-8.0]])
    scale = jnp.full((1, 1), 0.5)
    value = lambda s: jnp.sum(compress.learned_step(x, s, format=compress.INT4))
    # v = 0.6, -1.8, 10, -16: round(v) - v = 0.4, -0.2, then 7 and -7
    want = (0.4 - 0.2 + 7 - 7) / (4 * 7) ** 0.5
    np.testing.assert_allclose(jax.grad(value)(scale), [[want]], rtol=1e-5)
    of_x = jax.grad(
        lambda x: jnp.sum(compress.learned_step(x, scale, format=compress.INT4))
    )(x)
    np.testing.assert_array_equal(of_x, [[1.0], [1.0], [0.0], [0.0]])


def test_a_scale_which_is_too_large_is_learned():
    params = make()
    rules = INT4
    steps = jax.tree.map(lambda s: 6 * s, compress.init_steps(params, rules))
    assert steps["a"]["bias"] is None
    assert steps["a"]["kernel"].shape == (1, 8)

    def error(steps):
        rounded = compress.learned_steps(params, steps, rules)
        return jnp.mean((rounded["a"]["kernel"] - params["a"]["kernel"]) ** 2)

    tx = optax.adam(0.05)
    state, first = tx.init(steps), error(steps)
    update = jax.jit(lambda s, state: tx.update(jax.grad(error)(s), state))
    for _ in range(100):
        with jax.numpy_dtype_promotion("standard"):  # optax promotes freely
            updates, state = update(steps, state)
        steps = optax.apply_updates(steps, updates)
    assert error(steps) < 0.3 * first
    stored = compress.quantize_steps(params, steps, rules)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        compress.dequantize(stored),
        compress.learned_steps(params, steps, rules),
    )


def test_what_cannot_be_trained_is_refused():
    params = make()
    for format in (compress.AFFINE8, compress.NF4):
        with pytest.raises(ValueError, match="symmetric format of integers"):
            compress.init_steps(params, [("kernel$", compress.Scheme(format))])
    with pytest.raises(ValueError, match="is quantized already"):
        compress.fake_quantize(compress.quantize(params), INT4)
    with pytest.raises(ValueError, match="matches no path"):
        compress.fake_quantize(params, [("nowhere", compress.Scheme())])
