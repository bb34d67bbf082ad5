import jax
import numpy as np
import optax
import pytest

from jaxkd import models, objectives, train


def make_batch(n=16, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.normal(size=(n, 6)).astype(np.float32),
        "label": rng.integers(0, 3, n).astype(np.int32),
    }


class Setup:
    """A small distillation, ready to run."""

    def __init__(self, tx=None, objective=None, student=None, teacher="mlp"):
        self.student = student or models.from_linen(models.MLP(hidden=(8,), classes=3))
        mlp = models.from_linen(models.MLP(hidden=(32,), classes=3))
        self.teacher = mlp if teacher == "mlp" else teacher
        self.objective = objective or objectives.combine(
            soft=(0.9, objectives.soft_target(temperature=4.0)),
            hard=(0.1, objectives.hard_label()),
        )
        self.tx = tx or optax.sgd(0.1)
        self.batch = make_batch()
        self.variables = None  # another teacher may need another batch
        if teacher == "mlp":
            self.variables = mlp.init(jax.random.key(7), self.batch)

    def state(self, **kwargs):
        return train.init_state(
            jax.random.key(0),
            self.student,
            self.teacher,
            self.objective,
            self.tx,
            self.batch,
            **kwargs,
        )

    def step(self):
        return train.make_train_step(
            self.student, self.teacher, self.objective, self.tx
        )


@pytest.fixture
def setup():
    return Setup
