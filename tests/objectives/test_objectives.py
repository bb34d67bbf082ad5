import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import losses, models, objectives

RNG = np.random.default_rng(0)
STUDENT, TEACHER = (jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32) for _ in "st")
LABELS = jnp.array([0, 1, 2, 3, 0, 1])


def view(**batch):
    return objectives.View(
        student=models.Out(STUDENT),
        teacher=models.Out(TEACHER),
        batch={"label": LABELS, **batch},
        step=jnp.int32(3),
        key=jax.random.key(0),
    )


def values(objective, seen):
    """Each term's mean and weight, as numbers."""
    params, state = objective.init(jax.random.key(0), seen)
    terms, _ = objective.apply(params, state, seen)
    return {k: (float(t.mean.value), float(t.weight)) for k, t in terms.items()}


def test_each_objective_is_the_mean_of_its_loss():
    expected = {
        objectives.soft_target(temperature=4.0): losses.soft_target_kl(
            STUDENT, TEACHER, temperature=4.0
        ),
        objectives.hard_label(): losses.cross_entropy(STUDENT, LABELS),
        objectives.logit_mse(): losses.logit_mse(STUDENT, TEACHER),
    }
    for objective, per_example in expected.items():
        ((mean, weight),) = values(objective, view()).values()
        assert mean == pytest.approx(float(per_example.mean()), rel=1e-6)
        assert weight == 1.0


def test_masks_of_batch_and_objective_both_count():
    mask, labelled = jnp.arange(6) < 5, jnp.arange(6) % 2 == 0
    objective = objectives.hard_label(where="labelled")
    ((mean, _),) = values(objective, view(mask=mask, labelled=labelled)).values()
    kept = losses.cross_entropy(STUDENT, LABELS)[jnp.array([0, 2, 4])]
    assert mean == pytest.approx(float(kept.mean()), rel=1e-6)


def test_a_mask_of_examples_serves_all_positions():
    logits = jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)
    labels = jnp.array([[0, 1, 2], [3, 0, 1]])
    seen = objectives.View(
        student=models.Out(logits),
        teacher=None,
        batch={
            "label": labels,
            "mask": jnp.array([True, False]),
            "real": jnp.array([[True, True, False], [True, True, True]]),
        },
        step=jnp.int32(0),
        key=jax.random.key(0),
    )
    ((mean, _),) = values(objectives.hard_label(where="real"), seen).values()
    kept = losses.cross_entropy(logits, labels)[0, :2]
    assert mean == pytest.approx(float(kept.mean()), rel=1e-6)


def test_combine_names_weighs_and_nests():
    inner = objectives.combine(
        a=(2.0, objectives.logit_mse()), b=(3.0, objectives.hard_label())
    )
    schedule = optax.linear_schedule(0.0, 1.0, 6)
    outer = objectives.combine(x=(schedule, inner), y=(0.5, objectives.hard_label()))
    found = values(outer, view())
    assert {name: weight for name, (_, weight) in found.items()} == {
        "x/a": 1.0,
        "x/b": 1.5,
        "y": 0.5,
    }
    assert found["x/b"][0] == found["y"][0]


def test_combine_asks_for_every_feature_once():
    reads = lambda *names: objectives.logit_mse()._replace(
        student_features=names, teacher_features=names[:1]
    )
    objective = objectives.combine(p=(1.0, reads("a", "b")), q=(1.0, reads("b", "c")))
    assert objective.student_features == ("a", "b", "c")
    assert objective.teacher_features == ("a", "b")


def test_bad_terms_are_errors():
    with pytest.raises(ValueError, match="at least one term"):
        objectives.combine()
    with pytest.raises(TypeError, match=r"`soft` must be \(weight, objective\)"):
        objectives.combine(soft=objectives.logit_mse())
    with pytest.raises(TypeError, match=r"`soft` must be \(weight, objective\)"):
        objectives.combine(soft=(objectives.logit_mse(), 1.0))
    with pytest.raises(ValueError, match="cannot be called 'loss'"):
        objectives.combine(loss=(1.0, objectives.logit_mse()))
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        objectives.soft_target(temperature=0.0)


def test_a_mask_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"mask of shape \(4,\).*shape \(6,\)"):
        values(objectives.hard_label(), view(mask=jnp.ones(4, bool)))
    with pytest.raises(KeyError, match=r"hard_label needs batch\['labelled'\]"):
        values(objectives.hard_label(where="labelled"), view())


def test_a_loss_of_any_two_arrays_reads_the_logits():
    loss = objectives.on_logits(losses.similarity_mahalanobis)
    terms, _ = loss.apply({}, {}, view())
    expected = losses.similarity_mahalanobis(STUDENT, TEACHER)
    np.testing.assert_allclose(terms["similarity_mahalanobis"].mean.value, expected)
