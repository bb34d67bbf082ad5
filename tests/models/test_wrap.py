import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import models

BATCH = {
    "image": jnp.asarray(np.random.default_rng(0).normal(size=(8, 6)), jnp.float32)
}
PLAIN = models.from_linen(models.MLP((64, 64), 3))
VARIABLES = PLAIN.init(jax.random.key(0), BATCH)


def gradient(model):
    loss = lambda p: jnp.sum(model.apply(p, {}, BATCH, train=True).logits ** 2)
    return jax.jit(jax.grad(loss))(VARIABLES.params)


def test_remat_gives_the_same_gradient_of_more_operations():
    remat = models.remat(PLAIN)
    for a, b in zip(*map(jax.tree.leaves, map(gradient, (PLAIN, remat))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    loss = lambda m: lambda p: jnp.sum(m.apply(p, {}, BATCH, train=True).logits ** 2)
    trace = str(jax.make_jaxpr(jax.grad(loss(remat)))(VARIABLES.params))
    assert "remat" in trace or "checkpoint" in trace
    out = remat.apply(*VARIABLES, BATCH, features=("dense1",))
    assert out.features["dense1"].shape == (8, 64)


def test_cast_computes_in_another_type_and_keeps_the_head():
    half = models.cast(PLAIN, jnp.bfloat16)
    head = models.cast(PLAIN, jnp.bfloat16, keep="^head/")
    exact = PLAIN.apply(*VARIABLES, BATCH).logits
    all_half, but_head = (m.apply(*VARIABLES, BATCH).logits for m in (half, head))
    assert all_half.dtype == but_head.dtype == jnp.float32
    np.testing.assert_allclose(all_half, exact, atol=0.05)
    rounded = all_half.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_array_equal(rounded, all_half)
    assert jnp.any(but_head.astype(jnp.bfloat16).astype(jnp.float32) != but_head)
    types = {g.dtype for g in jax.tree.leaves(gradient(half))}
    assert types == {jnp.dtype("float32")}
    with pytest.raises(ValueError, match="haed"):
        models.cast(PLAIN, jnp.bfloat16, keep="^haed/").apply(*VARIABLES, BATCH)


def test_cast_leaves_batchnorm_statistics_as_they_are():
    model = models.cast(models.from_linen(models.CNN((2,), 3)), jnp.bfloat16)
    batch = {"image": jnp.ones((4, 4, 4, 1))}
    params, state = model.init(jax.random.key(0), batch)
    after = model.apply(params, state, batch, train=True).state
    kinds = {x.dtype for x in jax.tree.leaves((state, after))}
    assert kinds == {jnp.dtype("float32")}


def test_a_baked_model_has_no_variables_and_a_limit():
    fixed = models.bake(PLAIN, VARIABLES)
    assert fixed.init(jax.random.key(1), BATCH) == models.Variables({})
    np.testing.assert_allclose(
        jax.jit(lambda b: fixed.apply({}, {}, b).logits)(BATCH),
        PLAIN.apply(*VARIABLES, BATCH).logits,
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="more than max_bytes=100"):
        models.bake(PLAIN, VARIABLES, max_bytes=100)


def kept_bytes(model, params, batch):
    """What the forward pass leaves for the gradient, besides the parameters."""
    forward = lambda p: model.apply(p, {}, batch, train=True).logits
    _, backward = jax.eval_shape(lambda p: jax.vjp(forward, p), params)
    own = sum(x.nbytes for x in jax.tree.leaves(params))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward)) - own


def test_remat_of_the_blocks_keeps_little_and_computes_the_same():
    sizes = {"vocabulary": 20, "classes": 3, "width": 16, "depth": 4, "heads": 2}
    batch = {"tokens": jnp.arange(64).reshape(4, 16) % 20}
    plain, remat = (
        models.from_linen(models.Transformer(**sizes, remat=r), inputs=("tokens",))
        for r in (False, True)
    )
    params, _ = plain.init(jax.random.key(0), batch)
    assert kept_bytes(remat, params, batch) < kept_bytes(plain, params, batch) / 5
    name = "block2/attention/query"
    results = []
    for model in (plain, remat):
        apply = lambda p, m=model: m.apply(p, {}, batch, train=True, features=(name,))
        loss = lambda p, f=apply: jnp.sum(f(p).logits ** 2)
        features = jax.jit(apply)(params).features
        results.append((jax.jit(jax.grad(loss))(params), features))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results
    )
