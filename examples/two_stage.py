"""FitNets in two stages: hints first, then distillation. Two calls of `fit`.

    pip install -e ".[demo]" && python examples/two_stage.py

The first stage trains the student up to its second block to make the teacher's
features, without labels; the second goes on from there with labels and soft targets.
Attention boundaries, FSP and factor transfer are trained in the same way.
"""

import argparse

import jax
import optax

from jaxkd import data, models, objectives, recipes, train


def run(student, teacher, objective, batches, *, steps, start=None, followed=None):
    """One stage: the student's variables after it."""
    parts = (student, teacher, objective, optax.adam(3e-3))
    state = train.init_state(jax.random.key(0), *parts, batches.peek(), variables=start)
    step = train.jit_step(train.make_train_step(*parts))
    *_, (state, metrics) = train.fit(step, state, followed, batches, steps=steps)
    print(f"{objective!r}: loss {float(metrics['loss']):.3f}")
    return state.student


def main(steps=600):
    """Trains teacher and students, and prints their accuracy."""
    digits = recipes.load_digits()
    batches = data.TrainBatches(digits.train, batch_size=64, seed=0)
    test = data.eval_batches(digits.test, batch_size=250)
    teacher, student = (
        models.from_linen(models.CNN(widths=widths, classes=10))
        for widths in ((32, 64, 64), (4, 8, 8))
    )
    hard = objectives.hard_label()
    distil = objectives.combine(
        soft=(0.9, objectives.soft_target(temperature=4.0)), hard=(0.1, hard)
    )
    hint = objectives.hint(student="block2", teacher="block2")

    variables = run(teacher, None, hard, batches, steps=steps)
    common = {"steps": steps, "followed": variables}
    guided = run(student, teacher, hint, batches, **common)
    trained = {
        "teacher": (teacher, variables),
        "student alone": (student, run(student, None, hard, batches, steps=steps)),
        "distilled": (student, run(student, teacher, distil, batches, **common)),
        "hints, then distilled": (
            student,
            run(student, teacher, distil, batches, start=guided, **common),
        ),
    }
    for name, (model, found) in trained.items():
        step = jax.jit(train.make_eval_step(model))
        accuracy = train.evaluate(step, found, test)["accuracy"]
        print(f"{name:>22}: {100 * accuracy:.1f} % of {len(digits.test['label'])}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    main(parser.parse_args().steps)
