import equinox as eqx
import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax import numpy as jnp

from jaxkd import models, objectives, train

BATCH = {
    "image": np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32),
    "label": np.array([0, 1, 2, 0, 1, 2], np.int32),
}


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Dense(8, name="body")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(3, name="head")(x)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Linear(5, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.body(x)))))


class EquinoxNet(eqx.Module):
    body: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.body = eqx.nn.Linear(5, 8, key=one)
        self.dropout = eqx.nn.Dropout(0.5)
        self.head = eqx.nn.Linear(8, 3, key=two)

    def __call__(self, x, key=None):
        body = self.body(x)
        hidden = jax.nn.relu(body)
        return self.head(self.dropout(hidden, key=key)), {"hidden": hidden}


def plain():
    def fn(params, batch):
        body = batch["image"] @ params["body"]
        return jax.nn.relu(body) @ params["head"], {"body": body}

    def init(key, batch):
        one, two = jax.random.split(key)
        return {
            "body": jax.random.normal(one, (batch["image"].shape[-1], 8)),
            "head": jax.random.normal(two, (8, 3)),
        }

    return models.from_function(fn, init)


MODELS = {
    "linen": lambda: models.from_linen(LinenNet()),
    "nnx": lambda: models.from_nnx(NNXNet(nnx.Rngs(0))),
    "equinox": lambda: models.from_equinox(EquinoxNet(jax.random.key(0))),
    "function": plain,
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


@every_model
def test_trains_under_jit_in_one_trace(make):
    model, objective, tx = make(), objectives.hard_label(), optax.adam(0.05)
    state = train.init_state(jax.random.key(0), model, None, objective, tx, BATCH)
    pure, traces = train.make_train_step(model, None, objective, tx), []

    def counted(*args):
        traces.append(1)
        return pure(*args)

    step, first, structure = jax.jit(counted), None, jax.tree.structure(state)
    for _ in range(60):
        state, metrics = step(state, None, BATCH)
        first = metrics["loss"] if first is None else first
    assert metrics["loss"] < first
    assert len(traces) == 1
    assert jax.tree.structure(state) == structure


@every_model
def test_evaluation_is_deterministic_and_changes_no_state(make):
    model = make()
    params, state = model.init(jax.random.key(0), BATCH)
    one = model.apply(params, state, BATCH)
    two = model.apply(params, state, BATCH, rng=jax.random.key(5))
    np.testing.assert_array_equal(one.logits, two.logits)
    assert jax.tree.structure(one.state) == jax.tree.structure(state)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(
            np.asarray(jax.random.key_data(a) if "key" in str(a.dtype) else a),
            np.asarray(jax.random.key_data(b) if "key" in str(b.dtype) else b),
        ),
        one.state,
        state,
    )


@every_model
def test_features_by_name_equal_those_computed_by_hand(make):
    model = make()
    params, state = model.init(jax.random.key(0), BATCH)
    out = jax.jit(lambda p: model.apply(p, state, BATCH, features=("body",)))(params)
    assert set(out.features) == {"body"}
    assert out.features["body"].shape == (6, 8)
    plain = model.apply(params, state, BATCH)
    np.testing.assert_allclose(out.logits, plain.logits, rtol=1e-5, atol=1e-6)


def test_linen_feature_is_the_output_of_the_submodule():
    model = MODELS["linen"]()
    params, state = model.init(jax.random.key(0), BATCH)
    out = model.apply(params, state, BATCH, features=("body",))
    expected = BATCH["image"] @ params["body"]["kernel"] + params["body"]["bias"]
    np.testing.assert_allclose(out.features["body"], expected, rtol=1e-5)


@every_model
def test_a_wrong_feature_name_is_answered_with_the_nearest(make):
    model = make()
    params, state = model.init(jax.random.key(0), BATCH)
    with pytest.raises(KeyError, match=r"no feature 'bdy'; did you mean 'body'"):
        model.apply(params, state, BATCH, features=("bdy",))


@every_model
def test_a_missing_input_is_named(make):
    if make is plain:
        pytest.skip("a plain function reads the batch itself")
    model = make()
    params, state = model.init(jax.random.key(0), BATCH)
    with pytest.raises(
        KeyError,
        match=r"the model needs batch\['image'\].*'imagee'.*The adapter's `inputs`",
    ):
        model.apply(params, state, {"imagee": BATCH["image"]})


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_unused_features_cost_nothing(name):
    model = MODELS[name]()
    params, state = model.init(jax.random.key(0), BATCH)

    def flops(features, use):
        def run(params):
            out = model.apply(params, state, BATCH, features=features)
            return out.features["body"].sum() if use else out.logits.sum()

        return jax.jit(run).lower(params).compile().cost_analysis()["flops"]

    assert flops(("body", "head"), use=False) == flops((), use=False)
    assert flops(("body",), use=True) < flops((), use=False)


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_batchnorm_moves_in_training_only(name):
    model = MODELS[name]()
    params, state = model.init(jax.random.key(0), BATCH)
    out = model.apply(params, state, BATCH, rng=jax.random.key(1), train=True)
    before = [x for x in jax.tree.leaves(state) if x.shape == (8,)]
    after = [x for x in jax.tree.leaves(out.state) if x.shape == (8,)]
    assert not all(np.allclose(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["linen", "nnx", "equinox"])
def test_dropout_follows_the_key(name):
    model = MODELS[name]()
    params, state = model.init(jax.random.key(0), BATCH)
    run = lambda seed: (
        model.apply(params, state, BATCH, rng=jax.random.key(seed), train=True).logits
    )
    np.testing.assert_array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_linen_switches_of_other_names():
    class Deterministic(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic=True):
            return nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(3)(x))

    model = models.from_linen(Deterministic())
    params, state = model.init(jax.random.key(0), BATCH)
    off = model.apply(params, state, BATCH).logits
    on = model.apply(params, state, BATCH, rng=jax.random.key(0), train=True).logits
    assert np.sum(np.asarray(on) == 0) > 0
    assert np.sum(np.asarray(off) == 0) == 0


def test_an_nnx_module_is_left_alone():
    module = NNXNet(nnx.Rngs(0))
    before = np.asarray(module.body.kernel[...])
    model = models.from_nnx(module)
    params, _ = model.init(jax.random.key(0), BATCH)
    jax.tree.map(lambda x: x.delete(), params)
    np.testing.assert_array_equal(module.body.kernel[...], before)


def test_the_zoo_lists_its_features():
    cnn = models.from_linen(models.CNN(widths=(4, 6), classes=3))
    shapes = models.list_features(cnn, {"image": jnp.ones((2, 8, 8, 1))})
    assert shapes["block1"].shape == (2, 8, 8, 4)
    assert shapes["block2"].shape == (2, 4, 4, 6)
    assert shapes["head"].shape == (2, 3)


@pytest.mark.parametrize(
    ("adapter", "module", "words"),
    [
        (models.from_nnx, LinenNet(), "module of flax.nnx, made, .* got a LinenNet"),
        (models.from_linen, LinenNet, "module of flax.linen, made, .* got a class"),
        (models.from_linen, nnx.Linear(5, 3, rngs=nnx.Rngs(0)), "got a Linear"),
        (models.from_linen, lambda x: x, "got a function.* from_function"),
    ],
)
def test_an_adapter_takes_modules_of_its_own_library(adapter, module, words):
    with pytest.raises(TypeError, match=words):
        adapter(module)
