import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import losses, models, objectives, train

RNG = np.random.default_rng(0)
STUDENT, A, B = (jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32) for _ in "sab")
LABELS = jnp.array([0, 1, 2, 3, 0, 1])
SOFT = objectives.soft_target(temperature=4.0)


def view(**teachers):
    teachers = teachers or {"a": A, "b": B}
    features = {f"{name}/body": logits[:, :2] for name, logits in teachers.items()}
    return objectives.View(
        student=models.Out(STUDENT, {"body": STUDENT[:, :2]}),
        teacher=models.Out(teachers, features),
        batch={"label": LABELS},
        step=jnp.int32(0),
        key=jax.random.key(0),
        teacher_variables=models.Variables(
            dict.fromkeys(teachers, 1.0), {name: {} for name in teachers}
        ),
    )


def value(objective, seen):
    params, state = objective.init(jax.random.key(0), seen)
    terms, _ = objective.apply(params, state, seen)
    return float(sum(t.weight * t.mean.value for t in terms.values()))


def kl(teacher):
    values = losses.soft_target_kl(STUDENT, teacher, temperature=4.0)
    return float(values.mean())


def test_following_each_adds_their_losses():
    both = objectives.combine(
        a=(0.25, objectives.follow("a", SOFT)), b=(0.75, objectives.follow("b", SOFT))
    )
    assert value(both, view()) == pytest.approx(0.25 * kl(A) + 0.75 * kl(B), rel=1e-6)
    assert (
        repr(objectives.follow("a", SOFT))
        == "follow('a', soft_target(temperature=4.0))"
    )


def test_features_are_those_of_the_one_followed():
    inner = objectives.on_features(losses.feature_mse, student="body", teacher="body")
    objective = objectives.follow("b", inner)
    assert objective.teacher_features == ("b/body",)
    expected = losses.feature_mse(STUDENT[:, :2], B[:, :2]).mean()
    assert value(objective, view()) == pytest.approx(float(expected), rel=1e-6)


def test_an_ensemble_is_the_mean_of_probabilities():
    mean = jnp.log((jax.nn.softmax(A) + jax.nn.softmax(B)) / 2)
    assert value(objectives.ensemble(SOFT), view()) == pytest.approx(kl(mean), rel=1e-5)
    assert value(objectives.ensemble(SOFT), view(a=A, b=A)) == pytest.approx(
        kl(A), rel=1e-5
    )


def test_confidence_weighs_each_teacher_by_its_cross_entropy():
    right = jax.nn.one_hot(LABELS, 4) * 50.0
    wrong = jax.nn.one_hot((LABELS + 1) % 4, 4) * 50.0
    objective = objectives.confidence_weighted(temperature=4.0)
    found = value(objective, view(a=wrong, b=right))
    assert found == pytest.approx(kl(right), rel=1e-5)
    assert value(objective, view(a=A, b=A)) == pytest.approx(kl(A), rel=1e-5)
    entropies = jnp.stack([losses.cross_entropy(t, LABELS) for t in (A, B)])
    weights = 1 - jax.nn.softmax(entropies, axis=0)
    each = jnp.stack(
        [losses.soft_target_kl(STUDENT, t, temperature=4.0) for t in (A, B)]
    )
    expected = (weights * each).sum(0).mean()
    assert value(objective, view()) == pytest.approx(float(expected), rel=1e-5)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="follows one teacher, but there are 'a', 'b'"):
        value(SOFT, view())
    with pytest.raises(ValueError, match="no teacher 'c'; known are 'a'"):
        value(objectives.follow("c", SOFT), view())
    one = view()._replace(teacher=models.Out(A))
    for objective in (
        objectives.follow("a", SOFT),
        objectives.ensemble(SOFT),
        objectives.confidence_weighted(temperature=1.0),
    ):
        with pytest.raises(ValueError, match="for several teachers, but there is one"):
            value(objective, one)
    with pytest.raises(ValueError, match="an ensemble has no features"):
        objectives.ensemble(objectives.hint(student="body", teacher="body"))
    with pytest.raises(ValueError, match="different shapes"):
        value(objectives.ensemble(SOFT), view(a=A, b=B[:, :3]))


def test_two_teachers_train_one_student_in_one_step():
    student, a, b = (models.from_linen(models.MLP((w,), 3)) for w in (4, 8, 16))
    teachers = models.join(a=a, b=b)
    batch = {"image": RNG.normal(size=(8, 5)).astype("float32"), "label": LABELS[:6]}
    batch = {"image": batch["image"][:6], "label": LABELS[:6] % 3}
    objective = objectives.combine(
        mean=(1.0, objectives.ensemble(SOFT)),
        hint=(
            1.0,
            objectives.follow("b", objectives.hint(student="dense1", teacher="dense1")),
        ),
    )
    variables = models.join_variables(
        a=a.init(jax.random.key(1), batch), b=b.init(jax.random.key(2), batch)
    )
    parts = (student, teachers, objective, optax.adam(0.01))
    state = train.init_state(jax.random.key(0), *parts, batch)
    step = train.jit_step(train.make_train_step(*parts))
    state, before = step(state, variables, batch)
    for _ in range(40):
        state, after = step(state, variables, batch)
        jax.block_until_ready(after)
    assert after["loss"] < before["loss"] / 2


def test_a_joined_model_names_its_features_and_their_errors():
    a, b = (models.from_linen(models.MLP((w,), 3)) for w in (8, 16))
    both, batch = models.join(a=a, b=b), {"image": jnp.ones((2, 5))}
    shapes = {k: v.shape for k, v in models.list_features(both, batch).items()}
    assert shapes["a/dense1"] == (2, 8)
    assert shapes["b/dense1"] == (2, 16)
    variables = both.init(jax.random.key(0), batch)
    with pytest.raises(KeyError, match="must begin with the name of a model"):
        both.apply(*variables, batch, features=("dense1",))
    with pytest.raises(KeyError, match="no feature 'dens1'"):
        both.apply(*variables, batch, features=("b/dens1",))
    with pytest.raises(ValueError, match="at least one model"):
        models.join()
