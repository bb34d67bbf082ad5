"""Scores, patterns and allocations, by hand or against a direct computation."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import compress


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def kernel(x):
    return {"kernel": x}


def test_signed_scores_are_ordered_too():
    scores = kernel(jnp.array([-1.0, 2.0, -3.0, 0.5, -0.0, 0.0]))
    mask = compress.top_masks(scores, 0.5)["kernel"]
    np.testing.assert_array_equal(mask, [0, 1, 0, 1, 1, 0])  # of the zeros the first
    drop_one = compress.top_masks(scores, 1 / 6)["kernel"]
    np.testing.assert_array_equal(drop_one, [1, 1, 0, 1, 1, 1])


def test_one_number_for_each_path():
    scores = {"a": kernel(normal(10)), "b": kernel(normal(10, seed=1))}
    masks = compress.top_masks(scores, {"a/kernel": 0.2, "b/kernel": 0.7})
    assert [int(masks[n]["kernel"].sum()) for n in "ab"] == [8, 3]
    with pytest.raises(ValueError, match="no number for the leaf 'b/kernel'"):
        compress.top_masks(scores, {"a/kernel": 0.2})
    with pytest.raises(ValueError, match="`across` sets one threshold"):
        compress.top_masks(scores, {"a/kernel": 0.2}, across=True)


def test_movement_of_two_steps_by_hand():
    w, g = kernel(jnp.array([1.0, -2.0])), kernel(jnp.array([0.5, 0.5]))
    once = compress.movement_scores(kernel(jnp.zeros(2)), w, g, rate=0.1)
    np.testing.assert_allclose(once["kernel"], [-0.05, 0.1])
    twice = compress.movement_scores(once, w, g, rate=0.1)
    np.testing.assert_allclose(twice["kernel"], [-0.1, 0.2])


def test_grasp_is_the_change_of_the_gradients_norm():
    target = normal(4, 3, seed=1)
    loss = lambda w: jnp.sum(jnp.sin(w * target) ** 3)
    w = normal(4, 3)
    scores = compress.grasp_scores(loss, w)
    square = lambda w: jnp.sum(jax.grad(loss)(w) ** 2)
    step = 1e-3  # towards zero, one weight at a time
    for i in np.ndindex(4, 3):
        moved = square(w.at[i].multiply(1 - step)) - square(w)
        np.testing.assert_allclose(-moved / (2 * step), scores[i], rtol=0.05, atol=0.05)


def test_lamp_across_keeps_the_largest_of_every_leaf():
    params = {"a": kernel(normal(50)), "b": kernel(1e-4 * normal(50, seed=1))}
    masks = compress.top_masks(compress.lamp_scores(params), 0.98, across=True)
    assert int(masks["a"]["kernel"].sum()) == int(masks["b"]["kernel"].sum()) == 1


def test_normalized_scores_do_not_know_the_scale():
    params = {"a": kernel(normal(50)), "b": kernel(1e-4 * normal(50))}
    scores = compress.normalized_scores(compress.magnitude_scores(params))
    np.testing.assert_allclose(scores["a"]["kernel"], scores["b"]["kernel"], rtol=1e-4)
    zeros = compress.normalized_scores(kernel(jnp.zeros(3)))
    np.testing.assert_array_equal(zeros["kernel"], 0)


def test_wanda_prunes_where_inputs_are_small():
    x = normal(30, 4) * jnp.array([[10.0, 1.0, 0.01, 5.0]])
    scores = compress.wanda_scores(kernel(jnp.ones((4, 3))), {"kernel": x})
    mask = compress.output_masks(scores, 0.5)["kernel"]
    np.testing.assert_array_equal(mask, np.array([[1, 0, 0, 1]] * 3, bool).T)
    with pytest.raises(ValueError, match=r"have \(4,\) features.* \(5,\) on axis -2"):
        compress.wanda_scores(kernel(jnp.ones((5, 3))), {"kernel": x})


@pytest.mark.parametrize("axis", [-1, -2, 0])
def test_n_of_m_keeps_the_highest_of_each_run(axis):
    x = np.abs(np.asarray(normal(8, 12, 4)))
    mask = compress.n_of_m_masks(kernel(jnp.asarray(x)), n=1, m=4, axis=axis)["kernel"]
    runs = np.moveaxis(x, axis, -1).reshape(-1, 4)
    kept = np.moveaxis(np.asarray(mask), axis, -1).reshape(-1, 4)
    np.testing.assert_array_equal(kept, runs == runs.max(axis=1, keepdims=True))


def test_patterns_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match=r"'kernel' has 6 weights on axis -2.*`m`=4"):
        compress.n_of_m_masks(kernel(jnp.ones((6, 4))))
    with pytest.raises(ValueError, match="0 < n <= m"):
        compress.n_of_m_masks(kernel(jnp.ones((4, 4))), n=5)
    with pytest.raises(ValueError, match="blocks need two axes"):
        compress.block_masks(kernel(jnp.ones(4)), 0.5)
    with pytest.raises(ValueError, match="must be positive"):
        compress.block_masks(kernel(jnp.ones((4, 4))), 0.5, shape=(0, 2))


def test_blocks_live_or_die_together_and_ties_are_exact():
    mask = compress.block_masks(kernel(jnp.ones((10, 7))), 0.5, shape=(4, 2))["kernel"]
    blocks = np.asarray(mask)[::4, ::2]  # 3 x 4 of them
    assert blocks.sum() == 6
    wide = np.repeat(np.repeat(blocks, 4, 0), 2, 1)[:10, :7]
    np.testing.assert_array_equal(mask, wide)


def test_owl_by_hand():
    a = jnp.ones(100).at[:10].set(100.0)
    b = jnp.ones(100).at[:1].set(100.0)
    found = compress.owl_sparsities({"a": kernel(a), "b": kernel(b)}, 0.5)
    assert found == pytest.approx({"a/kernel": 0.42, "b/kernel": 0.58})
    with pytest.raises(ValueError, match=r"`spread`=0.9 gives"):
        compress.owl_sparsities({"a": kernel(a), "b": kernel(b)}, 0.5, spread=0.9)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_erk_has_the_zeros_of_all_together(sparsity):
    params = {"a": kernel(jnp.ones((300, 100))), "b": kernel(jnp.ones((100, 10)))}
    found = compress.erk_sparsities(params, sparsity)
    zeros = found["a/kernel"] * 30000 + found["b/kernel"] * 1000
    assert zeros == pytest.approx(sparsity * 31000, abs=2)
    assert found["a/kernel"] >= found["b/kernel"] >= 0


# SparseGPT


def layer(n=200, size=16, out=6):
    x = normal(n, size) @ normal(size, size, seed=3)
    return x, normal(size, out, seed=1), compress.input_hessian(x)


@pytest.mark.parametrize("sparsity", [0.5, 0.75, (2, 4), (1, 8)])
@pytest.mark.parametrize("block", [4, 7, 16, 128])
def test_sparse_gpt_beats_its_own_mask_and_magnitude(sparsity, block):
    x, w, hessian = layer()
    pruned, mask = compress.sparse_gpt(w, hessian, sparsity=sparsity, block=block)
    assert not jnp.any(pruned[~mask])
    error = lambda v: float(jnp.mean((x @ v - x @ w) ** 2))
    assert error(pruned) < error(jnp.where(mask, w, 0))
    if isinstance(sparsity, tuple):
        n, m = sparsity
        np.testing.assert_array_equal(mask.reshape(-1, m, 6).sum(axis=1), n)
    else:
        step = min(block, 16)
        zeros = sum(round(sparsity * min(step, 16 - i) * 6) for i in range(0, 16, step))
        assert int(jnp.sum(~mask)) == zeros


def test_sparse_gpt_in_blocks_gives_what_the_whole_gives():
    _, w, hessian = layer()
    whole, _ = compress.sparse_gpt(w, hessian, sparsity=(2, 4), block=16)
    blocks, _ = compress.sparse_gpt(w, hessian, sparsity=(2, 4), block=4)
    np.testing.assert_allclose(blocks, whole, rtol=1e-4, atol=1e-5)


def test_sparse_gpt_without_sparsity_changes_nothing_but_dead_inputs():
    x, w, _ = layer()
    x = x.at[:, 3].set(0.0)
    same, mask = compress.sparse_gpt(w, compress.input_hessian(x), sparsity=0.0)
    assert mask.all()
    np.testing.assert_allclose(same, w.at[3].set(0.0))


def test_sparse_gpt_traces_a_loop():
    _, w, hessian = layer()
    prune = lambda w, h: compress.sparse_gpt(w, h, sparsity=0.5, block=8)
    small = str(jax.make_jaxpr(prune)(w, hessian)).count("\n")
    big = str(jax.make_jaxpr(prune)(jnp.ones((64, 6)), jnp.eye(64))).count("\n")
    assert big == small


@pytest.mark.own_checks
def test_sparse_gpt_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"got \(4, 3\) and \(3, 3\)"):
        compress.sparse_gpt(jnp.ones((4, 3)), jnp.eye(3), sparsity=0.5)
    with pytest.raises(ValueError, match="must divide the 6 inputs"):
        compress.sparse_gpt(jnp.ones((6, 3)), jnp.eye(6), sparsity=(2, 4))
    with pytest.raises(ValueError, match="`sparsity`"):
        compress.sparse_gpt(jnp.ones((6, 3)), jnp.eye(6), sparsity=1.0)
