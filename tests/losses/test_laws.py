"""Identities and limits of the losses, on inputs that hypothesis makes up."""

import hypothesis
import hypothesis.extra.numpy as npst
import jax
import jax.test_util
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import numpy as jnp

from jaxkd import losses

ordinary = hypothesis.settings(derandomize=True, deadline=None, max_examples=10)
BATCH = 3
DIVERGENCES = {
    "forward_kl": losses.forward_kl,
    "reverse_kl": losses.reverse_kl,
    "symmetric_kl": losses.symmetric_kl,
    "generalized_jsd": losses.generalized_jsd,
    "rescaled_jsd": losses.rescaled_jsd,
    "skewed_forward_kl": losses.skewed_forward_kl,
    "skewed_reverse_kl": losses.skewed_reverse_kl,
    "total_variation": losses.total_variation,
    "adaptive_kl": losses.adaptive_kl,
    "alpha_beta_divergence": losses.alpha_beta_divergence,
}
BOUNDS = {
    "generalized_jsd": np.log(2),
    "skewed_forward_kl": -np.log(0.1),
    "skewed_reverse_kl": -np.log(0.1),
    "total_variation": 1.0,
}
divergences = pytest.mark.parametrize("name", DIVERGENCES)


def numbers(limit):
    return st.floats(-limit, limit, width=32, allow_subnormal=False)


@st.composite
def pairs(draw, limit=30.0):
    """Logits of both: any number of classes, ties, some classes masked in both."""
    shape = (BATCH, draw(st.sampled_from([1, 2, 5])))
    elements = st.one_of(numbers(limit), st.sampled_from([0.0, 1.0]))
    s, t = (draw(npst.arrays(np.float32, shape, elements=elements)) for _ in range(2))
    masked = draw(npst.arrays(bool, shape)) & (np.arange(shape[1]) > 0)
    return tuple(jnp.asarray(np.where(masked, -np.inf, x)) for x in (s, t))


def random_pair(shape=(4, 7), seed=0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed))
    return [jax.random.normal(k, shape).astype(dtype) * 2 for k in keys]


@divergences
@ordinary
@hypothesis.given(pair=pairs())
def test_is_never_negative_and_finite_with_its_gradient(name, pair):
    divergence = DIVERGENCES[name]
    value = divergence(*pair)
    assert jnp.all(jnp.isfinite(value))
    assert jnp.all(value >= -1e-5)
    assert jnp.all(value <= BOUNDS.get(name, np.inf) + 1e-5)
    for side in (0, 1):
        gradient = jax.grad(lambda *p: divergence(*p).sum(), argnums=side)(*pair)
        assert jnp.all(jnp.isfinite(gradient))
        np.testing.assert_allclose(gradient.sum(axis=-1), 0.0, atol=1e-4)


@divergences
@ordinary
@hypothesis.given(pair=pairs(limit=4.0), shift=numbers(50.0))
def test_ignores_a_shift_of_all_logits(name, pair, shift):
    s, t = pair
    divergence = DIVERGENCES[name]
    expected = divergence(s, t)
    moved = divergence(s + np.float32(shift), t - np.float32(shift))
    np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=1e-4)


@divergences
@pytest.mark.parametrize("limit", [3e38, 1e-38])
@ordinary
@hypothesis.given(data=st.data())
def test_huge_and_tiny_logits_give_no_nan(name, limit, data):
    s, t = data.draw(pairs(limit=float(np.float32(limit))))
    value = DIVERGENCES[name](s / 2, t / 2)
    assert not jnp.any(jnp.isnan(value))
    assert jnp.all(value >= -1e-5)


