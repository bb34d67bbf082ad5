import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from jaxkd import trees

PARAMS = {
    "body": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)},
    "head": jnp.ones(4),
}


def test_the_first_rule_that_matches_wins():
    rules = [("^body/bias", 1), ("^body/", 2)]
    assert trees.assign(PARAMS, rules, default=0) == {
        "body": {"kernel": 2, "bias": 1},
        "head": 0,
    }


def test_a_rule_that_matches_nothing_is_an_error_with_the_nearest_paths():
    with pytest.raises(ValueError, match=r"'bdy/kernel' matches no path: did you mean"):
        trees.assign(PARAMS, [("bdy/kernel", 1)], default=0)
    with pytest.raises(ValueError, match="no regular expression"):
        trees.mask(PARAMS, "kernel(")


def test_one_rule_serves_nnx_and_linen():
    state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    assert set(trees.flatten(state)) == {"kernel", "bias"}
    mask = trees.mask(state, "kernel$")
    assert sum(jax.tree.leaves(mask)) == 1


def test_a_leaf_that_is_itself_called_value_keeps_its_name():
    assert set(trees.flatten({"attention": {"value": 1}})) == {"attention/value"}


def test_split_and_merge_are_inverse():
    mask = trees.mask(PARAMS, "kernel")
    chosen, others = trees.split(PARAMS, mask)
    assert len(jax.tree.leaves(chosen)) == 1
    assert len(jax.tree.leaves(others)) == 2
    whole = trees.merge(chosen, others)
    jax.tree.map(np.testing.assert_array_equal, whole, PARAMS)
    with pytest.raises(ValueError, match="both trees have a leaf at 'body/kernel'"):
        trees.merge(PARAMS, chosen)


def test_counts():
    assert trees.count(PARAMS) == 6 + 3 + 4
    assert trees.num_bytes(PARAMS) == 4 * 13
    assert trees.num_bytes({"q": jnp.ones(5, jnp.int8)}) == 5
    assert trees.sparsity(PARAMS) == pytest.approx(3 / 13)
    assert trees.sparsity({}) == 0.0
    with_keys = {"keys": jax.random.split(jax.random.key(0), 3), "w": jnp.zeros(1)}
    assert trees.num_bytes(with_keys) == 3 * 8 + 4
    assert trees.sparsity(with_keys) == 0.25


def test_digest_sees_every_bit_dtype_shape_and_path():
    base = {"w": jnp.arange(4.0), "k": jax.random.key(0)}
    changed = [
        {**base, "w": base["w"].at[2].set(2.0000002)},
        {**base, "w": base["w"].astype(jnp.float16)},
        {**base, "w": base["w"].reshape(2, 2)},
        {**base, "k": jax.random.key(1)},
        {"v": base["w"], "k": base["k"]},
    ]
    digests = {trees.digest(tree) for tree in [base, *changed]}
    assert len(digests) == 6
    copy = {"k": jax.random.key(0), "w": np.arange(4.0, dtype=np.float32)}
    assert trees.digest(copy) == trees.digest(base)
