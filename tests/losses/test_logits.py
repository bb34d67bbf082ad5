import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import losses


def test_soft_target_kl_by_hand():
    student = jnp.array([[0.0, 0.0]])
    teacher = jnp.array([[0.0, jnp.log(3.0)]])  # p = (1/4, 3/4), q = (1/2, 1/2)
    expected = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    value = losses.soft_target_kl(student, teacher)
    np.testing.assert_allclose(value, [expected], rtol=1e-6)


def test_soft_target_kl_by_hand_at_temperature_two():
    student = jnp.array([0.0, 0.0])
    teacher = jnp.array([0.0, 2 * jnp.log(3.0)])  # p = (1/4, 3/4) again
    expected = 4 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    value = losses.soft_target_kl(student, teacher, temperature=2.0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_soft_target_kl_at_high_temperature_is_half_the_centred_logit_mse():
    # Hinton et al., section 2.1: the gradient tends to (s - t) / C.
    keys = jax.random.split(jax.random.key(0))
    s, t = (jax.random.normal(k, (4, 7)) for k in keys)
    s, t = (x - x.mean(axis=-1, keepdims=True) for x in (s, t))
    with jax.enable_x64(True):
        s, t = s.astype(jnp.float64), t.astype(jnp.float64)
        value = losses.soft_target_kl(s, t, temperature=1e4)
        np.testing.assert_allclose(value, losses.logit_mse(s, t) / 2, rtol=1e-3)


def test_soft_target_kl_gradient_is_difference_of_distributions():
    keys = jax.random.split(jax.random.key(1))
    s, t = (jax.random.normal(k, (4, 7)) for k in keys)
    grads = jax.grad(lambda s: losses.soft_target_kl(s, t, temperature=3.0).sum())(s)
    expected = 3.0 * (jax.nn.softmax(s / 3.0) - jax.nn.softmax(t / 3.0))
    np.testing.assert_allclose(grads, expected, rtol=1e-4, atol=1e-6)


def test_student_that_rules_out_a_likely_class_costs_infinity_with_finite_gradient():
    student, teacher = jnp.array([0.0, -jnp.inf]), jnp.array([0.0, 0.0])
    loss = lambda s: losses.soft_target_kl(s, teacher)
    assert loss(student) == jnp.inf
    np.testing.assert_allclose(jax.grad(loss)(student), [0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature):
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        losses.soft_target_kl(x, x, temperature=temperature)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]]))
    value = losses.cross_entropy(logits, jnp.array([1, 0]))
    np.testing.assert_allclose(value, [-np.log(0.8), np.log(2)], rtol=1e-6)


def test_cross_entropy_equals_optax_on_one_hot_labels():
    logits = jax.random.normal(jax.random.key(0), (5, 4))
    labels = jnp.array([0, 3, 2, 1, 1])
    expected = optax.losses.softmax_cross_entropy(logits, jax.nn.one_hot(labels, 4))
    np.testing.assert_allclose(
        losses.cross_entropy(logits, labels), expected, rtol=1e-6
    )


def test_label_out_of_range_is_an_error_that_says_where():
    logits = jnp.zeros((3, 4))
    with pytest.raises(ValueError, match=r"label 4 at position 1 is outside \[0, 4\)"):
        losses.cross_entropy(logits, jnp.array([0, 4, 1]))
    with pytest.raises(ValueError, match="label -1 at position 2"):
        losses.cross_entropy(logits, jnp.array([0, 1, -1]))


def test_label_out_of_range_is_nan_under_jit():
    value = jax.jit(losses.cross_entropy)(jnp.zeros((2, 4)), jnp.array([0, 4]))
    np.testing.assert_array_equal(jnp.isnan(value), [False, True])


@pytest.mark.own_checks
def test_different_class_counts_are_named():
    with pytest.raises(ValueError, match=r"5 classes .* but `teacher_logits` has 6"):
        losses.soft_target_kl(jnp.ones((2, 5)), jnp.ones((2, 6)))


def test_logit_mse_by_hand():
    value = losses.logit_mse(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(value, (0 + 4 + 9) / 3)


def test_alpha_beta_divergence_by_hand_and_at_its_limits():
    student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, jnp.log(3.0)]])
    q, p = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    expected = (0.4 * p**1.2 + 0.8 * q**1.2) / 1.2 - p**0.4 * q**0.8
    value = losses.alpha_beta_divergence(student, teacher, alpha=0.4, beta=0.8)
    np.testing.assert_allclose(value, expected.sum() / (0.4 * 0.8), rtol=1e-5)
    for powers, limit in (
        ({"alpha": 1.0, "beta": 1e-3}, losses.forward_kl),
        ({"alpha": 1e-3, "beta": 1.0}, losses.reverse_kl),
    ):
        value = losses.alpha_beta_divergence(student, teacher, **powers)
        np.testing.assert_allclose(value, limit(student, teacher), rtol=5e-3)
    with pytest.raises(ValueError, match="`beta` must be positive"):
        losses.alpha_beta_divergence(student, teacher, beta=0.0)


def test_large_logits_keep_their_digits():
    student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[0.5, 0.0]])
    near = losses.forward_kl(student, teacher)
    far = losses.forward_kl(student + 2.0**20, teacher - 2.0**20)
    np.testing.assert_allclose(far, near, rtol=1e-6)
