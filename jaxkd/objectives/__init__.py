"""Objectives: pairs of pure functions, as in optax, which a train step minimises."""

from jaxkd.objectives._base import Objective, Term, Terms, View, Weight
from jaxkd.objectives._bridge import on_features, on_logits
from jaxkd.objectives._combine import combine
from jaxkd.objectives._generated import masked_generation, masked_tokens, review
from jaxkd.objectives._heads import (
    Head,
    exits,
    representation_regression,
    reused_head,
    reused_head_model,
)
from jaxkd.objectives._logits import hard_label, logit_mse, soft_target
from jaxkd.objectives._memory import (
    contrastive_representation,
    on_embeddings,
    on_queue,
)
from jaxkd.objectives._modules import Adapter, linear_adapter
from jaxkd.objectives._paraphrased import (
    factor_transfer,
    paraphrase,
    uncertainty_weighted,
)
from jaxkd.objectives._projected import (
    hint,
    log_power_distance,
    relational_distance,
    variational_information,
)
from jaxkd.objectives._reduce import mean_over_batch
from jaxkd.objectives._stages import activation_boundary, overhaul
from jaxkd.objectives._teachers import confidence_weighted, ensemble, follow
from jaxkd.objectives._temperature import curriculum_temperature

__all__ = [
    "Adapter",
    "Head",
    "Objective",
    "Term",
    "Terms",
    "View",
    "Weight",
    "activation_boundary",
    "combine",
    "confidence_weighted",
    "contrastive_representation",
    "curriculum_temperature",
    "ensemble",
    "exits",
    "factor_transfer",
    "follow",
    "hard_label",
    "hint",
    "linear_adapter",
    "log_power_distance",
    "logit_mse",
    "masked_generation",
    "masked_tokens",
    "mean_over_batch",
    "on_embeddings",
    "on_features",
    "on_logits",
    "on_queue",
    "overhaul",
    "paraphrase",
    "relational_distance",
    "representation_regression",
    "reused_head",
    "reused_head_model",
    "review",
    "soft_target",
    "uncertainty_weighted",
    "variational_information",
]
