"""Objectives on features: made from shapes, trained, alike in every mode."""

import chex
import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax import numpy as jnp

from jaxkd import losses, models, objectives, train

STAGES = ["block1", "block2"]


def head(variables, x):
    pooled = x.mean((1, 2)) if x.ndim == 4 else x
    layer = variables.params["head"]
    return pooled @ layer["kernel"] + layer["bias"]


def read_norm(variables):
    layer = variables.params["block2"]["norm"]
    return layer["scale"], layer["bias"]


def on(loss, **kwargs):
    return objectives.on_features(loss, student="block2", teacher="block2", **kwargs)


ROWS = {
    "hint": objectives.hint(student=STAGES, teacher=STAGES),
    "hint, normalized": objectives.hint(
        student="block1",
        teacher="block2",
        adapter=objectives.linear_adapter(normalize=True, activate=True),
    ),
    "attention transfer": objectives.on_features(
        losses.attention_transfer, student=STAGES, teacher=STAGES
    ),
    "similarity preserving": on(losses.similarity_preserving),
    "channel-wise": on(
        losses.channel_wise_kl, adapter=objectives.linear_adapter(), temperature=4.0
    ),
    "standardized": on(
        losses.standardized_feature_mse, adapter=objectives.linear_adapter()
    ),
    "flow": objectives.on_features(
        losses.flow_of_solution,
        student=STAGES,
        teacher=STAGES,
        adapter=objectives.linear_adapter(),
    ),
    "variational": objectives.variational_information(student=STAGES, teacher=STAGES),
    "boundary": objectives.activation_boundary(
        student=["block1/norm", "block2/norm"], teacher=["block1/norm", "block2/norm"]
    ),
    "overhaul": objectives.overhaul(
        student="block2/norm", teacher="block2/norm", batchnorm=read_norm
    ),
    "log power": objectives.log_power_distance(student="block2", teacher="block2"),
    "review": objectives.review(student=STAGES, teacher=STAGES),
    "masked generation": objectives.masked_generation(
        student="block1", teacher="block2"
    ),
    "masked positions": objectives.masked_generation(
        student="block1", teacher="block2", mask=losses.position_mask, ratio=0.65
    ),
    "representation": objectives.representation_regression(
        student="block2", teacher="block2", head=head
    ),
    "reused head": objectives.reused_head(student="block2", teacher="block2"),
    "exits": objectives.exits(student=STAGES),
    "uncertainty": objectives.uncertainty_weighted(student="block1", teacher="block2"),
    "paraphrase": objectives.paraphrase(teacher="block2"),
    "congruence": objectives.on_embeddings(
        losses.neighbour_correlation, student="pool", teacher="pool", width=8
    ),
    "contrast": objectives.contrastive_representation(
        student="pool", teacher="pool", size=12, negatives=5, width=8
    ),
    "instance queue": objectives.on_queue(
        losses.instance_similarity_cross_entropy,
        student="pool",
        teacher="pool",
        size=20,
    ),
    "anchor queues": objectives.on_queue(
        losses.anchor_similarity_kl, student="pool", teacher="pool", size=20
    ),
    "relational": objectives.relational_distance(student="pool", teacher="pool"),
    "logits": objectives.on_logits(losses.decoupled_kd, beta=2.0),
    "coupled logits": objectives.on_logits(losses.intra_class_relation),
    "standardized logits": objectives.on_logits(
        losses.standardized(losses.soft_target_kl), temperature=2.0
    ),
    "scheduled": objectives.on_logits(
        losses.soft_target_kl, temperature=optax.linear_schedule(1.0, 4.0, 10)
    ),
}
#: Here each device draws its own.
RANDOM = {"masked generation", "masked positions", "contrast"}
rows = pytest.mark.parametrize("name", ROWS)


class Case:
    def __init__(self, objective, tx=None):
        self.objective = objective
        self.student = models.from_linen(models.CNN(widths=(3, 4), classes=3))
        self.teacher = models.from_linen(models.CNN(widths=(4, 6), classes=3))
        rng = np.random.default_rng(0)
        self.batch = {
            "image": rng.normal(size=(12, 4, 4, 1)).astype(np.float32),
            "label": rng.integers(0, 3, 12).astype(np.int32),
            "index": np.arange(12, dtype=np.int32),
        }
        self.tx = tx or optax.sgd(0.01)
        self.variables = self.teacher.init(jax.random.key(7), self.batch)
        parts = (self.student, self.teacher, self.objective, self.tx)
        self.state = train.init_state(jax.random.key(0), *parts, self.batch)
        self.step = train.make_train_step(*parts)


