"""What the losses for sparse and corrected teachers, and with labels, reduce to."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import losses


def random_pair(shape=(4, 7), seed=0):
    keys = jax.random.split(jax.random.key(seed))
    return [jax.random.normal(k, shape) * 2 for k in keys]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_sparse_teacher_with_all_classes_is_dense(temperature):
    s, t = random_pair()
    values, ids = jax.lax.top_k(t, 7)
    total = jax.nn.logsumexp(t / temperature, axis=-1)
    dense = losses.soft_target_kl(s, t, temperature=temperature)
    for value in (
        losses.top_k_kl(s, ids, values, total, temperature=temperature),
        losses.renormalized_top_k_kl(s, ids, values, temperature=temperature),
        losses.teacher_renormalized_top_k_kl(s, ids, values, temperature=temperature),
    ):
        np.testing.assert_allclose(value, dense, rtol=1e-4, atol=1e-6)
    p = jax.nn.softmax(values / temperature)
    np.testing.assert_allclose(
        losses.sampled_soft_cross_entropy(s, ids, p, temperature=temperature),
        losses.soft_cross_entropy(s, t, temperature=temperature),
        rtol=1e-5,
    )


def test_a_sampled_teacher_is_unbiased():
    s, t = random_pair((1, 5))
    draws = jax.random.categorical(jax.random.key(0), t, shape=(20_000, 1))
    weights = jnp.ones((20_000, 1))
    students = jnp.repeat(s, 20_000, axis=0)
    loss = lambda s: losses.sampled_soft_cross_entropy(s, draws, weights).mean()
    dense = lambda s: losses.soft_cross_entropy(s, t).mean()
    np.testing.assert_allclose(loss(students), dense(s), rtol=0.02)
    gradient = jax.grad(loss)(students).sum(axis=0)
    np.testing.assert_allclose(gradient, jax.grad(dense)(s)[0], atol=0.02)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_kd_reduces_to_kd(temperature):
    # Zhao et al., equation 5: KD = TCKD + (1 - p_y) NCKD.
    s, t = random_pair()
    labels = jnp.array([0, 3, 6, 2])
    kwargs = {"temperature": temperature}
    target = losses.decoupled_kd(s, t, labels, alpha=1.0, beta=0.0, **kwargs)
    others = losses.decoupled_kd(s, t, labels, alpha=0.0, beta=1.0, **kwargs)
    p_rest = 1 - jax.nn.softmax(t / temperature)[jnp.arange(4), labels]
    np.testing.assert_allclose(
        target + p_rest * others, losses.soft_target_kl(s, t, **kwargs), rtol=1e-5
    )


def test_soft_label_decoupled_kd_is_the_expected_one():
    s, t = random_pair()
    label = jax.nn.softmax(random_pair(seed=3)[0])
    each = jnp.stack([losses.decoupled_kd(s, t, jnp.full(4, y)) for y in range(7)], 1)
    np.testing.assert_allclose(
        losses.soft_label_decoupled_kd(s, t, label),
        jnp.sum(label * each, axis=1),
        rtol=1e-5,
    )


@pytest.mark.parametrize("gap", [100.0, 4000.0])
def test_decoupled_kd_of_saturated_models_is_finite_and_right(gap):
    others = jnp.array([0.0, 1.0, 2.0])
    t = jnp.concatenate([jnp.array([gap]), others])[None]
    s = jnp.concatenate([jnp.array([gap]), others[::-1]])[None]
    labels = jnp.array([0])
    expected = 8.0 * losses.soft_target_kl(others[::-1], others, temperature=4.0)
    for fn, label in (
        (losses.decoupled_kd, labels),
        (losses.soft_label_decoupled_kd, jnp.eye(4)[:1]),
    ):
        loss = lambda s: fn(s, t, label)[0]  # noqa: B023
        np.testing.assert_allclose(loss(s), expected, rtol=1e-4)
        assert jnp.all(jnp.isfinite(jax.grad(loss)(s)))


def test_soft_cross_entropy_is_kl_plus_entropy():
    s, t = random_pair()
    difference = losses.soft_cross_entropy(s, t) - losses.soft_target_kl(s, t)
    np.testing.assert_allclose(difference, losses.soft_cross_entropy(t, t), rtol=1e-5)


def test_target_enhanced_cross_entropy_at_exponent_one_is_soft_cross_entropy():
    s, t = random_pair()
    np.testing.assert_allclose(
        losses.target_enhanced_cross_entropy(s, t, jnp.zeros(4, int), exponent=1.0),
        losses.soft_cross_entropy(s, t),
        rtol=1e-5,
    )


def test_transformed_teacher_is_a_temperature_of_the_teacher():
    s, t = random_pair()
    np.testing.assert_allclose(
        losses.transformed_teacher_kl(s, t, exponent=0.25),
        losses.forward_kl(s, t / 4),
        rtol=1e-5,
    )


def test_corrected_teacher_leads_by_the_margin_and_never_less():
    _, t = random_pair((16, 5), seed=1)
    labels = jnp.arange(16) % 5
    p = jnp.exp(losses.corrected_teacher_logits(t, labels, margin=0.3))
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, rtol=1e-6)
    at_label = p[jnp.arange(16), labels]
    others = p.at[jnp.arange(16), labels].set(0.0).max(axis=-1)
    assert jnp.all(at_label - others >= 0.3 - 1e-5)
    led = (jax.nn.softmax(t)[jnp.arange(16), labels] - others) > 0.4
    np.testing.assert_allclose(p[led], jax.nn.softmax(t)[led], rtol=1e-5)
