import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec as P

from jaxkd import train


def spec(x):
    return tuple(x.sharding.spec)


def test_the_optimizer_follows_its_parameters_and_stays_there(setup):
    case = setup(tx=optax.adam(0.1))
    mesh = train.data_mesh(jax.devices()[:4])
    rules = [("^student/dense1/kernel$", P(None, "data"))]
    step = train.jit_step(case.step(), mesh, rules=rules)
    state = case.state()
    for _ in range(3):
        state, metrics = step(state, case.variables, case.batch)
        jax.block_until_ready(metrics)
    dense = lambda tree: tree["student"]["dense1"]
    for tree in (state.params, state.opt_state[0].mu, state.opt_state[0].nu):
        assert spec(dense(tree)["kernel"]) == (None, "data")
        assert spec(dense(tree)["bias"]) == ()
    assert spec(metrics["loss"]) == ()


def test_a_teacher_is_spread_where_the_student_is_not(setup):
    case = setup()
    mesh, seen = train.data_mesh(jax.devices()[:4]), []
    plain = case.teacher.apply

    def apply(params, state, batch, **kwargs):
        jax.debug.inspect_array_sharding(
            params["dense1"]["kernel"], callback=lambda s: seen.append(s)
        )
        return plain(params, state, batch, **kwargs)

    case.teacher = case.teacher._replace(apply=apply)
    step = train.jit_step(
        case.step(), mesh, teacher_rules=[("^params/.*kernel$", P(None))]
    )
    step(case.state(), case.variables, case.batch)
    assert len(seen) == 1
    rules = [("^params/dense1/kernel$", P(None, "data"))]
    step = train.jit_step(case.step(), mesh, teacher_rules=rules)
    step(case.state(), case.variables, case.batch)
    assert seen[1].shard_shape((6, 32)) == (6, 8)


def test_mistakes_are_told_before_anything_runs(setup):
    case = setup()
    mesh = train.data_mesh(jax.devices()[:4])

    def fails(match, rules, mesh=mesh):
        step = train.jit_step(case.step(), mesh, rules=rules)
        with pytest.raises(ValueError, match=match):
            step(case.state(), case.variables, case.batch)

    fails(
        "'student/dense1/kernel', of shape .* 6 does not divide into 4",
        [("dense1/kernel", P("data"))],
    )
    fails("it has 1 dimensions", [("dense1/bias", P(None, "data"))])
    fails("no 'model'", [("dense1/kernel", P("model"))])
    fails("matches no path", [("dens1/kernel", P("data"))])
    explicit = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
    with pytest.raises(ValueError, match="they must be Auto"):
        train.jit_step(case.step(), explicit)
    grid = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    with pytest.raises(ValueError, match="a mesh of one axis"):
        train.shard_map_step(case.step(), grid)


def test_fsdp_spreads_the_longest_dimension_of_large_arrays():
    mesh = train.data_mesh(jax.devices()[:4])
    rule = train.fsdp(min_size=64)
    found = {s: tuple(rule("x", s, mesh)) for s in [(8, 16), (16, 6), (4, 4), (9, 9)]}
    assert found == {
        (8, 16): (None, "data"),
        (16, 6): ("data",),
        (4, 4): (),
        (9, 9): (),
    }


def test_placing_copies(setup):
    case = setup()
    state = case.state()
    mesh = train.data_mesh(jax.devices()[:2])
    placed = train.place(state, train.state_shardings(state, mesh))
    train.check_not_aliased(a=state, b=placed)
    kernels = [s.params["student"]["dense1"]["kernel"] for s in (state, placed)]
    np.testing.assert_array_equal(*kernels)


def test_initialize_distributed_checks_its_arguments():
    with pytest.raises(ValueError, match="or none"):
        train.initialize_distributed("localhost:1")
    with pytest.raises(ValueError, match=r"`process_id` must be in \[0, 2\), got 2"):
        train.initialize_distributed("localhost:1", 2, 2)