@rows
def test_is_minimised_and_keeps_to_its_structure(name):
    case = Case(ROWS[name], optax.adam(0.01))
    step, state = jax.jit(case.step), case.state
    found = []
    for _ in range(30):
        state, metrics = step(state, case.variables, case.batch)
        found.append(float(metrics["loss"]))
    assert np.isfinite(found).all()
    if name != "scheduled":  # its scale grows with the temperature
        assert np.mean(found[-5:]) < found[0]
    chex.assert_trees_all_equal_shapes_and_dtypes(state, case.state)
    assert set(state.student.params) == {"block1", "block2", "head"}


@pytest.mark.parametrize("name", sorted(set(ROWS) - RANDOM))
def test_devices_together_give_the_same_update(name):
    case = Case(ROWS[name])
    batch = {**case.batch, "mask": np.arange(12) % 4 != 3}
    batch = {k: x[:10] for k, x in batch.items()}
    expected, metrics = jax.jit(case.step)(case.state, case.variables, batch)
    # The strictest mode: it also proves that all outputs agree. Others: test_parallel.
    step = train.shard_map_step(case.step, train.data_mesh(jax.devices()[:4]))
    got, more = step(case.state, case.variables, batch)
    chex.assert_trees_all_close(
        (got.params, got.model_state, got.objective_state, more),
        (expected.params, expected.model_state, expected.objective_state, metrics),
        rtol=2e-4,
        atol=2e-6,
    )


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_what_is_drawn_by_device_leaves_one_state(name):
    case = Case(ROWS[name])
    # check_vma refuses outputs that may differ between devices.
    step = train.shard_map_step(case.step, train.data_mesh(jax.devices()[:4]))
    state, metrics = step(case.state, case.variables, case.batch)
    assert jnp.isfinite(metrics["loss"])
    chex.assert_trees_all_equal_shapes_and_dtypes(state, case.state)


def test_the_memory_holds_each_example_in_its_place():
    case = Case(ROWS["contrast"])
    batch = {k: x[3:7] for k, x in case.batch.items()}
    batch["mask"] = np.array([True, True, False, True])
    before = case.state.objective_state
    after = jax.jit(case.step)(case.state, case.variables, batch)[0].objective_state
    changed = jnp.any(before.student != after.student, axis=1)
    assert np.flatnonzero(changed).tolist() == [3, 4, 6]
    assert bool(after.calibrated)


def test_factor_transfer_takes_the_paraphraser_of_the_first_stage():
    first = Case(ROWS["paraphrase"])
    trained = first.state.params["objective"]
    objective = objectives.factor_transfer(
        student="block2", teacher="block2", paraphraser=trained
    )
    case = Case(objective, optax.adam(0.01))
    step, state = jax.jit(case.step), case.state
    state, before = step(state, case.variables, case.batch)
    for _ in range(30):
        state, after = step(state, case.variables, case.batch)
    assert after["loss"] < before["loss"]


def test_paraphrasing_leaves_the_student_alone():
    case = Case(ROWS["paraphrase"])
    state, _ = jax.jit(case.step)(case.state, case.variables, case.batch)
    chex.assert_trees_all_equal(state.params["student"], case.state.params["student"])


def test_no_adapter_is_made_where_shapes_agree():
    case = Case(objectives.hint(student="block2", teacher="block1"))
    assert case.state.params["objective"] == {}
    other = Case(objectives.hint(student="block1", teacher="block1"))
    (made,) = other.state.params["objective"].values()
    assert made["dense"]["kernel"].shape == (3, 4)


def test_making_projectors_runs_no_forward_pass():
    calls = []
    plain = models.from_linen(models.CNN(widths=(3, 4), classes=3))

    def apply(params, state, batch, **options):
        calls.append(isinstance(batch["image"], jax.core.Tracer))
        return plain.apply(params, state, batch, **options)

    case = Case(ROWS["hint"])
    student = models.Model(plain.init, apply)
    train.init_state(
        jax.random.key(0), student, case.teacher, case.objective, case.tx, case.batch
    )
    assert calls
    assert all(calls)


