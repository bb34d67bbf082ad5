import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses, models, objectives

TINY = models.Bert(
    11, classes=3, width=8, depth=2, heads=2, hidden=12, max_length=6, dropout=0.3
)
BATCH = {
    "tokens": jnp.array([[1, 5, 9, 2, 0], [3, 4, 2, 0, 0]]),
    "attention_mask": jnp.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], bool),
}


def model_of(module):
    return models.from_linen(module, inputs=("tokens", "attention_mask"))


def variables_of(module, seed=0):
    """Drawn with biases and scales that are not 0 and 1, so that each counts."""
    variables = model_of(module).init(jax.random.key(seed), BATCH)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape), x.dtype), variables
    )


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def layer_norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * p["scale"] + p["bias"]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def states_by_hand(params, tokens, heads=2):
    """The states of one sentence without padding, after each block, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = p["embed"]["tokens"]["embedding"][tokens]
    x = x + p["embed"]["positions"]["embedding"][: len(tokens)]
    if "types" in p["embed"]:
        x = x + p["embed"]["types"]["embedding"][0]
    x = layer_norm(x, p["embed"]["norm"])
    states = [x]
    for i in (1, 2):
        block, mixed = p[f"block{i}"], []
        q, k, v = (dense(x, block["attention"][n]) for n in ("query", "key", "value"))
        size = x.shape[1] // heads
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            weights = np.exp(q[:, own] @ k[:, own].T / math.sqrt(size))
            mixed.append(weights / weights.sum(1, keepdims=True) @ v[:, own])
        y = dense(np.concatenate(mixed, axis=1), block["attention"]["out"])
        x = layer_norm(x + y, block["norm1"])
        y = dense(gelu(dense(x, block["up"])), block["down"])
        x = layer_norm(x + y, block["norm2"])
        states.append(x)
    return states


@pytest.mark.parametrize("types", [2, 0])
def test_states_and_logits_equal_those_by_hand(types):
    module = TINY.clone(types=types)
    variables = variables_of(module)
    names = ["embed", "block1", "block2", "embedding", "pooler"]
    out = model_of(module).apply(*variables, BATCH, features=names)
    params = variables.params
    for row, length in ((0, 4), (1, 3)):  # padding must change nothing
        states = states_by_hand(params, np.asarray(BATCH["tokens"][row, :length]))
        for name, wanted in zip(names, states, strict=False):
            found = out.features[name][row, :length]
            np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)
        mean = states[-1].mean(axis=0)
        np.testing.assert_allclose(
            out.features["embedding"][row], mean / np.linalg.norm(mean), atol=1e-5
        )
        pooled = dense(states[-1][0], params["pooler"])
        pooled = np.tanh(pooled) if types else np.maximum(pooled, 0)
        np.testing.assert_allclose(
            out.logits[row], dense(pooled, params["head"]), rtol=2e-4, atol=2e-5
        )


@pytest.mark.parametrize(
    ("module", "output"),
    [
        (TINY.clone(classes=None, pooling="mean"), "embedding"),
        (TINY.clone(classes=None), "pooler"),
    ],
)
def test_an_encoder_gives_embeddings(module, output):
    variables = variables_of(module)
    assert "head" not in variables.params
    assert ("pooler" in variables.params) == (output == "pooler")
    out = model_of(module).apply(*variables, BATCH, features=[output])
    wanted = out.features[output]
    wanted = jnp.tanh(wanted) if output == "pooler" else wanted
    np.testing.assert_array_equal(out.logits, wanted)


def test_dropout_acts_in_training_alone():
    model, variables = model_of(TINY), variables_of(TINY)
    key = jax.random.key(1)
    calm = model.apply(*variables, BATCH, rng=key).logits
    np.testing.assert_array_equal(calm, model.apply(*variables, BATCH).logits)
    shaken = model.apply(*variables, BATCH, rng=key, train=True).logits
    assert float(jnp.abs(shaken - calm).max()) > 0.01


def test_a_sequence_that_is_too_long_is_refused():
    batch = {name: jnp.ones((1, 7), x.dtype) for name, x in BATCH.items()}
    with pytest.raises(ValueError, match="7 tokens is longer than max_length=6"):
        model_of(TINY).init(jax.random.key(0), batch)


def test_kept_layers_are_those_of_the_teacher():
    deep = TINY.clone(depth=4)
    teacher = variables_of(deep)
    student = models.keep_layers(teacher, (1, 3))
    assert {n for n in student.params if n.startswith("block")} == {"block1", "block2"}
    for ours, theirs in (("block1", "block2"), ("block2", "block4"), ("head", "head")):
        jax.tree.map(
            np.testing.assert_array_equal, student.params[ours], teacher.params[theirs]
        )
    whole = model_of(deep).apply(*teacher, BATCH).logits
    same = model_of(deep).apply(*models.keep_layers(teacher, range(4)), BATCH).logits
    np.testing.assert_array_equal(same, whole)
    assert model_of(TINY).apply(*student, BATCH).logits.shape == (2, 3)


@pytest.mark.parametrize("layers", [(), (4,), (-1, 0)])
def test_layers_that_are_not_there_cannot_be_kept(layers):
    with pytest.raises(ValueError, match=r"one or more of the model's 4, from 0, got"):
        models.keep_layers(variables_of(TINY.clone(depth=4)), layers)


def test_attention_and_relations_can_be_distilled():
    """Scores, queries, keys and values are features that the losses take."""
    student, teacher = TINY.clone(depth=1), TINY
    q = "block{}/attention/query"
    objective = objectives.combine(
        scores=(
            1.0,
            objectives.on_features(
                losses.attention_score_mse,
                student="block1/attention/scores",
                teacher="block2/attention/scores",
                where="attention_mask",
            ),
        ),
        relation=(
            1.0,
            objectives.on_features(
                losses.token_relation_kl,
                student=(q.format(1), q.format(1)),
                teacher=(q.format(2), q.format(2)),
                where="attention_mask",
                heads=2,
            ),
        ),
    )
    ours, theirs = (
        model_of(module).apply(*variables_of(module, seed), BATCH, features=names)
        for module, seed, names in (
            (student, 1, objective.student_features),
            (teacher, 0, objective.teacher_features),
        )
    )
    key = jax.random.key(0)
    view = objectives.View(ours, theirs, BATCH, jnp.int32(0), key)
    found, _ = objective.apply(*objective.init(key, view), view)
    mask = BATCH["attention_mask"]
    scores = [
        out.features[f"block{i}/attention/scores"]
        for i, out in ((1, ours), (2, theirs))
    ]
    wanted = losses.attention_score_mse(*scores, where=mask).mean()
    np.testing.assert_allclose(found["scores"].mean.value, wanted, rtol=1e-6)
    s, t = ours.features[q.format(1)], theirs.features[q.format(2)]
    wanted = losses.token_relation_kl(s, s, t, t, heads=2, where=mask).mean()
    np.testing.assert_allclose(found["relation"].mean.value, wanted, rtol=1e-6)
    assert float(wanted) > 1e-3
