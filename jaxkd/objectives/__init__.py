"""Objectives: pairs of pure functions, as in optax, which a train step minimises."""

from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._combine import Weight, combine
from jaxkd.objectives._logits import (
    hard_label,
    logit_mse,
    mean_over_batch,
    soft_target,
)

__all__ = [
    "Objective",
    "Term",
    "Terms",
    "View",
    "Weight",
    "combine",
    "hard_label",
    "logit_mse",
    "mean_over_batch",
    "soft_target",
]
