import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import compress


def kernels(seed=0):
    a, b = jax.random.split(jax.random.key(seed))
    return {
        "a": {"kernel": jax.random.normal(a, (13, 7)), "bias": jnp.ones(7)},
        "b": {"kernel": 3 * jax.random.normal(b, (5, 11)), "bias": jnp.ones(11)},
    }


def dropped(mask):
    return int(jnp.sum(~mask))


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9, 0.99])
def test_drops_exactly_the_asked_number(sparsity):
    params = kernels()
    masks = compress.magnitude_masks(params, sparsity)
    assert dropped(masks["a"]["kernel"]) == round(sparsity * 91)
    assert dropped(masks["b"]["kernel"]) == round(sparsity * 55)
    assert masks["a"]["bias"].all()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_drops_exactly_the_asked_number_when_all_are_tied(sparsity, value):
    mask = compress.magnitude_masks({"kernel": jnp.full((10, 10), value)}, sparsity)
    flat = np.asarray(mask["kernel"]).ravel()
    kept = 100 - round(sparsity * 100)
    np.testing.assert_array_equal(flat, np.arange(100) < kept)  # the earlier are kept


def test_equals_a_sort():
    params = kernels()
    masks = compress.magnitude_masks(params, 0.6)
    for name in ("a", "b"):
        magnitude = np.abs(np.asarray(params[name]["kernel"])).ravel()
        drop = round(0.6 * magnitude.size)
        expected = np.ones(magnitude.size, bool)
        expected[np.argsort(magnitude)[:drop]] = False
        np.testing.assert_array_equal(masks[name]["kernel"].ravel(), expected)


def test_across_leaves_one_threshold_serves_all():
    params = kernels()
    masks = compress.magnitude_masks(params, 0.6, across=True)
    joined = jnp.concatenate([jnp.abs(params[n]["kernel"]).ravel() for n in "ab"])
    threshold = jnp.sort(joined)[round(0.6 * joined.size)]
    for name in ("a", "b"):
        expected = jnp.abs(params[name]["kernel"]) >= threshold
        np.testing.assert_array_equal(masks[name]["kernel"], expected)
    assert sum(dropped(masks[n]["kernel"]) for n in "ab") == round(0.6 * joined.size)


def test_across_leaves_ties_are_exact_too():
    params = {"a": {"kernel": jnp.ones(6)}, "b": {"kernel": jnp.ones(4)}}
    masks = compress.magnitude_masks(params, 0.3, across=True)
    assert dropped(masks["a"]["kernel"]) == 0
    np.testing.assert_array_equal(masks["b"]["kernel"], [True, False, False, False])


def test_a_traced_sparsity_gives_the_same_masks():
    params = kernels()
    traced = jax.jit(compress.magnitude_masks)(params, jnp.float32(0.7))
    jax.tree.map(
        np.testing.assert_array_equal, traced, compress.magnitude_masks(params, 0.7)
    )


def test_one_weight_is_always_kept():
    mask = compress.magnitude_masks({"kernel": jnp.array([1.0, 2.0])}, 0.99)
    np.testing.assert_array_equal(mask["kernel"], [False, True])


def test_prune_is_idempotent_and_keeps_structure_and_dtype():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), kernels())
    once, masks = compress.magnitude_prune(params, 0.5)
    twice, _ = compress.magnitude_prune(once, 0.5)
    jax.tree.map(np.testing.assert_array_equal, once, twice)
    assert jax.tree.structure(once) == jax.tree.structure(params)
    assert once["a"]["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(once["a"]["kernel"] != 0, masks["a"]["kernel"])


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan")])
def test_sparsity_out_of_range_is_an_error(sparsity):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        compress.magnitude_prune(kernels(), sparsity)


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_paths():
    with pytest.raises(ValueError, match=r"'kernl\$' matches no path.*a/kernel"):
        compress.magnitude_prune(kernels(), 0.5, where="kernl$")


def test_masks_of_another_tree_are_refused():
    params = {"kernel": jnp.ones(3)}
    with pytest.raises(ValueError, match="masks have no leaf 'kernel'"):
        compress.apply_masks(params, {"weight": jnp.ones(3, bool)})
    with pytest.raises(ValueError, match=r"mask of 'kernel' has shape \(4,\)"):
        compress.apply_masks(params, {"kernel": jnp.ones(4, bool)})
