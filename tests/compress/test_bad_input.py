"""What pruning refuses: sentences that say what was given, before anything changes."""

import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import compress


def params():
    return {"a": {"kernel": jnp.ones((6, 4))}, "b": {"kernel": jnp.ones((4, 3))}}


@pytest.mark.parametrize(
    "sparsity",
    [
        -0.1,
        1.0,
        1.5,
        float("nan"),
        jnp.float32(1.5),
        np.float64(-1),
        jnp.float32("nan"),
    ],
)
@pytest.mark.parametrize(
    "prune",
    [
        compress.magnitude_prune,
        compress.magnitude_masks,
        compress.straight_through_prune,
        lambda p, s: compress.magnitude_masks(p, s, across=True),
        lambda p, s: compress.magnitude_masks(p, {"a/kernel": 0.5, "b/kernel": s}),
        compress.block_masks,
        compress.channel_masks,
        compress.output_masks,
        compress.erk_sparsities,
        compress.owl_sparsities,
        lambda p, s: compress.keep_sparse(s),
        lambda p, s: compress.cubic(s, begin=0, end=1),
        lambda p, s: compress.rigl(s, jax.random.key(0), end=5).init(p),
        lambda p, s: compress.sparse_gpt(p["a"]["kernel"], jnp.eye(6), sparsity=s),
    ],
)
def test_sparsity_out_of_range(prune, sparsity):
    with pytest.raises(ValueError, match=r"`sparsity` is the fraction .* got"):
        prune(params(), sparsity)


def test_many_sparsities_where_one_is_wanted():
    with pytest.raises(ValueError, match=r"must be one number, got shape \(2,\)"):
        compress.magnitude_prune(params(), jnp.array([0.5, 0.5]))


@pytest.mark.own_checks
@pytest.mark.parametrize("sparsity", ["0.5", None, True])
def test_sparsity_that_is_no_number(sparsity):
    with pytest.raises(ValueError, match=f"must be one number, got {sparsity!r}"):
        compress.magnitude_prune(params(), sparsity)


def test_a_traced_sparsity_passes():
    masks = jax.jit(lambda s: compress.magnitude_masks(params(), s))(0.5)
    assert int(masks["a"]["kernel"].sum()) == 12


@pytest.mark.parametrize(
    ("shape", "axis", "words"),
    [
        ((6, 4), -2, "has 6 weights on axis -2, which `m`=4 does not divide"),
        ((4, 6), -1, "has 6 weights on axis -1, which `m`=4 does not divide"),
        ((8,), -2, "has shape (8,) and no axis -2 to hold runs of `m`=4 weights"),
    ],
)
def test_n_of_m_that_does_not_divide(shape, axis, words):
    scores = {"dense": {"kernel": jnp.ones(shape)}}
    with pytest.raises(ValueError, match=re.escape(f"'dense/kernel' {words}")):
        compress.n_of_m_masks(scores, n=2, m=4, axis=axis)


@pytest.mark.parametrize(
    "prune",
    [
        lambda p, w: compress.magnitude_prune(p, 0.5, where=w),
        lambda p, w: compress.n_of_m_masks(p, where=w),
        lambda p, w: compress.block_masks(p, 0.5, where=w),
        lambda p, w: compress.erk_sparsities(p, 0.5, where=w),
        lambda p, w: compress.keep_sparse(0.5, where=w).init(p),
        lambda p, w: compress.rigl(0.5, jax.random.key(0), end=5, where=w).init(p),
    ],
)
def test_a_rule_that_matches_nothing(prune):
    with pytest.raises(ValueError, match=r"'c/kernel' matches no path.*'a/kernel'"):
        prune(params(), "c/kernel")


