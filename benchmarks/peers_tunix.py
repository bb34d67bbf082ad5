"""The contender of `peers.py` that is Tunix: its trainer, with the logit strategy."""

import importlib
from typing import Any

import jax
import optax
from flax import nnx
from jax import numpy as jnp
from peers_jax import Operations
from peers_models import CLASSES, EPSILON, RATE, SOFT, TEMPERATURE, network

distillation: Any = importlib.import_module("tunix.distillation.distillation_trainer")
strategies: Any = importlib.import_module("tunix.distillation.strategies.logit")
hooks: Any = importlib.import_module("tunix.sft.hooks")


class Network(nnx.Module, Operations):
    """Layers of Flax NNX, and the network of them."""

    def __init__(self, pair, widths, weights):
        self.kind, self.widths, self.feature = pair.kind, widths, pair.feature
        rngs = nnx.Rngs(0)
        made = {}
        for name, (a, b) in weights.items():
            if a.ndim == 1:
                made[name] = nnx.LayerNorm(
                    len(a), epsilon=EPSILON, use_fast_variance=False, rngs=rngs
                )
                made[name].scale.set_value(jnp.asarray(a))
            else:
                inputs, outputs = a.shape[-2:]
                made[name] = (
                    nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
                    if a.ndim == 4
                    else nnx.Linear(inputs, outputs, rngs=rngs)
                )
                made[name].kernel.set_value(jnp.asarray(a))
            made[name].bias.set_value(jnp.asarray(b))
        self.layers = nnx.Dict(made)

    def dense(self, name, width, x):
        return self.layers[name](x)

    conv = dense

    def norm(self, name, x):
        return self.layers[name](x)

    def __call__(self, x):
        return network(self, self.kind, self.widths, self.feature, x)[0]


class _LastLoss(hooks.TrainingHooks):
    """Keeps the loss that the trainer reported last."""

    loss = float("nan")

    def on_train_step_end(self, train_ctx, train_step, train_loss, **kwargs):
        self.loss = float(train_loss)

    def on_train_start(self, train_ctx): ...
    def on_train_end(self, train_ctx): ...
    def on_train_step_start(self, train_ctx): ...
    def on_eval_step_start(self, train_ctx): ...
    def on_eval_step_end(self, train_ctx, eval_loss): ...


def build(problem):
    """The trainer's own loop; its two inputs carry image and label."""
    pair, batch = problem.pair, problem.batch
    teacher = Network(pair, pair.teacher, problem.teacher)
    student = Network(pair, pair.student, problem.student)
    last = _LastLoss()
    # begin
    strategy = strategies.LogitStrategy(
        student_forward_fn=lambda model, image, label: model(image),
        teacher_forward_fn=lambda model, image, label: model(image),
        labels_fn=lambda image, label: jax.nn.one_hot(label, CLASSES),
        temperature=TEMPERATURE,
        alpha=SOFT,
    )
    config = distillation.TrainingConfig(eval_every_n_steps=10**9)
    trainer = distillation.DistillationTrainer(
        student, teacher, strategy, optax.adam(RATE), config
    )
    trainer.with_gen_model_input_fn(
        lambda x: {"image": x.input_tokens, "label": x.input_mask}
    )
    trainer.is_managed_externally = True  # or it skips what it has counted before

    def as_input(batch):
        return distillation.TrainingInput(
            input_tokens=batch["image"], input_mask=batch["label"]
        )

    def train(start, stop):
        trainer.train(as_input(batch(i)) for i in range(start, stop))
        trainer.close()  # reports the last loss

    # end
    trainer.with_training_hooks(last)

    def reported(start, stop):
        train(start, stop)
        return last.loss

    return reported
