import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import data, losses, models, objectives, train
from jaxkd.data import augment

N, CLASSES = 64, 5


def make(n=N, shape=(12, 8, 1)):
    # Each image is its number everywhere, so that the partner can be told.
    image = np.ones((n, *shape), np.float32) * np.arange(n).reshape(-1, 1, 1, 1) / n
    return {"image": image, "label": np.arange(n) % CLASSES, "mask": np.ones(n, bool)}


def others_and_shares(batch, image):
    """Of cutmix: who was pasted in, and how much is left of the image itself."""
    own = np.isclose(image, batch["image"])
    other = np.where(own, -1.0, image).max((1, 2, 3))
    return np.round(other * len(image)).astype(int), own.mean((1, 2, 3))


def test_mixup_is_convex():
    batch = make()
    batch["image"] = np.random.default_rng(0).normal(size=(N, 12, 8, 1))
    batch["image"] = batch["image"].astype(np.float32)
    batch["label"] = np.arange(N)  # so that the labels tell the partner
    mixed = augment.mixup(alpha=1.0, classes=N)(jax.random.key(0), batch)
    weights = np.asarray(mixed["label_probabilities"])
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert ((weights > 0).sum(1) <= 2).all()
    assert (np.diagonal(weights) > 0).all()
    expected = np.einsum("ij,jhwc->ihwc", weights, batch["image"])
    np.testing.assert_allclose(mixed["image"], expected, atol=1e-5)
    partners = np.where(np.eye(N, dtype=bool), 0, weights).argmax(1)
    assert len(set(partners)) > N - 8  # a permutation; some get themselves


@pytest.mark.parametrize(("alpha", "std"), [(1.0, 12**-0.5), (8.0, 68**-0.5)])
def test_shares_are_of_the_beta_distribution(alpha, std):
    batch = make(n=2000, shape=(1, 1, 1))
    batch["label"] = np.arange(2000)
    mixed = augment.mixup(alpha=alpha, classes=2000)(jax.random.key(0), batch)
    share = np.diagonal(mixed["label_probabilities"])
    np.testing.assert_allclose(share.mean(), 0.5, atol=0.03)
    np.testing.assert_allclose(share.std(), std, rtol=0.06)  # 1 / (2 sqrt(2 alpha + 1))


def test_the_area_of_cutmix_is_its_weight():
    batch = make()
    mixed = augment.cutmix(classes=CLASSES)(jax.random.key(1), batch)
    image = np.asarray(mixed["image"])
    other, share = others_and_shares(batch, image)
    assert share.min() < 0.3
    assert share.max() > 0.95
    one_hot = np.eye(CLASSES)[batch["label"]]
    expected = share[:, None] * one_hot + (1 - share)[:, None] * one_hot[other]
    np.testing.assert_allclose(mixed["label_probabilities"], expected, atol=1e-6)
    pasted = ~np.isclose(image, batch["image"])[..., 0]
    rows, columns = pasted.any(2).sum(1), pasted.any(1).sum(1)
    np.testing.assert_array_equal(pasted.sum((1, 2)), rows * columns)  # boxes


@pytest.mark.parametrize("make_transform", [augment.mixup, augment.cutmix])
def test_padding_is_mixed_into_nothing(make_transform):
    batch = make()
    batch["mask"] = np.arange(N) < 20
    batch["image"][20:] = np.nan
    mixed = make_transform(alpha=1.0, classes=CLASSES)(jax.random.key(0), batch)
    assert np.isfinite(np.asarray(mixed["image"])[:20]).all()
    assert np.isfinite(np.asarray(mixed["label_probabilities"])[:20]).all()


@pytest.mark.parametrize("make_transform", [augment.mixup, augment.cutmix])
def test_labels_leave_the_batch(make_transform):
    mixed = make_transform()(jax.random.key(0), make())
    assert set(mixed) == {"image", "mask"}
    mixed = make_transform(classes=CLASSES)(jax.random.key(0), make())
    assert set(mixed) == {"image", "mask", "label_probabilities"}
    assert mixed["label_probabilities"].dtype == jnp.float32
    with pytest.raises(ValueError, match=r"label 4 .* outside \[0, 4\)"):
        make_transform(classes=4)(jax.random.key(0), make())
    with pytest.raises(KeyError, match=r"needs batch\['label'\]"):
        make_transform(classes=4)(jax.random.key(0), mixed)


def test_objectives_read_what_is_left_of_the_labels():
    """A loss names the entry it wants; who wants labels says that there are none."""

    def mixed_label(student_logits, label_probabilities):
        return losses.soft_cross_entropy(student_logits, jnp.log(label_probabilities))

    batch = augment.mixup(classes=CLASSES)(jax.random.key(0), make())
    student = models.from_linen(models.MLP(hidden=(), classes=CLASSES))
    tx = optax.sgd(0.1)
    build = lambda objective: train.init_state(
        jax.random.key(0), student, None, objective, tx, batch
    )
    objective = objectives.on_logits(mixed_label)
    step = train.make_train_step(student, None, objective, tx)
    state = build(objective)
    _, metrics = step(state, None, batch)
    logits = student.apply(*state.student, batch).logits
    target = batch["label_probabilities"]
    expected = -(target * jax.nn.log_softmax(logits)).sum(1).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    with pytest.raises(KeyError, match=r"hard_label needs batch\['label'\]"):
        build(objectives.hard_label())


def test_teacher_and_student_see_the_same_view():
    """A student that is its teacher has nothing to learn from any view of the batch."""
    view = augment.compose(
        augment.flip(), augment.rotate(), augment.colour(), augment.mixup(alpha=1.0)
    )
    image = np.random.default_rng(0).uniform(size=(32, 8, 8, 3)).astype(np.float32)
    arrays = {"image": image, "label": np.arange(32) % CLASSES}
    batches = data.TrainBatches(arrays, batch_size=16, seed=0, transform=view)
    model = models.from_linen(models.MLP(hidden=(16,), classes=CLASSES))
    objective, tx = objectives.soft_target(temperature=1.0), optax.sgd(0.1)
    teacher = model.init(jax.random.key(0), batches.peek())
    step = train.make_train_step(model, model, objective, tx)
    state = train.init_state(
        jax.random.key(0),
        model,
        model,
        objective,
        tx,
        batches.peek(),
        variables=teacher,
    )
    batch = next(batches)
    _, metrics = step(state, teacher, batch)
    assert abs(float(metrics["loss"])) < 1e-6
    # Two views would have shown: the teacher does not say the same of both.
    other = {**batch, "image": arrays["image"][batch["index"]]}
    logits = [model.apply(*teacher, x).logits for x in (batch, other)]
    assert float(losses.soft_target_kl(*logits, temperature=1.0).mean()) > 1e-4