def test_the_reused_head_makes_a_model_of_student_projector_and_head():
    case = Case(ROWS["reused head"], optax.adam(0.01))
    step, state = jax.jit(case.step), case.state
    for _ in range(150):
        state, _ = step(state, case.variables, case.batch)
    model = objectives.reused_head_model(
        case.student, feature="block2", shape=(1, 4, 4, 6), head=head
    )
    own = state.student
    params = {
        "student": own.params,
        "projector": state.params["objective"],
        "teacher": case.variables.params,
    }
    states = {
        "student": own.state,
        "projector": state.objective_state,
        "teacher": case.variables.state,
    }
    made = model.init(jax.random.key(0), case.batch)
    for part in ("student", "projector"):
        chex.assert_trees_all_equal_structs(params[part], made.params[part])
        chex.assert_trees_all_equal_structs(states[part], made.state[part])
    logits = model.apply(params, states, case.batch).logits
    wanted = case.teacher.apply(*case.variables, case.batch).logits
    assert jnp.mean((logits - wanted) ** 2) < 0.5 * jnp.mean(wanted**2)


class NNXNet(nnx.Module):
    def __init__(self, width, rngs):
        self.body = nnx.Linear(16, width, rngs=rngs)
        self.head = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.body(x.reshape(len(x), -1))))


def function_model(width):
    def fn(params, batch):
        x = batch["image"].reshape(len(batch["image"]), -1)
        body = jnp.tanh(x @ params["body"])
        return body @ params["head"], {"body": body}

    def init(key, batch):
        shapes = {"body": (16, width), "head": (width, 3)}
        draw = nn.initializers.lecun_normal()
        return {name: draw(key, shape) for name, shape in shapes.items()}

    return models.from_function(fn, init)


@pytest.mark.parametrize(
    "build",
    [lambda w: models.from_nnx(NNXNet(w, nnx.Rngs(w))), function_model],
    ids=["nnx", "function"],
)
def test_any_framework_takes_one_line(build):
    student, teacher = build(4), build(8)
    objective = objectives.combine(
        soft=(1.0, objectives.soft_target(temperature=4.0)),
        hint=(1.0, objectives.hint(student="body", teacher="body")),
    )
    batch, tx = Case(ROWS["logits"]).batch, optax.sgd(0.1)
    variables = teacher.init(jax.random.key(1), batch)
    parts = (student, teacher, objective, tx)
    state = train.init_state(jax.random.key(0), *parts, batch)
    step = jax.jit(train.make_train_step(*parts))
    state, before = step(state, variables, batch)
    for _ in range(10):
        state, after = step(state, variables, batch)
    assert after["loss"] < before["loss"]


def fails(error, match, objective):
    with pytest.raises(error, match=match):
        Case(objective)


def test_mistakes_are_told_at_the_start():
    hint = objectives.hint
    fails(
        KeyError,
        r"no feature 'block3'; did you mean .* 'block1' \(12, 4, 4, 3\)",
        hint(student="block3", teacher="block2"),
    )
    fails(KeyError, "no feature 'blok2'", hint(student="block2", teacher="blok2"))
    fails(
        ValueError,
        "`student` has shape",
        objectives.on_features(losses.feature_mse, student="block1", teacher="block2"),
    )
    with pytest.raises(ValueError, match=r"2 features .* 1 of the teacher"):
        hint(student=STAGES, teacher="block1")
    with pytest.raises(TypeError, match="no hyperparameter 'temprature'; did you mean"):
        objectives.on_logits(losses.soft_target_kl, temprature=1.0)
    fails(
        KeyError,
        r"decoupled_kd needs batch\['target'\].*'image' \(12, 4, 4, 1\)",
        objectives.on_logits(losses.decoupled_kd, label="target"),
    )
    fails(
        ValueError,
        "review needs maps",
        objectives.review(student="head", teacher="head"),
    )
    with pytest.raises(ValueError, match="takes 2 or more features"):
        on(losses.flow_of_solution)
