"""Data: dict batches with `index` and `mask`, from arrays and from TFDS."""

from jaxkd.data import augment
from jaxkd.data._arrays import (
    Arrays,
    EvalBatches,
    TrainBatches,
    Transform,
    eval_batches,
)
from jaxkd.data._tfds import from_tfds, tfds_arrays

__all__ = [
    "Arrays",
    "EvalBatches",
    "TrainBatches",
    "Transform",
    "augment",
    "eval_batches",
    "from_tfds",
    "tfds_arrays",
]
