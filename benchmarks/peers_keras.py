"""The contender of `peers.py` that is Keras: its Distiller on the JAX backend."""

import importlib
import os
from typing import Any

import numpy as np
from peers_models import EPSILON, HEADS, RATE, SOFT, TEMPERATURE, network

os.environ["KERAS_BACKEND"] = "jax"
keras: Any = importlib.import_module("keras")
layers, ops = keras.layers, keras.ops


class Layers:
    """Layers of Keras's functional models."""

    relu = staticmethod(ops.relu)

    @staticmethod
    def gelu(x):
        return ops.gelu(x, approximate=True)

    @staticmethod
    def dense(name, width, x):
        return layers.Dense(width, name=name)(x)

    @staticmethod
    def conv(name, width, x):
        return layers.Conv2D(width, 3, padding="same", name=name)(x)

    @staticmethod
    def norm(name, x):
        return layers.LayerNormalization(epsilon=EPSILON, name=name)(x)

    @staticmethod
    def pool(x):
        return layers.MaxPooling2D()(x)

    @staticmethod
    def mean(x):
        return ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))

    @staticmethod
    def attention(qkv):
        _, length, width = qkv.shape
        size = width // 3 // HEADS
        qkv = ops.reshape(qkv, (-1, length, 3, HEADS, size))
        q, k, v = (ops.swapaxes(qkv[:, :, i], 1, 2) for i in range(3))
        scores = ops.matmul(q, ops.swapaxes(k, 2, 3)) / size**0.5
        mixed = ops.swapaxes(ops.matmul(ops.softmax(scores), v), 1, 2)
        return ops.reshape(mixed, (-1, length, width // 3))


def _model(pair, widths, weights):
    inputs = keras.Input(pair.shape)
    logits, _ = network(Layers, pair.kind, widths, pair.feature, inputs)
    model = keras.Model(inputs, logits)
    for name, values in weights.items():
        model.get_layer(name).set_weights([np.asarray(x) for x in values])
    return model


def build(problem):
    """The Distiller, compiled and fitted as its guide does.

    Its Adam adds epsilon before the correction of the second moment: the constant makes
    the first update that of optax and torch.
    """
    pair, images, labels = problem.pair, problem.image, problem.label
    teacher = _model(pair, pair.teacher, problem.teacher)
    student = _model(pair, pair.student, problem.student)
    # begin
    if problem.method == "kd":
        soft = keras.distillation.LogitsDistillation(
            temperature=TEMPERATURE,
            loss=keras.losses.KLDivergence(),  # the default takes logits as they are
        )
    else:
        soft = keras.distillation.FeatureDistillation(
            loss="mse", teacher_layer_name="feature", student_layer_name="feature"
        )
    distiller = keras.distillation.Distiller(
        teacher, student, soft, student_loss_weight=1 - SOFT
    )
    distiller.compile(
        optimizer=keras.optimizers.Adam(RATE, epsilon=1e-8 * (1 - 0.999) ** 0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def train(start, stop):
        rows = slice(start * pair.batch, stop * pair.batch)
        history = distiller.fit(
            images[rows],
            labels[rows],
            batch_size=pair.batch,
            shuffle=False,
            verbose=0,
        )
        return history.history["loss"][-1]

    # end
    return train
