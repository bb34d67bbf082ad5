import jax
import optax

from jaxkd import models, objectives, train


def flops(fn, *args):
    return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


def test_a_step_costs_the_teachers_forward_pass_and_the_students_gradient(setup):
    wide = models.from_linen(models.MLP(hidden=(256,), classes=3))
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    case = setup(tx=clipped, student=wide)
    hard = objectives.hard_label()
    alone = setup(tx=clipped, objective=hard, student=wide, teacher=None)
    whole = flops(case.step(), case.state(), case.variables, case.batch)
    forward = flops(lambda v: case.teacher.apply(*v, case.batch).logits, case.variables)
    gradient = flops(alone.step(), alone.state(), None, case.batch)
    assert forward < whole <= 1.05 * (forward + gradient)


def test_the_teacher_is_an_argument_and_not_part_of_the_program(setup):
    case = setup()
    lowered = jax.jit(case.step()).lower(case.state(), case.variables, case.batch)
    kernel = case.variables.params["dense1"]["kernel"]
    assert kernel.size == 192
    assert len(lowered.as_text()) < 60_000
    assert 'dense<"0x' not in lowered.as_text()


def test_features_that_no_term_reads_cost_nothing(setup):
    case = setup()
    plain = flops(case.step(), case.state(), case.variables, case.batch)
    greedy = case.objective._replace(
        student_features=("dense1", "head"), teacher_features=("dense1",)
    )
    step = train.make_train_step(case.student, case.teacher, greedy, case.tx)
    assert flops(step, case.state(), case.variables, case.batch) == plain
