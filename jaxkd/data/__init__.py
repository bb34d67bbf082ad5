"""Data: dict batches with `index` and `mask`, from arrays and from TFDS."""

from jaxkd.data._arrays import (
    Arrays,
    EvalBatches,
    TrainBatches,
    Transform,
    eval_batches,
)

__all__ = ["Arrays", "EvalBatches", "TrainBatches", "Transform", "eval_batches"]
