"""Objectives: pairs of pure functions, as in optax, which a train step minimises."""

from jaxkd.objectives._base import Objective, Term, Terms, View, Weight
from jaxkd.objectives._combine import combine
from jaxkd.objectives._logits import (
    hard_label,
    logit_mse,
    mean_over_batch,
    soft_target,
)
from jaxkd.objectives._temperature import curriculum_temperature

__all__ = [
    "Objective",
    "Term",
    "Terms",
    "View",
    "Weight",
    "combine",
    "curriculum_temperature",
    "hard_label",
    "logit_mse",
    "mean_over_batch",
    "soft_target",
]