@divergences
def test_infinite_or_missing_logits_spoil_no_other_example(name):
    s, t = random_pair()
    expected = DIVERGENCES[name](s, t)
    where = jnp.array([True, False, True, True])
    for bad in (jnp.inf, jnp.nan):
        spoiled = s.at[1, 2].set(bad)
        value = DIVERGENCES[name](spoiled, t)
        np.testing.assert_array_equal(value[where], expected[where])
        loss = lambda s: DIVERGENCES[name](s, t, where=where).sum()
        np.testing.assert_allclose(loss(spoiled), expected[where].sum(), rtol=1e-5)
        gradient = jax.grad(loss)(spoiled)
        np.testing.assert_array_equal(gradient[1], 0.0)
        assert jnp.all(jnp.isfinite(gradient))


@divergences
def test_class_mask_is_the_same_as_cutting(name):
    s, t = random_pair((4, 9))
    mask = jnp.arange(9) < 6
    kwargs = {"temperature": 2.0}
    expected = DIVERGENCES[name](s[:, :6], t[:, :6], **kwargs)
    masked = lambda s: DIVERGENCES[name](s, t, class_mask=mask, **kwargs)
    np.testing.assert_allclose(masked(s), expected, rtol=1e-5)
    gradient = jax.grad(lambda s: masked(s).sum())(s)
    np.testing.assert_array_equal(gradient[:, 6:], 0.0)
    wider = jnp.pad(t, ((0, 0), (0, 4)))
    np.testing.assert_allclose(
        DIVERGENCES[name](*losses.common_classes(s, wider), **kwargs),
        DIVERGENCES[name](s, t, **kwargs),
    )


@divergences
def test_takes_a_temperature_per_position(name):
    s, t = random_pair()
    temperatures = jnp.array([1.0, 2.0, 4.0, 8.0])
    value = DIVERGENCES[name](s, t, temperature=temperatures)
    for i, temperature in enumerate((1.0, 2.0, 4.0, 8.0)):
        expected = DIVERGENCES[name](s[i], t[i], temperature=temperature)
        np.testing.assert_allclose(value[i], expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="`temperature` has shape"):
        DIVERGENCES[name](s, t, temperature=temperatures[:2])


@pytest.mark.own_checks
@divergences
def test_wrong_masks_are_named(name):
    s, t = random_pair()
    with pytest.raises(ValueError, match="`where` has shape"):
        DIVERGENCES[name](s, t, where=jnp.ones(3, bool))
    with pytest.raises(ValueError, match="`class_mask` has shape"):
        DIVERGENCES[name](s, t, class_mask=jnp.ones(3, bool))


@divergences
def test_teacher_gradient_equals_finite_differences(name):
    if name == "adaptive_kl":
        pytest.skip("holds its weights")
    with jax.enable_x64(True):
        s, t = random_pair(dtype=jnp.float64)
        loss = lambda t, tau: DIVERGENCES[name](
            s, jnp.asarray(t), temperature=jnp.asarray(tau)
        ).sum()
        jax.test_util.check_grads(
            loss, (t, jnp.asarray(2.0)), order=1, modes=["fwd", "rev"], rtol=1e-6
        )


@ordinary
@hypothesis.given(pair=pairs(limit=5.0))
def test_limits_of_the_rescaled_jensen_shannon_divergence(pair):
    with jax.enable_x64(True):
        s, t = (x.astype(jnp.float64) for x in pair)
        for beta, limit in ((1e-7, losses.forward_kl), (1 - 1e-7, losses.reverse_kl)):
            value = losses.rescaled_jsd(s, t, beta=beta)
            np.testing.assert_allclose(value, limit(s, t), rtol=1e-2, atol=1e-6)


def test_jensen_shannon_is_symmetric_and_vanishes_at_the_ends():
    s, t = random_pair()
    np.testing.assert_allclose(
        losses.generalized_jsd(s, t, beta=0.3),
        losses.generalized_jsd(t, s, beta=0.7),
        rtol=1e-6,
    )
    assert jnp.all(losses.generalized_jsd(s, t, beta=1e-4) < 1e-3)
    for beta in (0.0, 1.0):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            losses.generalized_jsd(s, t, beta=beta)


