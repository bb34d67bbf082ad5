"""Models of Flax NNX hold typed keys: random streams, which no stage may lose."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from jaxkd import deploy, models, recipes, trees

pytest.importorskip("safetensors", reason="the extra 'deploy' is not installed")
pytestmark = pytest.mark.usefixtures("one_device")


class Net(nnx.Module):
    def __init__(self, rngs, width=16):
        self.first = nnx.Linear(8, width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.first(x))))


def task():
    x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
    arrays = {"x": x, "label": x[:, :3].argmax(1).astype("int32")}
    teacher = models.from_nnx(Net(nnx.Rngs(0)), inputs="x")
    variables = teacher.init(jax.random.key(0), arrays)
    student = models.from_nnx(Net(nnx.Rngs(1), 12), inputs="x")
    return recipes.Task(
        teacher, variables, arrays, arrays, student=student, inputs=("x",)
    )


def key_of(variables):
    return trees.flatten(variables.state)["drop/rngs/key"]


def test_a_student_with_dropout_goes_through_all_stages(tmp_path):
    own = task()
    config = recipes.CompressConfig(
        (
            recipes.Distil(steps=4),
            recipes.Shrink(keep=0.5, steps=0, round_to=1),
            recipes.Quantize(),
            recipes.Export(("stablehlo",)),
        ),
        save_every=2,
    )
    result = recipes.compress(config, tmp_path / "run", own, quiet=True)
    teacher, distilled, shrunk, *_ = result.rows
    assert teacher.parameters > distilled.parameters > shrunk.parameters
    assert jnp.issubdtype(key_of(result.variables).dtype, jax.dtypes.prng_key)
    again = recipes.compress(config, tmp_path / "run", own, quiet=True, resume=True)
    assert trees.digest(again.variables) == trees.digest(result.variables)
    assert jax.tree.structure(again.variables) == jax.tree.structure(result.variables)


def test_weights_come_back_without_the_keys(tmp_path):
    own = task()
    inputs = {"x": own.test["x"][:9]}
    for name, export in {"a": deploy.export, "b": deploy.export_safetensors}.items():
        export(own.teacher, own.variables, inputs, tmp_path / name)
        assert not any("key" in path for path in deploy.load_weights(tmp_path / name))
        other = models.from_nnx(Net(nnx.Rngs(7)), inputs="x")
        like = other.init(jax.random.key(0), inputs)
        found = deploy.load_weights(tmp_path / name, like=like)
        np.testing.assert_array_equal(
            other.apply(*found, inputs).logits,
            own.teacher.apply(*own.variables, inputs).logits,
        )
        assert key_of(found) == key_of(like)
