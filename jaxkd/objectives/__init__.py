"""Objectives: pairs of pure functions, as in optax, which a train step minimises."""

from jaxkd.objectives._base import Objective, Term, Terms, View, Weight
from jaxkd.objectives._bridge import on_features, on_logits
from jaxkd.objectives._combine import combine
from jaxkd.objectives._logits import hard_label, logit_mse, soft_target
from jaxkd.objectives._modules import Adapter, linear_adapter
from jaxkd.objectives._reduce import mean_over_batch
from jaxkd.objectives._teachers import confidence_weighted, ensemble, follow
from jaxkd.objectives._temperature import curriculum_temperature

__all__ = [
    "Adapter",
    "Objective",
    "Term",
    "Terms",
    "View",
    "Weight",
    "combine",
    "confidence_weighted",
    "curriculum_temperature",
    "ensemble",
    "follow",
    "hard_label",
    "linear_adapter",
    "logit_mse",
    "mean_over_batch",
    "on_features",
    "on_logits",
    "soft_target",
]