def test_pinsker_and_data_processing():
    s, t = random_pair()
    bound = jnp.sqrt(losses.forward_kl(s, t) / 2)
    assert jnp.all(losses.total_variation(s, t) <= bound)
    total = jax.nn.logsumexp(t, axis=-1)
    dense = losses.soft_target_kl(s, t)
    for k in (1, 3, 6):
        values, ids = jax.lax.top_k(t, k)
        assert jnp.all(losses.top_k_kl(s, ids, values, total) <= dense + 1e-6)


@ordinary
@hypothesis.given(pair=pairs(limit=5.0), scale=st.floats(0.5, 4.0, width=32))
def test_standardized_loss_ignores_scale_and_shift(pair, scale):
    s, t = pair
    finite = jnp.where(jnp.isneginf(s), 0.0, s)
    hypothesis.assume(float(jnp.min(jnp.std(finite, axis=-1))) > 0.1)
    loss = losses.standardized(losses.soft_target_kl)
    moved = loss(s * np.float32(scale) + 2.0, t)
    np.testing.assert_allclose(moved, loss(s, t), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "fn",
    [
        losses.intra_class_relation,
        losses.class_correlation,
        losses.batch_correlation,
        losses.self_weighted_cross_entropy,
        losses.focal_temperature,
        losses.confidence_temperature,
    ],
)
def test_under_pmap_a_coupling_loss_sees_the_global_batch(fn):
    s, t = random_pair((16, 5))
    where = jnp.arange(16) % 5 != 1
    labels = jnp.arange(16) % 5
    more = {
        losses.self_weighted_cross_entropy: (labels,),
        losses.confidence_temperature: (),
    }.get(fn, (t,))
    whole = lambda s: jnp.mean(fn(s, *more, where=where))

    def local(s, w, *more):
        loss = lambda s: jnp.mean(fn(s, *more, where=w, axis_name="i"))
        value, gradient = jax.value_and_grad(loss)(s)
        return jax.lax.pmean(value, "i"), gradient / 8  # of the mean over devices

    shards = [x.reshape(8, 2, *x.shape[1:]) for x in (s, where, *more)]
    value, gradient = jax.pmap(local, axis_name="i")(*shards)
    np.testing.assert_allclose(value, np.full(8, whole(s)), rtol=1e-5)
    np.testing.assert_allclose(
        gradient.reshape(s.shape), jax.grad(whole)(s), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize(
    "fn",
    [losses.intra_class_relation, losses.class_correlation, losses.batch_correlation],
)
def test_rows_that_do_not_count_change_nothing(fn):
    s, t = random_pair((6, 5))
    where = jnp.array([1, 1, 0, 1, 0, 1], bool)
    kept = np.flatnonzero(where)
    value = lambda s: fn(s, t, where=where)
    np.testing.assert_allclose(value(s), fn(s[kept], t[kept]), rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(value)(s)[~where], 0.0)
    assert jnp.isfinite(fn(s, t, where=jnp.zeros(6, bool)))


def test_one_side_masked():
    s, t = random_pair()
    less = t.at[:, 2].set(-jnp.inf)
    for fn in (losses.forward_kl, losses.generalized_jsd, losses.total_variation):
        loss = lambda s: fn(s, less).sum()  # noqa: B023
        assert jnp.isfinite(loss(s))
        assert jnp.all(jnp.isfinite(jax.grad(loss)(s)))
    assert jnp.all(losses.reverse_kl(s, less) == jnp.inf)


def test_reverse_gradient_changes_only_the_gradient():
    x = jnp.array([0.1, -3.0, 1e30])
    np.testing.assert_array_equal(losses.reverse_gradient(x, scale=0.7), x)
    gradient = jax.grad(lambda x: losses.reverse_gradient(x, scale=0.7)[0])(x)
    np.testing.assert_allclose(gradient, [-0.7, 0.0, 0.0])


def test_second_derivatives_exist():
    s, t = random_pair((5,))
    hessian = jax.hessian(lambda s: losses.forward_kl(s, t))(s)
    q = jax.nn.softmax(s)
    np.testing.assert_allclose(hessian, jnp.diag(q) - jnp.outer(q, q), atol=1e-5)
