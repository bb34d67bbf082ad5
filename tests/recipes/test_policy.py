import dataclasses
import sys

import jax
import numpy as np
import pytest

from jaxkd import models, recipes
from jaxkd.recipes._systems import policy as system

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra policy")
SMALL = recipes.PolicyConfig(
    seeds=1, teacher_steps=12, steps=40, save_every=20, teacher=(16,), states=64
)


@pytest.fixture(scope="module")
def experiment():
    return recipes.policy(SMALL)


def test_reinforcement_makes_a_policy_that_balances_the_pole(experiment):
    trained = experiment.measure(
        experiment.teacher, experiment.variables, experiment.splits.test
    )
    batch = {"state": experiment.splits.test["state"]}
    drawn = experiment.teacher.init(jax.random.key(0), batch)
    before = experiment.measure(experiment.teacher, drawn, experiment.splits.test)
    assert trained["agreement"] == 1.0
    assert trained["accuracy"] > 0.2 > before["accuracy"]


def test_the_same_seed_makes_the_same_policy(experiment):
    environments = gymnasium.make_vec("CartPole-v1", num_envs=32)
    again = recipes.train_policy(
        experiment.teacher, environments, seed=0, rounds=12, learning_rate=1e-3
    )
    jax.tree.map(np.testing.assert_array_equal, again, experiment.variables)


def test_the_return_is_that_of_the_environment(experiment):
    """Pushing left always ends an episode as early as in the environment itself."""
    left = models.from_function(lambda params, b: b["state"][:, :2] * 0 + params)
    variables = models.Variables(np.array([1.0, 0.0], np.float32))
    found = experiment.measure(left, variables, experiment.splits.test)
    lengths = []
    for seed in range(20):
        environment, over = gymnasium.make("CartPole-v1"), False
        environment.reset(seed=seed)
        while not over:
            _, _, over, _, _ = environment.step(0)
            lengths.append(seed)
    mean = len(lengths) / 20
    assert 500 * found["accuracy"] == pytest.approx(mean, abs=0.5)
    assert found["share of episodes that last to the end"] == 0.0


def test_students_follow_states_of_the_teachers_episodes(experiment, tmp_path):
    train = experiment.splits.train
    assert train["state"].shape == (64, 4)
    logits = experiment.teacher.apply(*experiment.variables, dict(train)).logits
    assert (logits.argmax(axis=1) == train["label"]).all()
    starts = {tuple(row) for row in train["state"].tolist()}
    assert not starts & {tuple(r) for r in experiment.splits.test["state"].tolist()}
    result = recipes.RECIPES["policy"].run(SMALL, tmp_path / "run", quiet=True)
    names = ["teacher", "student, cloned", "student, distilled"]
    assert [row.name for row in result.rows] == names
    assert result.rows[2].agreement[0] > 0.5
    text = (tmp_path / "run" / "report.md").read_text()
    assert "share of the greatest return %" in text


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    system._teacher.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"-e '\.\[policy\]'"):
        recipes.policy(SMALL)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"states": 0}, "`states` must be at least 1"),
        ({"teacher_learning_rate": 0.0}, "`teacher_learning_rate` must be positive"),
        ({"student": (0,)}, "positive widths"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **changes)
