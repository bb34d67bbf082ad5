"""Policy distillation: a policy that balances a pole teaches a tiny one."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from jaxkd import data, models, objectives
from jaxkd._extras import require
from jaxkd.models import Model, Variables
from jaxkd.recipes._experiment.value import Experiment, Splits, Training, Way, kd
from jaxkd.recipes._settings import check_counts
from jaxkd.recipes._systems.ppo import train_policy

_NAME, _LONGEST = "CartPole-v1", 500
_EPISODES, _PLAYED = 100, 32
_VALIDATION, _TEST = 10_000, 20_000  # the seeds of their episodes


@dataclasses.dataclass(frozen=True)
class PolicyConfig(Training):
    """Settings of :func:`policy`.

    Attributes:
        states: how many states, of the teacher's own episodes, the students learn from.
        teacher: widths of the teacher's hidden layers.
        student: widths of the students'.
        teacher_steps: rounds of proximal policy optimization, of 4,096 steps of the
            environment each.
        teacher_learning_rate: of the teacher.
        learning_rate: of the students.
        steps: updates of each student.
        temperature: of the soft targets.
        soft_weight: weight of the soft targets; the teacher's actions have 1 minus it.
    """

    states: int = 50
    teacher: tuple[int, ...] = (64, 64)
    student: tuple[int, ...] = (4,)
    teacher_steps: int = 50
    teacher_learning_rate: float = 1e-3
    learning_rate: float = 1e-2
    temperature: float = 1.0
    soft_weight: float = 1.0
    save_every: int = 250

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "states")
        if not self.teacher_learning_rate:
            raise ValueError("`teacher_learning_rate` must be positive, got 0.")
        if min(*self.teacher, *self.student, 1) < 1:
            raise ValueError("`teacher` and `student` must be positive widths.")


def policy(config: PolicyConfig) -> Experiment:
    """CartPole: a policy trained by reinforcement; students that follow it.

    The teacher is trained here, once, from the first seed, and plays for the states;
    the students never meet the environment. One learns the teacher's actions, the other
    its distribution over them. What counts is the return of episodes of their own.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        ModuleNotFoundError: if the extra ``policy`` is not installed.

    References:
        Rusu et al., `Policy Distillation <https://arxiv.org/abs/1511.06295>`_, 2015,
        section 3.
    """
    teacher, student = (_network(w) for w in (config.teacher, config.student))
    variables = _teacher(
        config.teacher, config.seed, config.teacher_steps, config.teacher_learning_rate
    )
    parts = (
        _collect(teacher, variables, number, seed)
        for number, seed in (
            (config.states, config.seed),
            (1000, _VALIDATION),
            (2000, _TEST),
        )
    )
    about = (
        f"CartPole-v1: the share of the greatest return, {_LONGEST}, is the mean of "
        f"{_EPISODES} episodes of the model's own, of its likeliest actions; the other "
        "examples are states of the teacher's episodes."
    )
    ways = {
        "student, cloned": Way(student, objectives.hard_label()),
        "student, distilled": Way(student, kd(config), True, beside="student, cloned"),
    }
    return Experiment(
        Splits(*parts, classes=("left", "right"), about=about),
        ("state",),
        teacher,
        ways,
        variables=variables,
        measure=_measure,
        quality="share of the greatest return",
    )


def _network(widths: tuple[int, ...]) -> Model:
    mlp = models.MLP(hidden=widths, classes=2)
    return models.from_linen(mlp, inputs=("state",))


def _environments(number: int) -> Any:
    gymnasium = require("gymnasium", "policy", "playing CartPole")
    return gymnasium.make_vec(_NAME, num_envs=number)


@functools.cache
def _teacher(
    widths: tuple[int, ...], seed: int, rounds: int, learning_rate: float
) -> Variables:
    """Trained once a process, and to the same bits in the next."""
    environments = _environments(_PLAYED)
    found = train_policy(
        _network(widths),
        environments,
        seed=seed,
        rounds=rounds,
        learning_rate=learning_rate,
    )
    environments.close()
    return found


@functools.cache
def _logits(model: Model) -> Any:
    return jax.jit(lambda v, batch: model.apply(v.params, v.state, batch).logits)


def _play(
    model: Model, variables: Variables, number: int, *, seed: int, draws: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Episodes side by side: states, likeliest actions, and which steps count.

    Args:
        model: the policy.
        variables: its variables.
        number: how many episodes.
        seed: of where they begin, and of the actions.
        draws: whether actions are drawn; by default they are the likeliest.

    Returns:
        Arrays of shape ``[500, number, ...]``; steps after an episode's end do not
        count.
    """
    environments, rng = _environments(number), np.random.default_rng(seed)
    state, _ = environments.reset(seed=seed)
    alive, rows = np.ones(number, bool), []
    for _ in range(_LONGEST):
        logits = np.asarray(_logits(model)(variables, {"state": state}))
        label = logits.argmax(axis=1)
        noise = rng.gumbel(size=logits.shape) if draws else 0.0
        rows.append((state, label, alive))
        state, _, ended, cut, _ = environments.step((logits + noise).argmax(axis=1))
        alive = alive & ~(ended | cut)
    environments.close()
    states, labels, counts = map(np.stack, zip(*rows, strict=True))
    return states, labels, counts


def _collect(
    model: Model, variables: Variables, number: int, seed: int
) -> dict[str, np.ndarray]:
    """States at random of episodes in which the teacher draws its actions."""
    states, labels, counts = _play(model, variables, _PLAYED, seed=seed, draws=True)
    found = np.flatnonzero(counts)
    chosen = np.random.default_rng(seed).permutation(found)[:number]
    return {
        "state": states.reshape(-1, states.shape[-1])[chosen],
        "label": labels.reshape(-1)[chosen].astype(np.int32),
        "seed": np.full(len(chosen), seed),
    }


def _measure(
    model: Model, variables: Variables, arrays: data.Arrays
) -> dict[str, float]:
    """Return of episodes that begin at the part's seed, and agreement on its states."""
    seed = int(arrays["seed"][0]) + 1  # other episodes than those of the states
    counts = _play(model, variables, _EPISODES, seed=seed)[2]
    lengths = counts.sum(axis=0)  # each step is worth 1
    logits = _logits(model)(variables, {"state": arrays["state"]})
    same = np.asarray(logits).argmax(axis=1) == arrays["label"]
    return {
        "accuracy": float(lengths.mean() / _LONGEST),
        "agreement": float(same.mean()),
        "share of episodes that last to the end": float((lengths == _LONGEST).mean()),
    }
