"""Equinox: features of submodules by path, images turned, stateful layers."""

import equinox as eqx
import jax
import numpy as np
import optax
from jax import numpy as jnp

from jaxkd import losses, models, objectives, train

BATCH = {
    "image": jax.random.normal(jax.random.key(0), (6, 1, 9, 8)),
    "label": jnp.arange(6) % 3,
}


class Net(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, width, *, key):
        stem, block, head = jax.random.split(key, 3)
        self.conv = eqx.nn.Conv2d(1, width, 3, key=stem)
        self.norm = eqx.nn.BatchNorm(width, "batch", mode="batch")
        conv = eqx.nn.Conv2d(width, width, 3, key=block)
        self.blocks = [eqx.nn.Sequential([conv, eqx.nn.Lambda(jax.nn.relu)])]
        self.head = eqx.nn.Linear(width, 3, key=head)

    def __call__(self, x, state):
        x, state = self.norm(self.conv(x), state)
        return self.head(self.blocks[0](x).mean((1, 2))), state


def make(width):
    key = jax.random.key(width)
    module, state = eqx.nn.make_with_state(Net)(width, key=key)
    return module, state, models.from_equinox(module, state=state)


def test_submodules_are_features_with_their_channels_last():
    module, state, model = make(4)
    shapes = models.list_features(model, BATCH)
    assert {name: x.shape for name, x in shapes.items()} == {
        "conv": (6, 7, 6, 4),
        "norm": (6, 7, 6, 4),
        "blocks/0": (6, 5, 4, 4),
        "blocks/0/layers/0": (6, 5, 4, 4),
        "blocks/0/layers/1": (6, 5, 4, 4),
        "head": (6, 3),
    }
    variables = model.init(jax.random.key(0), BATCH)
    out = model.apply(*variables, BATCH, features=["conv", "head"])
    direct = jax.vmap(module.conv)(BATCH["image"])
    np.testing.assert_allclose(out.features["conv"], jnp.moveaxis(direct, 1, -1))
    np.testing.assert_array_equal(out.features["head"], out.logits)
    as_is = models.from_equinox(module, state=state, channels_first=False)
    found = as_is.apply(*variables, BATCH, features=["conv"]).features
    np.testing.assert_allclose(found["conv"], direct)


def test_what_is_asked_for_does_not_change_the_logits():
    _, _, model = make(4)
    variables = model.init(jax.random.key(0), BATCH)
    plain = model.apply(*variables, BATCH).logits
    watched = model.apply(*variables, BATCH, features=["blocks/0", "norm"]).logits
    np.testing.assert_array_equal(plain, watched)


def test_statistics_move_in_training_only():
    _, _, model = make(4)
    params, state = model.init(jax.random.key(0), BATCH)
    moved = model.apply(params, state, BATCH, train=True).state
    assert any(not np.array_equal(a, b) for a, b in zip(state, moved, strict=True))
    kept = model.apply(params, state, BATCH).state
    assert all(np.array_equal(a, b) for a, b in zip(state, kept, strict=True))


def test_images_logits_and_relations_are_distilled_from_one_line_each():
    student, teacher = make(4)[2], make(8)[2]
    objective = objectives.combine(
        soft=(1.0, objectives.soft_target(temperature=4.0)),
        hint=(1.0, objectives.hint(student="blocks/0", teacher="blocks/0")),
        maps=(
            1.0,
            objectives.on_features(
                losses.attention_transfer, student="conv", teacher="norm"
            ),
        ),
    )
    parts = (student, teacher, objective, optax.adam(0.03))
    variables = teacher.init(jax.random.key(1), BATCH)
    state = train.init_state(jax.random.key(0), *parts, BATCH)
    step = train.jit_step(train.make_train_step(*parts))
    state, before = step(state, variables, BATCH)
    for _ in range(20):
        state, after = step(state, variables, BATCH)
    assert after["loss"] < before["loss"] / 2