def test_a_sparsity_for_a_leaf_that_is_not_pruned():
    asked = {"a/kernel": 0.5, "b/kernel": 0.5, "b/kernl": 0.9}
    with pytest.raises(ValueError, match=r"'b/kernl', which is not.*mean 'b/kernel'"):
        compress.magnitude_prune(params(), asked)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"a": {"kernel": jnp.ones((6, 4), bool)}}, "have no leaf 'b/kernel'"),
        ({"a": {"kernel": jnp.ones((4,), bool)}}, "'a/kernel' has shape (4,)"),
    ],
)
def test_masks_of_another_tree(masks, words):
    p = params()
    with pytest.raises(ValueError, match=re.escape(words)):
        compress.apply_masks(p, masks)
    tx = optax.chain(
        optax.sgd(0.1), compress.keep_sparse(0.5, draw=lambda p, g, s: masks)
    )
    state = tx.init(p)
    with pytest.raises(ValueError, match=re.escape(words)):
        tx.update(p, state, p)


def test_a_shape_the_graph_cannot_shrink():
    p = {"up": jnp.ones((3, 16)), "down": jnp.ones((16, 2))}
    apply = lambda p, x: jnp.sort(x @ p["up"], axis=-1) @ p["down"]
    groups = compress.dependency_groups(apply, p, jnp.ones((1, 3)))
    assert not groups.prunable
    with pytest.raises(KeyError, match=r"no group 'up:1' can shrink; it is frozen: .*"):
        compress.shrink(p, groups, {"up:1": jnp.ones(16)}, target=compress.params(0.5))
    with pytest.raises(ValueError, match=r"80 of 80 remain.*up:1 \("):
        compress.shrink(p, groups, {}, target=compress.params(0.5))


def hidden():
    p = {"up": jnp.ones((3, 16)), "down": jnp.ones((16, 2))}
    apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
    return p, compress.dependency_groups(apply, p, jnp.ones((1, 3)))


@pytest.mark.own_checks
@pytest.mark.parametrize("limit", ["0.5", None, True])
def test_a_limit_that_is_no_number(limit):
    with pytest.raises(ValueError, match=f"a fraction in .* got {limit}"):
        compress.params(limit)


@pytest.mark.own_checks
@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"target": 0.5}, TypeError, r"one of `compress.params`.* got 0.5"),
        ({"target": {"up:1": 3.5}}, ValueError, r"3.5 units .* whole number from 1"),
        ({"target": {"up:1": 8}, "round_to": 1.5}, ValueError, r"whole .* got 1.5"),
    ],
)
def test_what_is_no_target(settings, error, words):
    p, groups = hidden()
    scores = compress.l2_importance(p, groups)
    with pytest.raises(error, match=words):
        compress.shrink(p, groups, scores, **settings)


def test_numbers_of_numpy_are_numbers():
    p, groups = hidden()
    scores = compress.l2_importance(p, groups)
    for target in (compress.params(np.int64(40)), {"up:1": np.int64(8)}):
        smaller, _ = compress.shrink(
            p, groups, scores, target=target, round_to=np.int64(4)
        )
        assert smaller["up"].shape == (3, 8)
    masks = compress.n_of_m_masks(params(), n=np.int64(1), m=np.int32(2), axis=0)
    assert int(masks["a"]["kernel"].sum()) == 12
    schedule = compress.cubic(np.float32(0.5), begin=np.int64(0), end=np.int64(4))
    assert float(schedule(np.int64(4))) == 0.5
    keep = compress.keep_sparse(np.float32(0.5), every=np.int64(2))
    updates, _ = keep.update(params(), keep.init(params()), params())
    assert int((updates["a"]["kernel"] == -1).sum()) == 12  # what a weight of 1 lacks
    cut = compress.take_layers({"l0": 1, "l1": 2}, np.array([1]), where=r"^l(\d)")
    assert cut == {"l0": 2}


def test_sparse_gpt_with_numbers_out_of_range():
    kernel, hessian = jnp.ones((6, 4)), jnp.eye(6)
    for wrong in ({"damping": -1.0}, {"damping": float("nan")}, {"block": 0}):
        with pytest.raises(ValueError, match="`damping` must be 0 or more and `block`"):
            compress.sparse_gpt(kernel, hessian, sparsity=0.5, **wrong)


def test_wanda_of_inputs_that_belong_to_no_kernel():
    with pytest.raises(ValueError, match=r"'a/kernl', which is no .* mean 'a/kernel'"):
        compress.wanda_scores(params(), {"a/kernl": jnp.ones((2, 6))})
