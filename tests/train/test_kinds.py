"""Every kind of teacher and of precision, in every mode: one step, traced once."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import compress, models, objectives, train, trees

MODES = {
    "jit": lambda step: train.jit_step(step, train.data_mesh(jax.devices()[:4])),
    "teacher spread": lambda step: train.jit_step(
        step, train.data_mesh(jax.devices()[:4]), teacher_rules=train.fsdp(min_size=64)
    ),
    "pmap": lambda step: train.pmap_step(step, jax.devices()[:4]),
    "shard_map": lambda step: train.shard_map_step(
        step, train.data_mesh(jax.devices()[:4])
    ),
}
SCHEDULE = optax.linear_schedule(0.3, 0.0, 9)


def narrow(case):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), case.variables.params)
    case.variables = case.variables._replace(params=half)


def quantized(case):
    case.variables = case.variables._replace(
        params=compress.quantize(case.variables.params)
    )
    kinds = {x.dtype.name for x in jax.tree.leaves(case.variables)}
    assert "int8" in kinds


def two(case):
    small = models.from_linen(models.MLP(hidden=(16,), classes=3))
    case.variables = models.join_variables(
        big=case.variables, small=small.init(jax.random.key(8), case.batch)
    )
    case.teacher = models.join(big=case.teacher, small=small)
    case.objective = objectives.combine(
        soft=(
            SCHEDULE,
            objectives.ensemble(objectives.soft_target(temperature=4.0)),
        ),
        hard=(0.1, objectives.hard_label()),
    )


def none(case):
    case.teacher = case.variables = None
    case.objective = objectives.hard_label()


def in_the_batch(case):
    logits = case.teacher.apply(*case.variables, case.batch).logits
    case.batch["teacher_logits"] = np.asarray(logits)
    case.teacher = models.from_function(lambda params, batch: batch["teacher_logits"])
    case.variables = models.Variables({})


def float16(case):
    case.student = models.cast(case.student, jnp.float16, keep="^head/")
    case.tx = train.skip_nonfinite(case.tx, loss_scale=2.0**12, growth_interval=2)


slow = lambda kind: pytest.param(kind, marks=pytest.mark.slow)
KINDS = [quantized, two, float16, *map(slow, [narrow, none, in_the_batch])]


def run(step, case):
    state = case.state(teacher_variables=case.variables)
    for i in range(4):
        batch = {name: np.roll(x, i, axis=0)[:13] for name, x in case.batch.items()}
        state, metrics = step(state, case.variables, batch)
        jax.block_until_ready(metrics)
    return state, metrics


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_one_step_in_every_mode(setup, kind):
    case = setup(tx=optax.chain(optax.clip(1.0), optax.sgd(SCHEDULE)))
    kind(case)
    expected, expected_metrics = run(jax.jit(case.step()), case)
    before = trees.digest(case.variables)
    for name, wrap in MODES.items():
        step = wrap(chex.assert_max_traces(case.step(), n=1))
        chex.clear_trace_counter()
        got, metrics = run(step, case)
        atol = 1e-3 if kind is float16 else 1e-6
        for a, b in ((got.params, expected.params), (metrics, expected_metrics)):
            chex.assert_trees_all_close(a, b, atol=atol, rtol=1e-5, custom_message=name)
    assert trees.digest(case.variables) == before


def test_the_teacher_of_int8_is_the_dequantized_one(setup):
    case = setup()
    quantized(case)
    plain = setup()
    plain.variables = plain.variables._replace(
        params=compress.dequantize(case.variables.params)
    )
    (got, metrics), (expected, more) = (
        run(jax.jit(c.step()), c) for c in (case, plain)
    )
    chex.assert_trees_all_close(got.params, expected.params, atol=1e-7)
    chex.assert_trees_all_close(metrics, more, rtol=1e-6)
    step = jax.jit(train.make_eval_step(case.student, case.teacher))
    found = [
        train.evaluate(step, got.student, [c.batch], teacher=c.variables)
        for c in (case, plain)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_float16_finds_its_scale_and_trains(setup):
    case = setup(tx=optax.sgd(0.1))
    case.tx = train.skip_nonfinite(case.tx, loss_scale=2.0**40, growth_interval=100)
    case.student = models.cast(case.student, jnp.float16, keep="^head/")
    state, step = case.state(), train.jit_step(case.step())
    losses, run = (
        [],
        train.fit(step, state, case.variables, iter([case.batch] * 80), steps=80),
    )
    for _, metrics in run:
        losses.append(float(metrics["loss"]))
    skipped = int(metrics["skipped"])
    assert 10 < skipped < 40  # each halves the scale, until the gradients fit
    assert float(metrics["loss_scale"]) == 2.0 ** (40 - skipped)
    assert losses[-1] < 0.9 * losses[0]


def test_data_parallelism_is_one_all_reduce_and_none_for_the_teacher(setup):
    case = setup(tx=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)))
    mesh = train.data_mesh(jax.devices()[:8])
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    where = train.state_shardings(case.state(), mesh)

    def reductions(fn, *args, **kwargs):
        text = jax.jit(fn, **kwargs).lower(*args).compile().as_text()
        other = ("all-gather(", "all-to-all(", "collective-permute(")
        assert not any(name in text for name in other)
        return text.count(" all-reduce(") + text.count(" all-reduce-start(")

    batch = jax.device_put(case.batch, rows)
    followed = train.place(case.variables, whole)
    state = train.place(case.state(), where)
    step, shardings = case.step(), (where, whole)
    assert reductions(step, state, followed, batch, out_shardings=shardings) == 1
    forward = lambda v, b: case.teacher.apply(*v, b).logits
    assert reductions(forward, followed, batch, out_shardings=rows) == 0
