"""Losses: pure functions from arrays to one value per example."""

from jaxkd.losses._logits import cross_entropy, logit_mse, soft_target_kl
from jaxkd.losses._reduce import Mean, masked_mean

__all__ = ["Mean", "cross_entropy", "logit_mse", "masked_mean", "soft_target_kl"]
